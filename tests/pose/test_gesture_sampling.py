"""Sampling: schedulers agree where they must, the stabilizer keeps variance, held frames stay, guidance is linear."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

from pose.models.diff_gesture import DiffGesture
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.sampling import SCHEDULERS, Held, Stabilizer, ancestral_step, denoise, guided, scheduler_for

MODELS = {
    "cosine": DiffuseStyleGesture(
        4, 3, 2, 6, 2, width=32, speech_width=8, style_width=8, layers=1, heads=2, local_heads=2
    ),
    "linear": DiffGesture(4, 2, 6, 2, width=16, speech_width=4, blocks=1, heads=2),
}  # fmt: skip
MEAN, DEVIATION = 0.7, 0.5


def generators(count=1, seed=0):
    return [torch.Generator().manual_seed(seed + k) for k in range(count)]


def gaussian(scheduler):
    """The exact clean sample where data is normal with MEAN and DEVIATION: posterior mean given the noised value."""
    alphas = scheduler.alphas_cumprod.double()

    def predict(sample, timestep):
        alpha = alphas[timestep][:, None, None].to(sample)
        variance = alpha * DEVIATION**2 + 1 - alpha
        return MEAN + alpha.sqrt() * DEVIATION**2 / variance * (sample - alpha.sqrt() * MEAN)

    return predict


@pytest.mark.parametrize("schedule", MODELS)
class TestSchedulers:
    def test_a_certain_model_is_believed(self, schedule):
        wanted = torch.randn(2, 6, 4)
        for name in SCHEDULERS:
            scheduler = scheduler_for(name, MODELS[schedule])
            result = denoise(lambda x, t: wanted, torch.randn(2, 6, 4), scheduler, generators(2), 8)
            torch.testing.assert_close(result, wanted, atol=1e-4, rtol=0)

    def test_deterministic_ones_agree_in_the_limit(self, schedule):
        """DDIM, DPM-Solver++ and UniPC solve one equation: many steps bring them together, and to its solution."""
        noise = torch.randn(1, 50, 4, generator=torch.Generator().manual_seed(1)).double()
        results = {}
        for name in ("ddim", "dpm++", "unipc"):
            scheduler = scheduler_for(name, MODELS[schedule])
            results[name] = denoise(gaussian(scheduler), noise, scheduler, generators(), 250)
        for name, result in results.items():
            torch.testing.assert_close(
                result, results["ddim"], atol=0.03, rtol=0.02, msg=lambda m, n=name: f"{n}: {m}"
            )
        torch.testing.assert_close(results["dpm++"], MEAN + DEVIATION * noise, atol=0.05, rtol=0.05)

    def test_ddpm_draws_from_the_data(self, schedule):
        scheduler = scheduler_for("ddpm", MODELS[schedule])
        for stabilizer in (None, Stabilizer()):
            noise = torch.randn(1, 200, 4, generator=torch.Generator().manual_seed(2))
            result = denoise(gaussian(scheduler), noise, scheduler, generators(), 100, stabilizer=stabilizer)
            assert float(result.mean()) == pytest.approx(MEAN, abs=0.08)
            assert float(result.std()) == pytest.approx(DEVIATION, abs=0.06)


def test_any_diffusers_scheduler_serves():
    """Euler counts noise levels its own way, with scaled inputs and timesteps that are not whole."""
    scheduler = EulerDiscreteScheduler(beta_schedule="linear", prediction_type="epsilon")
    noise = torch.randn(1, 50, 4, generator=torch.Generator().manual_seed(1))
    result = denoise(gaussian(scheduler), noise, scheduler, generators(), 200)
    torch.testing.assert_close(result, MEAN + DEVIATION * noise, atol=0.05, rtol=0.05)


def test_unknown_scheduler_is_named():
    with pytest.raises(ValueError, match="'plms'; known are ddpm, ddim"):
        scheduler_for("plms", MODELS["linear"])


class TestStabilizer:
    @pytest.mark.parametrize("form", ["smooth", "hard"])
    def test_noise_keeps_unit_variance(self, form):
        """Over frames and draws together, at every t; the frames agree as far as σ² says."""
        stabilizer, like = Stabilizer(form), torch.zeros(1, 12, 3000)
        for timestep in (0, 5, 12, 23, 24, 300):
            noise = stabilizer.noise(timestep, like, generators(seed=timestep))
            part = stabilizer.shared(timestep)
            assert float(noise.var(-1).mean()) == pytest.approx(1.0, abs=0.05)
            agreement = float((noise[0, 0] * noise[0, 7]).mean())
            assert agreement == pytest.approx(part**2, abs=0.06)

    def test_where_it_begins(self):
        smooth, hard = Stabilizer("smooth"), Stabilizer("hard")
        assert smooth.shared(24) == hard.shared(24) == 0.0  # t = 25 = t0
        assert hard.shared(23) == 1.0 and smooth.shared(23) == pytest.approx(1 / 625)
        assert smooth.shared(0) == pytest.approx((24 / 25) ** 2)

    def test_less_jitter_at_equal_spread(self):
        """The steps' own noise makes neighbouring frames differ; shared noise does not."""
        scheduler = scheduler_for("ddpm", MODELS["linear"])
        jitter, spread = {}, {}
        for form in (None, "smooth", "hard"):
            stabilizer = form and Stabilizer(form, threshold=100)
            # Beside the shared start only the steps' noise can part the frames.
            start = torch.randn(16, 1, 4, generator=torch.Generator().manual_seed(3)).expand(-1, 20, -1)
            result = denoise(gaussian(scheduler), start, scheduler, generators(16), 250, stabilizer=stabilizer or None)
            jitter[form], spread[form] = float(result.diff(dim=1).std()), float(result.std())
        assert jitter["hard"] < jitter["smooth"] < jitter[None]
        assert all(value == pytest.approx(DEVIATION, abs=0.12) for value in spread.values())

    def test_ancestral_step_is_ddpms(self):
        """With the noise that diffusers would draw, our step is theirs."""
        scheduler = DDPMScheduler(500, beta_schedule="linear", prediction_type="sample", clip_sample=False)
        for steps in (500, 20):
            scheduler.set_timesteps(steps)
            for t in (scheduler.timesteps[0], scheduler.timesteps[-2]):
                clean, sample = torch.randn(2, 1, 6, 4).unbind(0)
                theirs = scheduler.step(clean, t, sample, generator=torch.Generator().manual_seed(9)).prev_sample
                noise = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(9))
                ours = ancestral_step(scheduler, clean, int(t), sample, noise)
                torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)  # theirs: 1 - ᾱ in float32

    def test_needs_noise_in_the_steps(self):
        scheduler, noise = scheduler_for("ddim", MODELS["linear"]), torch.randn(1, 6, 4)
        with pytest.raises(ValueError, match="DDIMScheduler adds none"):
            denoise(gaussian(scheduler), noise, scheduler, generators(), 5, stabilizer=Stabilizer())
        result = denoise(gaussian(scheduler), noise, scheduler, generators(), 5, eta=1.0, stabilizer=Stabilizer())
        assert torch.isfinite(result).all()

    def test_wrong_settings_are_named(self):
        with pytest.raises(ValueError, match="smooth, hard, got 'soft'"):
            Stabilizer("soft")
        with pytest.raises(ValueError, match="threshold"):
            Stabilizer(threshold=0)


