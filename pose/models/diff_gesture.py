"""DiffGesture (Zhu et al., CVPR 2023): the Diffusion Audio-Gesture Transformer on unit direction vectors.

    waveform ─► 4 convolutions ─► 32 a frame ─┐
    seed frames and "is seed" bit ────────────┴─► context, or the learned null
    sample | (β, sin β, cos β) | context ─► Linear + positions ─► 2 x (4 blocks, norm) ─► 2 layers ─► noise

All in one token a frame. Letters: see `pose.models.denoiser`; E width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module
from torch import Tensor, nn

from pose.models.denoiser import FIDELITIES, Condition, GestureDenoiser, keep_mask, noise_from_velocity
from pose.models.gaussian_guess import GaussianGuess
from pose.models.speech_encoders import BANDS, WaveformEncoder


class DiffGesture(GestureDenoiser):
    """Predicts the noise. Guidance: ε = ε_null + γ (ε - ε_null), γ = 1.15 published; the null context is learned."""

    prediction_type = "epsilon"
    speech_input = "waveform"

    @register_to_config
    def __init__(
        self,
        pose_dim: int = 27,  # P
        style_dim: int = 0,  # K; ours: the paper has one style, a corpus of several speakers wants more
        frames: int = 34,  # F
        seed_frames: int = 4,  # S
        width: int = 256,  # E
        speech_width: int = 32,
        blocks: int = 4,  # in each of the two stacks
        heads: int = 8,
        feedforward: int = 4,  # times the width
        context_dropout: float = 0.1,
        num_train_timesteps: int = 500,
        beta_schedule: str = "linear",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        fidelity: str = "paper",  # "released": the head's LeakyReLU has slope 1 and does nothing
        velocity: bool = False,  # ours: the network finds v, and the noise follows from it
        axes: int = 0,  # ours: of GaussianGuess, with `velocity`; 0 for none
        context: int = 7,  # frames of speech to either side that the guess of one hears
    ) -> None:
        super().__init__()
        if axes and not velocity:
            raise ValueError("axes of the Gaussian guess need velocity=true")
        if fidelity not in FIDELITIES:
            raise ValueError(f"fidelity must be one of {', '.join(FIDELITIES)}, got {fidelity!r}")
        context = pose_dim + 1 + speech_width + style_dim
        self.speech = WaveformEncoder(speech_width)
        self.null_context = nn.Parameter(torch.randn(context) * 0.02)
        self.token_in = nn.Linear(pose_dim + 3 + context, width)
        self.positions = nn.Parameter(torch.randn(frames, width) * 0.02)
        stacks = ([_Block(width, heads, feedforward * width) for _ in range(blocks)] for _ in range(2))
        self.trunk = nn.Sequential(*[layer for stack in stacks for layer in (*stack, nn.LayerNorm(width))])
        slope = 1.0 if fidelity == "released" else 0.01
        self.pose_out = nn.Sequential(
            nn.Linear(width, width // 2), nn.LeakyReLU(slope), nn.Linear(width // 2, pose_dim)
        )
        self.guess = None
        if axes:
            self.guess = GaussianGuess(pose_dim, axes, frames, style_dim, self.noise_schedule, BANDS, context)
        for module in (self.token_in, *self.trunk.modules(), *self.pose_out.modules()):
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if axes:  # the network starts as the guess
            nn.init.zeros_(self.pose_out.get_parameter("2.weight"))

    @classmethod
    def ted(cls) -> DiffGesture:
        """TED Gesture: 9 directions; 6,457,271 parameters."""
        return cls()

    @classmethod
    def ted_expressive(cls) -> DiffGesture:
        """TED Expressive: 42 directions with fingers; 25,620,093 parameters."""
        return cls(pose_dim=126, width=512)

    @classmethod
    def small(cls, pose_dim: int, style_dim: int = 0, **changes: Any) -> DiffGesture:
        """A size for training on a CPU.

        The head halves the width and what it finds of all P numbers must pass it: the width is at least 2 P.
        """
        width = max(128, -(-2 * pose_dim // 64) * 64)
        return cls(pose_dim, style_dim, **{"width": width, "blocks": 2, "feedforward": 2, **changes})

    def condition(self, *, speech: Tensor, seed: Tensor | None = None, style: Tensor | None = None) -> Condition:
        """`frames` (B, F, C) is the context; without a seed its bit is 0."""
        config = self.config
        sound = self.speech(speech, config.frames)
        given = F.pad(
            sound.new_ones((len(sound), config.seed_frames, 1)), (0, 0, 0, config.frames - config.seed_frames)
        )
        if seed is None:
            given = torch.zeros_like(given)
        seed = F.pad(self.checked_seed(seed, sound), (0, 0, 0, config.frames - config.seed_frames))
        parts = [seed, given, sound]
        style = self.checked_style(style, sound)
        if config.style_dim:
            parts.append(style[:, None].expand(-1, config.frames, -1))
        context = torch.cat(parts, -1)
        kept = keep_mask(context, config.context_dropout, self.training)
        guess = () if self.guess is None else self.guess.condition(self.heard(speech), kept)
        return Condition(kept * context + (1 - kept) * self.null_context, style=kept[:, 0] * style, guess=guess)

    def null_condition(self, *, speech: Tensor, seed: Tensor | None = None) -> Condition:
        """The learned null for every frame: no seed, no speech, no style."""
        frames = self.null_context.expand(len(speech), self.config.frames, -1)
        guess = () if self.guess is None else self.guess.condition(self.heard(speech), speech.new_zeros(1, 1, 1))
        return Condition(frames, style=self.checked_style(None, speech), guess=guess)

    def denoise(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        config = self.config
        share = timestep.to(sample.dtype) / (config.num_train_timesteps - 1)
        beta = config.beta_start + share * (config.beta_end - config.beta_start)
        level = torch.stack([beta, beta.sin(), beta.cos()], -1)[:, None].expand(-1, sample.shape[1], -1)
        tokens = self.token_in(torch.cat([sample, level, condition.frames], -1)) + self.positions
        result = self.pose_out(self.trunk(tokens))
        if not self.config.velocity:
            return result
        guess = None if self.guess is None else self.guess(sample, timestep, condition.style, *condition.guess)
        return noise_from_velocity(result, sample, timestep, self.noise_schedule, guess)


class _Block(nn.Module):
    """The transformer block of ViT: norm before attention and before the two layers."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width))

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.proj(mixed)
        return tokens + self.mlp(self.norm2(tokens))
