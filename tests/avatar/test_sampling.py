"""Guidance sums its passes as published and runs only those that count; schedules start where `strength` says."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from avatar.sampling import Guidance, check_finite, frame_noise, start_latents, start_schedule

CPU = torch.device("cpu")


def guided(guidance: Guidance, base: float, reference: float, both: float, progress: float = 0.0) -> float:
    values = {(False, False): base, (True, False): reference, (True, True): both}
    return sum(one.weight * values[one.reference, one.audio] for one in guidance.passes(progress, has_audio=True))


def test_nested_guidance_is_the_published_sum():
    assert guided(Guidance(2.5, 4.5), 1.0, 2.0, 5.0) == pytest.approx(1 + 2.5 * (2 - 1) + 4.5 * (5 - 2))


@pytest.mark.parametrize(
    ("scales", "passes"), [((1, 1), 1), ((2.5, 4.5), 3), ((1, 4.5), 2), ((2.5, 2.5), 2), ((2.5, 1), 3), ((0, 0), 1)]
)
def test_only_passes_that_count_are_run(scales, passes):
    guidance = Guidance(*scales)
    assert len(guidance.passes(0.0, has_audio=True)) == passes
    assert guided(guidance, 1.0, 2.0, 5.0) == pytest.approx(1 + scales[0] * 1 + scales[1] * 3)


def test_without_audio_there_is_nothing_to_hear():
    assert [one.audio for one in Guidance(2.5, 4.5).passes(0.0, has_audio=False)] == [False, False]


def test_outside_the_interval_there_is_one_pass():
    guidance = Guidance(2.5, 4.5, interval=(0.25, 0.75))
    assert [len(guidance.passes(step / 4, has_audio=True)) for step in range(4)] == [1, 3, 3, 1]


SCHEDULERS = (
    DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler, LCMScheduler,
    FlowMatchEulerDiscreteScheduler,
)  # fmt: skip


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize(("steps", "strength"), [(4, 1.0), (4, 0.5), (2, 0.25), (1, 0.1)])
def test_as_many_steps_as_asked_below_the_strength(kind, steps, strength):
    scheduler = kind()
    timesteps = start_schedule(scheduler, steps, strength, CPU)
    assert len(timesteps) == steps
    assert timesteps[0] <= 1000 * strength + 20  # LCM rounds to its own 50 steps
    clean, noise = torch.full((1, 2, 3, 4, 4), 5.0), torch.randn(1, 2, 3, 4, 4)
    sample = start_latents(scheduler, timesteps, noise, clean, strength)
    assert sample.isfinite().all()
    if strength <= 0.25:
        assert (sample - clean).abs().mean() < 3.5  # most of the prior is still there


def test_second_order_schedulers_run_twice_a_step():
    assert len(start_schedule(HeunDiscreteScheduler(), 4, 1.0, CPU)) == 7


def test_perfect_predictions_lead_back_to_the_prior():
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    clean, noise = torch.randn(1, 2, 3, 4, 4), torch.randn(1, 2, 3, 4, 4)
    timesteps = start_schedule(scheduler, 4, 0.5, CPU)
    sample = start_latents(scheduler, timesteps, noise, clean, 0.5)
    for timestep in timesteps:
        sample = scheduler.step(noise, timestep, sample).prev_sample
    torch.testing.assert_close(sample, clean, atol=1e-4, rtol=1e-4)


def test_pure_generation_does_not_see_the_prior():
    scheduler = EulerDiscreteScheduler()
    timesteps = start_schedule(scheduler, 4, 1.0, CPU)
    noise = torch.randn(1, 2, 3, 4, 4)
    started = start_latents(scheduler, timesteps, noise, torch.full_like(noise, 5.0), 1.0)
    assert torch.equal(started, noise * scheduler.init_noise_sigma)


def test_noise_does_not_depend_on_the_windows():
    whole = frame_noise((2, 5, 4, 4), torch.Generator().manual_seed(3), CPU)
    generator = torch.Generator().manual_seed(3)
    parts = [frame_noise((2, frames, 4, 4), generator, CPU) for frames in (2, 3)]
    assert torch.equal(torch.cat(parts, dim=2), whole)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Guidance(reference=-1), "reference guidance must be 0 or more"),
        (lambda: Guidance(audio=float("nan")), "audio guidance must be 0 or more"),
        (lambda: Guidance(interval=(0.8, 0.2)), "interval"),
        (lambda: start_schedule(DDIMScheduler(), 0, 1.0, CPU), "for the prior alone pass strength 0"),
        (lambda: start_schedule(DDIMScheduler(), 4, 1.5, CPU), "at most 1"),
        (lambda: start_schedule(DDIMScheduler(), 30, 0.01, CPU), "greater strength"),
        (lambda: check_finite(torch.tensor([1.0, float("nan")]), "after step 3"), "1 of 2 latents .* after step 3"),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
