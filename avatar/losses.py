"""Losses of the video stage: pure functions of tensors, one value a sample; weighting and averages at the caller.

Letters: B clips, C latent channels, F frames, h w latent size, J hand joints (42), N layers with a head.

L_les = (1 + alpha M) L + 1/N sum |H_i - H|^2 is CyberHost's local enhancement supervision, alpha = 1, the heat-map
part for t < 500 and with probability 0.5 (reported of its second version).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

TARGETS = ("epsilon", "v_prediction", "sample")  # diffusers' prediction_type
LOCAL_ALPHA = 1.0  # published: "most stable"
HEATMAP_BELOW_T = 500  # published
HEATMAP_PROBABILITY = 0.5  # published
MIN_SNR_GAMMA = 5.0  # Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy"


def per_clip(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """The scheduler's alpha-bar at each clip's timestep, (B, 1, 1, 1, 1)."""
    return alphas_cumprod.to(timesteps.device)[timesteps].view(-1, 1, 1, 1, 1)


def diffusion_target(
    latents: Tensor,  # (B, C, F, h, w) clean
    noise: Tensor,  # the same shape
    timesteps: Tensor,  # (B,) whole numbers
    alphas_cumprod: Tensor,  # (T,) of the scheduler
    prediction_type: str = "epsilon",
) -> Tensor:
    """What the network should say of sqrt(a) latents + sqrt(1 - a) noise."""
    if prediction_type not in TARGETS:
        raise ValueError(f"prediction_type must be one of {', '.join(TARGETS)}, got {prediction_type!r}")
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return latents
    alpha = per_clip(alphas_cumprod, timesteps)
    return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents


def clean_latents(
    prediction: Tensor,  # (B, C, F, h, w)
    noisy: Tensor,  # the same shape
    timesteps: Tensor,  # (B,)
    alphas_cumprod: Tensor,  # (T,)
    prediction_type: str = "epsilon",
) -> Tensor:
    """The clean latents that a prediction amounts to: for losses on pictures, such as lip sync."""
    if prediction_type not in TARGETS:
        raise ValueError(f"prediction_type must be one of {', '.join(TARGETS)}, got {prediction_type!r}")
    alpha = per_clip(alphas_cumprod, timesteps)
    if prediction_type == "sample":
        return prediction
    if prediction_type == "epsilon":
        return (noisy - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
    return alpha.sqrt() * noisy - (1 - alpha).sqrt() * prediction


def min_snr_weight(
    timesteps: Tensor,  # (B,)
    alphas_cumprod: Tensor,  # (T,)
    prediction_type: str = "epsilon",
    gamma: float = MIN_SNR_GAMMA,
) -> Tensor:
    """Min-SNR weights (B,): min(snr, gamma) for x0, over snr for epsilon, over snr + 1 for v (Hang et al., §3.4).

    With a zero-terminal-SNR schedule only v and x0 have a weight at the last step; epsilon raises there.
    """
    alpha = alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alpha / (1 - alpha)
    clipped = snr.clamp(max=gamma)
    if prediction_type == "sample":
        return clipped
    if prediction_type == "v_prediction":
        return clipped / (snr + 1)
    if prediction_type != "epsilon":
        raise ValueError(f"prediction_type must be one of {', '.join(TARGETS)}, got {prediction_type!r}")
    if (snr == 0).any():
        raise ValueError("epsilon has no min-SNR weight at SNR 0; use v_prediction with a zero-terminal-SNR schedule")
    return clipped / snr


def denoising_loss(
    prediction: Tensor,  # (B, C, F, h, w)
    target: Tensor,  # the same shape
    mask: Tensor | None = None,  # (B, 1, F, h, w) in [0, 1]: face and hands; above 1 weighs more
    alpha: float = LOCAL_ALPHA,
    weight: Tensor | None = None,  # (B, 1, F, h, w): of each place, beside what the mask adds
    absolute: bool = False,  # |prediction - target| in place of its square
) -> Tensor:
    """Mean of (1 + alpha M) (prediction - target)^2 for each clip, (B,)."""
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    error = prediction.float() - target.float()
    error = error.abs() if absolute else error.square()
    if mask is not None:
        error = error * (1 + alpha * mask.float())
    if weight is not None:
        error = error * weight.float()
    return error.flatten(1).mean(1)


def mask_loss(
    logits: Sequence[Tensor],  # N of (B F, 1, h_i, w_i)
    mask: Tensor,  # (B F, 1, h, w) in [0, 1] at the finest size
) -> Tensor:
    """Binary cross-entropy of the mask heads against area-averaged boxes, (B F,), mean over the heads (form ours)."""
    if not logits:
        raise ValueError("there are no mask logits; build the model with regions or leave the mask loss out")
    losses = []
    for layer in logits:
        target = F.adaptive_avg_pool2d(mask.float(), (layer.shape[-2], layer.shape[-1]))
        losses.append(F.binary_cross_entropy_with_logits(layer.float(), target, reduction="none").flatten(1).mean(1))
    return torch.stack(losses).mean(0)


def heatmap_loss(
    heatmaps: Sequence[Tensor],  # N of (B F, J, h_i, w_i)
    target: Tensor,  # (B F, J, h, w) at the finest size, peak 1
    weights: Tensor,  # (B F, J): 0 for joints that are not known
) -> Tensor:
    """1/N sum |H_i - H|^2 of the hand heat-map heads, mean over cells and known joints, (B F,); 0 without joints."""
    if not heatmaps:
        raise ValueError("there are no heat maps; build the model with heat-map heads or leave this loss out")
    weights = weights.float()
    losses = []
    for layer in heatmaps:
        # Not a mean, which would flatten the small peaks.
        wanted = F.adaptive_max_pool2d(target.float(), (layer.shape[-2], layer.shape[-1]))
        error = (layer.float() - wanted).square().mean((2, 3))
        losses.append((error * weights).sum(1) / weights.sum(1).clamp(min=1e-6))
    return torch.stack(losses).mean(0)


def heatmap_applies(timesteps: Tensor, chance: Tensor) -> Tensor:
    """Which clips get the heat-map loss, (B,) bool: t < 500, and of those each with probability 0.5.

    `chance` (B,): uniform draws in [0, 1), the caller's, because a clip's draws must not depend on its batch.
    """
    return (timesteps < HEATMAP_BELOW_T) & (chance < HEATMAP_PROBABILITY).to(timesteps.device)


def lip_sync_loss(video: Tensor, audio: Tensor) -> Tensor:
    """How little SyncNet embeddings (B, D) of the mouth and of the sound agree, (B,); 0 for the same direction.

    Wav2Lip's expert loss, -log P, with P = (1 + cosine) / 2 instead of the cosine itself (ours: gradients do not
    vanish for embeddings that disagree).
    """
    similarity = F.cosine_similarity(video.float(), audio.float(), dim=1)
    return -((similarity + 1) / 2).clamp(min=1e-6).log()
