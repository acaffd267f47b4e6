"""The losses agree with diffusers' schedulers, weigh what they say, and leave unknown joints out."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from avatar import losses

SHAPE = (3, 2, 4, 8, 8)  # B C F h w
TIMESTEPS = torch.tensor([10, 400, 900])


@pytest.fixture
def scheduler():
    return DDPMScheduler(beta_schedule="scaled_linear")


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_velocity_is_the_schedulers(scheduler):
    latents, noise = randn(*SHAPE), randn(*SHAPE)
    ours = losses.diffusion_target(latents, noise, TIMESTEPS, scheduler.alphas_cumprod, "v_prediction")
    torch.testing.assert_close(ours, scheduler.get_velocity(latents, noise, TIMESTEPS))


@pytest.mark.parametrize("kind", losses.TARGETS)
def test_clean_latents_invert_the_target(scheduler, kind):
    latents, noise = randn(*SHAPE), randn(*SHAPE) + 1
    target = losses.diffusion_target(latents, noise, TIMESTEPS, scheduler.alphas_cumprod, kind)
    noisy = scheduler.add_noise(latents, noise, TIMESTEPS)
    clean = losses.clean_latents(target, noisy, TIMESTEPS, scheduler.alphas_cumprod, kind)
    torch.testing.assert_close(clean, latents, atol=1e-4, rtol=1e-4)


def test_min_snr_weights_bound_the_error_of_clean_latents(scheduler):
    alphas, snr = scheduler.alphas_cumprod, compute_snr(scheduler, TIMESTEPS)
    x0 = losses.min_snr_weight(TIMESTEPS, alphas, "sample")
    torch.testing.assert_close(x0, snr.clamp(max=5.0))
    torch.testing.assert_close(losses.min_snr_weight(TIMESTEPS, alphas, "epsilon"), x0 / snr)
    torch.testing.assert_close(losses.min_snr_weight(TIMESTEPS, alphas, "v_prediction"), x0 / (snr + 1))


def test_epsilon_has_no_weight_at_zero_snr():
    scheduler = DDPMScheduler(rescale_betas_zero_snr=True)
    last = torch.tensor([999])
    assert losses.min_snr_weight(last, scheduler.alphas_cumprod, "v_prediction").item() == 0.0
    with pytest.raises(ValueError, match="use v_prediction"):
        losses.min_snr_weight(last, scheduler.alphas_cumprod, "epsilon")


def test_local_reweighting_doubles_the_masked_error():
    prediction, target = randn(*SHAPE), randn(*SHAPE) + 1
    plain = losses.denoising_loss(prediction, target)
    torch.testing.assert_close(plain, (prediction - target).square().mean((1, 2, 3, 4)))
    everywhere = losses.denoising_loss(prediction, target, torch.ones(3, 1, 4, 8, 8))
    torch.testing.assert_close(everywhere, 2 * plain)
    half = torch.zeros(3, 1, 4, 8, 8)
    half[..., :4] = 1
    error = (prediction - target).square()
    expected = (error[..., :4].sum((1, 2, 3, 4)) * 4 + error[..., 4:].sum((1, 2, 3, 4))) / error[0].numel()
    torch.testing.assert_close(losses.denoising_loss(prediction, target, half, alpha=3.0), expected)


def test_places_weigh_what_they_are_given():
    prediction, target = randn(*SHAPE), randn(*SHAPE) + 1
    weight = torch.zeros(3, 1, 4, 8, 8)
    weight[..., :4] = 2
    found = losses.denoising_loss(prediction, target, weight=weight, absolute=True)
    torch.testing.assert_close(found, (prediction - target)[..., :4].abs().flatten(1).mean(1))


def test_mask_loss_falls_where_the_logits_are_right():
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, 2:6, 2:6] = 1
    right, wrong = (mask - 0.5) * 20, (0.5 - mask) * 20
    assert (losses.mask_loss([right], mask) < 1e-3).all() and (losses.mask_loss([wrong], mask) > 5).all()
    both = losses.mask_loss([right, torch.zeros(2, 1, 4, 4)], mask)  # heads of several sizes count alike
    torch.testing.assert_close(both, torch.full((2,), 0.5 * torch.log(torch.tensor(2.0)).item()), atol=1e-3, rtol=0)


def test_heatmap_loss_leaves_unknown_joints_out():
    target, weights = torch.rand(2, 42, 16, 16), torch.ones(2, 42)
    weights[1] = 0
    off = target.clone()
    off[0, :21] += 1
    weights[0, :21] = 0
    assert losses.heatmap_loss([off], target, weights).tolist() == [0.0, 0.0]
    off[0, 30] += 1
    torch.testing.assert_close(losses.heatmap_loss([off], target, weights), torch.tensor([1 / 21, 0.0]))


def test_heatmap_loss_applies_to_half_of_the_low_timesteps():
    applies = losses.heatmap_applies(torch.arange(1000), torch.rand(1000, generator=torch.Generator().manual_seed(0)))
    assert not applies[500:].any()
    assert 200 < applies[:500].sum() < 300


def test_lip_sync_loss_prefers_agreement():
    mouth = randn(2, 16)
    same, opposite = losses.lip_sync_loss(mouth, mouth), losses.lip_sync_loss(mouth, -mouth)
    assert (same < 1e-5).all() and (opposite > 5).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.diffusion_target(None, None, None, None, "x0"), "prediction_type must be one of"),
        (lambda: losses.denoising_loss(torch.zeros(1, 2), torch.zeros(2, 1)), "differ in shape"),
        (lambda: losses.mask_loss([], torch.zeros(1)), "build the model with regions"),
        (lambda: losses.heatmap_loss([], torch.zeros(1), torch.zeros(1)), "heat-map heads"),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
