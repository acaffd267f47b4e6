"""FineGesture's codec: pose vectors to codes of a learned book and back, one latent a frame.

    (B, F, P) ─ 4 convolutions ─► latents (B, F, Z) ─ nearest code ─► 2 residual blocks, 4 convolutions ─► (B, F, P)

Trained with the losses of `pose.losses.codec_losses` (value, velocity, acceleration, codebook, commitment, all with
weight 1), then frozen. The book holds 256 codes of width 64; the paper's ablations are `latent_dim` 32, 128, 256 and
`quantize=False`. Kernels, hidden width and the standardising of latents for diffusion are ours (the paper is silent).
Letters: B clips, F frames, P width of a pose vector, Z width of a latent, N codes, H hidden width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from pose.models.denoiser import StrictModel

LATENT_FLOOR = 1e-3  # no latent channel is divided by less: a dead one would be all noise


@dataclass(frozen=True)
class CodecOutput:
    """`reconstruction` (B, F, P); `latents` (B, F, Z) of the encoder; `codes` (B, F, Z) that stand for them, with
    gradient to the book; `indices` (B, F) of the codes. Without quantisation codes are the latents, indices zeros."""

    reconstruction: Tensor
    latents: Tensor
    codes: Tensor
    indices: Tensor


class MotionCodec(StrictModel):
    """Vector-quantised autoencoder of normalised pose vectors."""

    @register_to_config
    def __init__(
        self,
        pose_dim: int = 141,  # P
        latent_dim: int = 64,  # Z
        codes: int = 256,  # N
        width: int = 256,  # H
        quantize: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            _conv(pose_dim, width), nn.LeakyReLU(0.2), _conv(width, width), nn.LeakyReLU(0.2),
            _conv(width, width), nn.LeakyReLU(0.2), _conv(width, latent_dim),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            _conv(latent_dim, width), _Residual(width), _Residual(width), nn.LeakyReLU(0.2),
            _conv(width, width), nn.LeakyReLU(0.2), _conv(width, width), nn.LeakyReLU(0.2), _conv(width, pose_dim),
        )  # fmt: skip
        self.book = nn.Embedding(codes, latent_dim)
        nn.init.uniform_(self.book.weight, -1 / codes, 1 / codes)
        self.book.requires_grad_(quantize)
        # Of the latents, for diffusion: see `fit_latents`.
        self.register_buffer("latent_mean", torch.zeros(latent_dim))
        self.register_buffer("latent_deviation", torch.ones(latent_dim))

    @classmethod
    def small(cls, pose_dim: int, **changes: Any) -> MotionCodec:
        """A size for training on a CPU."""
        return cls(pose_dim, **{"latent_dim": 32, "codes": 128, "width": 96, **changes})

    def forward(self, vectors: Tensor) -> CodecOutput:
        """(B, F, P), for training: the decoder sees the codes, its gradient passes straight to the encoder."""
        latents = self.encoder(vectors.transpose(1, 2)).transpose(1, 2)
        codes, indices = self.nearest(latents)
        straight = latents + (codes - latents).detach()
        reconstruction = self.decoder(straight.transpose(1, 2)).transpose(1, 2)
        return CodecOutput(reconstruction, latents, codes, indices)

    def nearest(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F, Z) to the nearest codes (B, F, Z) and their indices (B, F)."""
        if not self.config.quantize:
            return latents, torch.zeros(latents.shape[:2], dtype=torch.long, device=latents.device)
        indices = torch.cdist(latents.detach(), self.book.weight.detach()).argmin(-1)
        return self.book(indices), indices

    @apply_forward_hook
    def encode(self, vectors: Tensor) -> Tensor:
        """(B, F, P) to standardised latents (B, F, Z), not quantised: what the diffusion model learns."""
        latents = self.encoder(vectors.transpose(1, 2)).transpose(1, 2)
        return (latents - self.latent_mean) / self.latent_deviation

    @apply_forward_hook
    def decode(self, latents: Tensor, quantize: bool = True) -> Tensor:
        """Standardised latents (B, F, Z) to vectors (B, F, P); `quantize` moves them to their codes first (ours)."""
        latents = latents * self.latent_deviation + self.latent_mean
        if quantize:
            latents = self.nearest(latents)[0]
        return self.decoder(latents.transpose(1, 2)).transpose(1, 2)

    @torch.no_grad()
    def fit_latents(self, batches: Iterable[Tensor]) -> None:
        """Set mean and deviation of the latents from batches (B, F, P), once, when the codec is trained."""
        total, square = (torch.zeros_like(self.latent_mean, dtype=torch.float64) for _ in range(2))
        count = 0
        for vectors in batches:
            latents = self.encoder(vectors.transpose(1, 2)).transpose(1, 2).flatten(0, 1).double()
            total, square, count = total + latents.sum(0), square + latents.square().sum(0), count + len(latents)
        if not count:
            raise ValueError("no vectors to fit the latents on; pass at least one batch (B, F, P)")
        mean = total / count
        deviation = (square / count - mean**2).clamp(min=0).sqrt()
        self.latent_mean.copy_(mean)
        self.latent_deviation.copy_(deviation.clamp(min=LATENT_FLOOR))

    @torch.no_grad()
    def revive(self, latents: Tensor, unused: Tensor, generator: torch.Generator | None = None) -> None:
        """Move the codes marked in `unused` (N,) bool onto random latents (B, F, Z), lest codes die (ours)."""
        pool = latents.flatten(0, 1)
        picks = torch.randint(len(pool), (int(unused.sum()),), generator=generator, device=pool.device)
        self.book.weight[unused] = pool[picks].to(self.book.weight.dtype)


def perplexity(indices: Tensor, codes: int) -> Tensor:
    """How many codes are in use: exp of the entropy of (B, F) indices; 1 to `codes`."""
    share = F.one_hot(indices.flatten(), codes).float().mean(0)
    return torch.exp(-(share * (share + 1e-10).log()).sum())


def _conv(channels: int, out: int) -> nn.Conv1d:
    # Replicated ends: zeros would pull the first and last frame of every window towards the mean pose.
    return nn.Conv1d(channels, out, 3, padding=1, padding_mode="replicate")


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LeakyReLU(0.2), _conv(width, width), nn.LeakyReLU(0.2), _conv(width, width))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features)