def test_full_ddim_with_noise_is_ddpm():
    """eta = 1 over all steps: the same distribution step by step, so the same variance of the noise."""
    ddim = DDIMScheduler(50, beta_schedule="linear", prediction_type="sample", clip_sample=False)
    ddpm = DDPMScheduler(50, beta_schedule="linear", prediction_type="sample", clip_sample=False)
    ddim.set_timesteps(50), ddpm.set_timesteps(50)
    clean, sample, noise = torch.randn(3, 1, 6, 4).unbind(0)
    theirs = ddim.step(clean, 20, sample, eta=1.0, variance_noise=noise).prev_sample
    torch.testing.assert_close(theirs, ancestral_step(ddpm, clean, 20, sample, noise), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_held_frames_are_held(name):
    scheduler = scheduler_for(name, MODELS["linear"])
    values, weight = torch.randn(1, 6, 4), torch.zeros(1, 6, 1)
    weight[:, :2] = 1
    result = denoise(gaussian(scheduler), torch.randn(1, 6, 4), scheduler, generators(), 10, held=Held(values, weight))
    torch.testing.assert_close(result[:, :2], values[:, :2], atol=1e-5, rtol=0)
    assert not torch.allclose(result[:, 2:], values[:, 2:], atol=0.1)


class TestGuidance:
    @pytest.mark.parametrize("schedule", MODELS)
    def test_one_is_plain_and_the_rest_is_linear(self, schedule):
        model = MODELS[schedule].eval()
        speech = torch.randn(1, 6400) if model.speech_input == "waveform" else torch.randn(1, 6, 3)
        condition = model.condition(speech=speech, seed=torch.randn(1, 2, 4), style=torch.tensor([[1.0, 0.0]]))
        other = model.condition(speech=speech, seed=torch.randn(1, 2, 4), style=torch.tensor([[0.0, 1.0]]))
        scheduler = scheduler_for("ddim", model)
        sample, t = torch.randn(1, 6, 4), torch.tensor([30])

        def clean(guidance, main=condition, away=other):
            return guided(model, main, away, guidance, scheduler)(sample, t)

        torch.testing.assert_close(clean(1.0), clean(3.0, away=None))
        torch.testing.assert_close(clean(0.0), clean(1.0, main=other), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(clean(3.0), 3 * clean(1.0) - 2 * clean(0.0), atol=1e-4, rtol=1e-3)

    def test_noise_and_clean_sample_are_one(self):
        """A model of the noise is read right: with the true noise, the clean sample comes out."""
        model = MODELS["linear"].eval()
        scheduler = scheduler_for("ddim", model)
        clean, noise, t = torch.randn(1, 6, 4), torch.randn(1, 6, 4), torch.tensor([300])
        noised = scheduler.add_noise(clean, noise, t)
        predict = guided(_KnowsNoise(noise), model.null_condition(speech=torch.zeros(1, 1)), None, 1.0, scheduler)
        torch.testing.assert_close(predict(noised, t), clean, atol=1e-4, rtol=1e-3)
        held = guided(_KnowsNoise(noise), model.null_condition(speech=torch.zeros(1, 1)), None, 1.0, scheduler, 0.5)
        assert float(held(noised, t).abs().max()) <= 0.5


class _KnowsNoise(DiffGesture):
    """A denoiser that was told the noise."""

    def __init__(self, noise):
        super().__init__(4, 0, 6, 2, width=16, blocks=1, heads=2)
        self.noise = noise

    def denoise(self, sample, timestep, condition):
        return self.noise
