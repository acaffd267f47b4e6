"""Losses of the gesture networks, one value a clip; averaging and weighting are the trainer's.

Letters: B clips, F frames, P width of a pose vector, Z width of a latent.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pose.models.motion_codec import CodecOutput


def denoising_loss(prediction: Tensor, target: Tensor, prediction_type: str) -> Tensor:
    """(B, F, P) twice to (B,): smooth L1 with β = 1 for models of the clean sample, squared error for those of noise.

    All frames count, the seed's too (DiffuseStyleGesture, DiffGesture: released code).
    """
    if prediction_type not in ("sample", "epsilon"):
        raise ValueError(f"prediction_type must be sample or epsilon, got {prediction_type!r}")
    distance = F.smooth_l1_loss if prediction_type == "sample" else F.mse_loss
    return distance(prediction, target, reduction="none").flatten(1).mean(1)


def codec_losses(output: CodecOutput, vectors: Tensor) -> dict[str, Tensor]:
    """FineGesture's five terms, (B,) each, all of weight 1: L1 of value, velocity and acceleration, two of VQ."""

    def mean(values: Tensor) -> Tensor:
        return values.flatten(1).mean(1)

    error = output.reconstruction - vectors
    return {
        "value": mean(error.abs()),
        "velocity": mean(error.diff(dim=1).abs()),
        "acceleration": mean(error.diff(n=2, dim=1).abs()),
        "codebook": mean((output.latents.detach() - output.codes).square()),
        "commitment": mean((output.latents - output.codes.detach()).square()),
    }


def speed_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """(B, F, P) twice to (B,): L1 of the frame differences. Ours, an option for models of the clean sample."""
    return (prediction.diff(dim=1) - target.diff(dim=1)).abs().flatten(1).mean(1)
