"""FineGesture: diffusion in the latents of `MotionCodec`, with attention over channels and over time.

    latents Z_t | history | speech | t ─► Linear ─► 8 x [channels attend to channels, frames to frames, layers]

The "spatial" attention is over the transposed tensor: each of the E channels is a token that holds its F values, so
that features of different joints meet (queries (E, F), as the paper writes them). Time attention and the two layers
are followed by AdaIN: the branch is normalised over time and takes scale and shift from speaker and noise level. The
paper does not give: β schedule, drop share, guidance scale, window, heads and scale of the spatial attention, where
the residual joins. Chosen here: DiffGesture's schedule and window, one head scaled by 1/√F, residual around branch and
AdaIN together (normalising the sum would erase what is constant in a clip).
Letters: see `pose.models.denoiser`; here P is the width of a latent. E width, Y width of the speaker's vector.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module
from torch import Tensor, nn

from pose.models.denoiser import Condition, GestureDenoiser, keep_mask, noise_from_velocity, sinusoid
from pose.models.gaussian_guess import GaussianGuess
from pose.models.speech_encoders import BANDS, ResidualWaveformEncoder


class FineGesture(GestureDenoiser):
    """Predicts the noise of latents (B, F, P); seeds are latents too, of the last S frames through the codec.

    `spatial` and `temporal` off are the paper's ablations.
    """

    prediction_type = "epsilon"
    speech_input = "waveform"

    @register_to_config
    def __init__(
        self,
        pose_dim: int = 64,  # P: latent_dim of the codec
        style_dim: int = 4,  # K: speakers 2, 4, 6 and 8 of BEAT
        frames: int = 34,  # F; CaMN's window, undisclosed in the paper
        seed_frames: int = 4,  # S: the history
        width: int = 512,  # E
        speech_width: int = 128,
        style_width: int = 8,  # Y
        layers: int = 8,
        heads: int = 8,
        spatial: bool = True,
        temporal: bool = True,
        feedforward: int = 4,  # times the width; undisclosed
        style_dropout: float = 0.1,  # undisclosed
        context_dropout: float = 0.1,  # history and speech together; undisclosed
        num_train_timesteps: int = 500,
        beta_schedule: str = "linear",  # undisclosed; DiffGesture's, with the same number of steps
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        velocity: bool = False,  # ours: the network finds v, and the noise follows from it
        axes: int = 0,  # ours: of GaussianGuess, with `velocity`; 0 for none
        context: int = 7,  # frames of speech to either side that the guess of one hears
    ) -> None:
        super().__init__()
        if axes and not velocity:
            raise ValueError("axes of the Gaussian guess need velocity=true")
        self.speech = ResidualWaveformEncoder(speech_width)
        self.seed = nn.Linear(seed_frames * pose_dim, pose_dim)
        self.style = nn.Linear(style_dim, style_width)
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.null_context = nn.Parameter(torch.zeros(pose_dim + speech_width))
        self.token_in = nn.Linear(2 * pose_dim + speech_width + width, width)
        self.positions = nn.Parameter(torch.randn(frames, width) * 0.02)
        self.blocks = nn.ModuleList(
            _Block(width, frames, heads, feedforward * width, style_width, spatial, temporal) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.pose_out = nn.Linear(width, pose_dim)
        self.guess = None
        if axes:
            self.guess = GaussianGuess(pose_dim, axes, frames, style_dim, self.noise_schedule, BANDS, context)
        if axes:  # the network starts as the guess
            nn.init.zeros_(self.pose_out.weight)

    @classmethod
    def beat(cls) -> FineGesture:
        """The published sizes: 8 layers, 512 wide, 8 heads, 64-wide latents."""
        return cls()

    @classmethod
    def small(cls, pose_dim: int, style_dim: int, **changes: Any) -> FineGesture:
        """A size for training on a CPU."""
        return cls(pose_dim, style_dim, **{"width": 128, "speech_width": 32, "layers": 4, "heads": 4, **changes})

    def condition(self, *, speech: Tensor, seed: Tensor | None = None, style: Tensor | None = None) -> Condition:
        """`frames` (B, F, P + speech_width): history and speech; `clip` (B, Y): the speaker."""
        config = self.config
        sound = self.speech(speech, config.frames)
        history = self.seed(self.checked_seed(seed, sound).flatten(1))
        context = torch.cat([history[:, None].expand(-1, config.frames, -1), sound], -1)
        kept = keep_mask(context, config.context_dropout, self.training)
        style = self.checked_style(style, sound)
        style = style * keep_mask(style, config.style_dropout, self.training)
        guess = () if self.guess is None else self.guess.condition(self.heard(speech), kept)
        return Condition(kept * context + (1 - kept) * self.null_context, self.style(style), style, guess)

    def null_condition(self, *, speech: Tensor, seed: Tensor | None = None) -> Condition:
        """The learned null for history and speech, no speaker."""
        frames = self.null_context.expand(len(speech), self.config.frames, -1)
        style = self.checked_style(None, speech)
        guess = () if self.guess is None else self.guess.condition(self.heard(speech), speech.new_zeros(1, 1, 1))
        return Condition(frames, self.style(style), style, guess)

    def denoise(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        assert condition.clip is not None
        level = self.level(sinusoid(timestep, self.config.width).to(sample.dtype))
        along = level[:, None].expand(-1, sample.shape[1], -1)
        tokens = self.token_in(torch.cat([sample, condition.frames, along], -1)) + self.positions
        modulation = torch.cat([condition.clip, level], -1)
        for block in self.blocks:
            tokens = block(tokens, modulation)
        result = self.pose_out(self.norm(tokens))
        if not self.config.velocity:
            return result
        guess = None if self.guess is None else self.guess(sample, timestep, condition.style, *condition.guess)
        return noise_from_velocity(result, sample, timestep, self.noise_schedule, guess)


class _Block(nn.Module):
    def __init__(
        self, width: int, frames: int, heads: int, feedforward: int, style_width: int, spatial: bool, temporal: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.spatial = nn.Linear(frames, 3 * frames) if spatial else None
        self.spatial_out = nn.Linear(frames, frames) if spatial else None
        self.spatial_norm = nn.LayerNorm(width) if spatial else None
        self.temporal = nn.Linear(width, 3 * width) if temporal else None
        # No biases before AdaIN, which takes constants away.
        self.temporal_out = nn.Linear(width, width, bias=False) if temporal else None
        self.temporal_norm = nn.LayerNorm(width) if temporal else None
        self.temporal_adain = _AdaIN(width, style_width) if temporal else None
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width, bias=False))
        self.mlp_adain = _AdaIN(width, style_width)

    def forward(self, tokens: Tensor, modulation: Tensor) -> Tensor:
        if self.spatial is not None and self.spatial_out is not None and self.spatial_norm is not None:
            channels = self.spatial_norm(tokens).transpose(1, 2)  # (B, E, F)
            query, key, value = self.spatial(channels)[:, None].chunk(3, -1)
            mixed = F.scaled_dot_product_attention(query, key, value)[:, 0]
            tokens = tokens + self.spatial_out(mixed).transpose(1, 2)
        if self.temporal is not None and self.temporal_out is not None and self.temporal_norm is not None:
            projected = self.temporal(self.temporal_norm(tokens)).unflatten(-1, (3, self.heads, -1))
            query, key, value = projected.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            assert self.temporal_adain is not None
            tokens = tokens + self.temporal_adain(self.temporal_out(mixed), modulation)
        return tokens + self.mlp_adain(self.mlp(self.mlp_norm(tokens)), modulation)


class _AdaIN(nn.Module):
    """Adaptive instance norm over time (Huang and Belongie 2017): scale and shift from the modulation (B, Y + E).

    Both start at zero, so that a new block does nothing: a normalised branch has unit variance however small its
    weights, and sixteen of them would drown the noised sample in the residual stream.
    """

    def __init__(self, width: int, style_width: int) -> None:
        super().__init__()
        self.style = nn.Linear(style_width, 2 * width)
        self.level = nn.Linear(width, 2 * width)
        self.style_width = style_width
        for layer in (self.style, self.level):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, branch: Tensor, modulation: Tensor) -> Tensor:
        style, level = modulation.split((self.style_width, modulation.shape[-1] - self.style_width), -1)
        scale, shift = (self.style(style) + self.level(level))[:, None].chunk(2, -1)
        branch = F.instance_norm(branch.transpose(1, 2)).transpose(1, 2)
        return branch * scale + shift
