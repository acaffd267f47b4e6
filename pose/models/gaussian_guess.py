"""The best linear guess of a clean window, which the small networks start from and add to (ours).

A thousand numbers a frame, of which few dozen move by themselves, and slowly: to take such a window for what it is, a
new network needs very many steps, and until then it answers with the mean pose or trembles. What a Gaussian process
with the training data's own covariances would answer is known without training: in cosines of time and the principal
axes of each of them, a value x = a x_0 + s ε of variance λ without noise is best answered with a λ / (a² λ + s²) x
(Wiener 1949). Style and speaker move the mean and the variance. The networks then only learn what this does not know:
the speech, the seed, and that people are not Gaussian.
Letters: B clips, F frames, P width of a pose vector, E axes, K styles and speakers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn


class GaussianGuess(nn.Module):
    """Its statistics are set once, by `train.guess`: `basis` (P, E) of orthonormal columns; for each cosine the axes
    in which it varies by itself, `turns` (F, E, E), and how much, `variance` (F, E); by style and speaker `shift`
    (K, E) of the mean and `loudness` (K,), the logarithm of how much more moves.
    """

    basis: Tensor
    turns: Tensor
    variance: Tensor
    shift: Tensor
    loudness: Tensor
    clean_share: Tensor
    cosines: Tensor

    def __init__(self, pose_dim: int, axes: int, frames: int, style_dim: int, schedule: dict[str, Any]) -> None:
        super().__init__()
        axes = min(axes, pose_dim)
        self.register_buffer("basis", torch.zeros(pose_dim, axes))
        self.register_buffer("turns", torch.eye(axes).repeat(frames, 1, 1))
        self.register_buffer("variance", torch.zeros(frames, axes))
        self.register_buffer("shift", torch.zeros(style_dim, axes))
        self.register_buffer("loudness", torch.zeros(style_dim))
        # a² of each timestep; s² = 1 - a²
        self.register_buffer("clean_share", DDPMScheduler(**schedule).alphas_cumprod, persistent=False)
        self.register_buffer("cosines", cosine_transform(frames), persistent=False)

    def forward(self, sample: Tensor, timestep: Tensor, style: Tensor) -> Tensor:
        """(B, F, P) at `timestep` (B,) to the guess of the clean sample; without statistics it is 0, the mean.

        `style` (B, K) as the model is told it: zeros where nothing is said, in between for mixtures.
        """
        share = self.clean_share.to(sample)[timestep][:, None]
        clean = share.sqrt()
        frames = len(self.variance)
        louder = (style @ self.loudness).exp()[:, None]
        mean = (style @ self.shift) * math.sqrt(frames)
        values = (self.cosines @ (sample @ self.basis)).transpose(0, 1)  # (F, B, E)
        values = torch.cat([values[:1] - clean * mean, values[1:]]) @ self.turns
        # Where somebody stands has nothing to do with how lively he is: the mean over time is not louder.
        variance = torch.cat([self.variance[:1, None].expand(-1, len(sample), -1), self.variance[1:, None] * louder])
        values = clean * variance / (share * variance + 1 - share) * values
        values = values @ self.turns.transpose(1, 2)
        values = torch.cat([values[:1] + mean, values[1:]]).transpose(0, 1)
        return self.cosines.T @ values @ self.basis.T


def cosine_transform(frames: int) -> Tensor:
    """(F, F), orthonormal rows: the discrete cosine transform (DCT-II) of F values."""
    place = torch.arange(frames, dtype=torch.float64)
    rows = torch.cos(math.pi / frames * (place + 0.5) * place[:, None]) * math.sqrt(2 / frames)
    rows[0] /= math.sqrt(2)
    return rows.float()
