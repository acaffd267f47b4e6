"""DiffuseStyleGesture (Yang et al., IJCAI 2023) and DiffuseStyleGesture+ (GENEA 2023): speech and style to gestures.

                 style ─┐                                   ┌─► token ─┐
    seed (clip) ────────┴─► z ─ + t ───────────────────────┴─┐         ▼
    sample ─► Linear ─────────────────────────────────► cat ─► Linear ─► local attention ─► transformer ─► clean sample
    speech ─► Linear ─┐                                  ▲
    seed (frames) ────┴─► one vector a frame ────────────┘

`seed_mode` "clip": the seed's frames, flattened, are part of z (DiffuseStyleGesture). "frames": each seed frame takes
the place of the speech in its own frame, and speech is seen from frame S on (the "+" variant).
Letters: see `pose.models.denoiser`; E width.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module
from torch import Tensor, nn

from pose.models.denoiser import Condition, GestureDenoiser, keep_mask
from pose.models.gaussian_guess import GaussianGuess
from pose.models.local_attention import CrossLocalTrunk

SEED_MODES = ("clip", "frames")


class DiffuseStyleGesture(GestureDenoiser):
    """Predicts the clean sample. Guidance: x = γ D(style, seed) + (1 - γ) D(no style, no seed), or another style's."""

    prediction_type = "sample"
    speech_input = "features"

    @register_to_config
    def __init__(
        self,
        pose_dim: int = 1141,  # P
        speech_dim: int = 1024,  # A
        style_dim: int = 6,  # K
        frames: int = 88,  # F
        seed_frames: int = 8,  # S
        seed_mode: str = "clip",
        width: int = 256,  # E
        speech_width: int = 64,
        style_width: int = 64,  # of z; with seed_mode "frames" all of z is style
        layers: int = 8,
        heads: int = 4,
        feedforward: int = 1024,
        local_heads: int = 8,
        local_window: int = 11,  # frames
        dropout: float = 0.1,
        style_dropout: float = 0.1,  # share of clips trained without style
        seed_dropout: float = 0.1,  # and without seed; the "+" variant keeps it
        num_train_timesteps: int = 1000,
        beta_schedule: str = "squaredcos_cap_v2",  # cosine, β at most 0.999
        axes: int = 0,  # ours: of GaussianGuess; 0 for none
        context: int = 9,  # frames of speech to either side that the guess of one hears
    ) -> None:
        super().__init__()
        if seed_mode not in SEED_MODES:
            raise ValueError(f"seed_mode must be one of {', '.join(SEED_MODES)}, got {seed_mode!r}")
        if not 0 < 2 * seed_frames <= frames:
            raise ValueError(f"seed frames must be 1 to half of the window's {frames}, got {seed_frames}")
        whole = seed_mode == "clip"
        self.style = nn.Linear(style_dim, style_width if whole else width)
        self.seed = (
            nn.Linear(seed_frames * pose_dim, width - style_width) if whole else nn.Linear(pose_dim, speech_width)
        )
        self.pose_in = nn.Linear(pose_dim, width)
        self.speech = nn.Linear(speech_dim, speech_width)
        self.trunk = CrossLocalTrunk(
            width, 2 * width + speech_width, layers, heads, feedforward, local_heads, local_window, dropout
        )
        self.guess = None
        if axes:
            self.guess = GaussianGuess(pose_dim, axes, frames, style_dim, self.noise_schedule, speech_dim, context)
        self.pose_out = nn.Linear(width, pose_dim)
        if axes:  # the network starts as the guess
            nn.init.zeros_(self.pose_out.weight)

    @classmethod
    def zeroeggs(cls) -> DiffuseStyleGesture:
        """DiffuseStyleGesture on ZeroEGGS: 20 fps, six styles, WavLM-Large; 9,001,781 parameters."""
        return cls()

    @classmethod
    def beat(cls, **changes: Any) -> DiffuseStyleGesture:
        """DiffuseStyleGesture+ on BEAT: 30 fps, two speakers, WavLM, acoustics and words; 13,588,100 parameters."""
        plus = {
            "pose_dim": 2052, "speech_dim": 1434, "style_dim": 2, "frames": 150, "seed_frames": 30,
            "seed_mode": "frames", "width": 384, "speech_width": 96, "local_window": 15, "seed_dropout": 0.0,
        }  # fmt: skip
        return cls(**{**plus, **changes})

    @classmethod
    def twh(cls) -> DiffuseStyleGesture:
        """DiffuseStyleGesture+ on TWH (GENEA 2023): 17 speakers, laughter among the words; 20,705,080 parameters."""
        return cls.beat(pose_dim=2232, speech_dim=1435, style_dim=17, width=512, speech_width=128)

    @classmethod
    def small(cls, pose_dim: int, speech_dim: int, style_dim: int, **changes: Any) -> DiffuseStyleGesture:
        """A size for training on a CPU: 1.2 M parameters at P = 453."""
        size = {"width": 128, "speech_width": 32, "style_width": 32, "layers": 4, "feedforward": 384}
        return cls(pose_dim, speech_dim, style_dim, **{**size, **changes})

    def condition(self, *, speech: Tensor, seed: Tensor | None = None, style: Tensor | None = None) -> Condition:
        config = self.config
        speech, style = self.checked_features(speech), self.checked_style(style, speech)
        seed = self.checked_seed(seed, speech)
        said = style * keep_mask(style, config.style_dropout, self.training)
        style = self.style(said)
        seed = seed * keep_mask(seed, config.seed_dropout, self.training)
        guess = () if self.guess is None else self.guess.condition(speech)
        if config.seed_mode == "clip":
            return Condition(self.speech(speech), torch.cat([style, self.seed(seed.flatten(1))], -1), said, guess)
        frames = torch.cat([self.seed(seed), self.speech(speech[:, config.seed_frames :])], 1)
        return Condition(frames, style, said, guess)

    def null_condition(self, *, speech: Tensor, seed: Tensor | None = None) -> Condition:
        """Without style; without seed too where training drops it."""
        return self.condition(speech=speech, seed=seed if self.config.seed_mode == "frames" else None)

    def denoise(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        clip = self.trunk.clip_token(timestep, condition)
        clean = self.pose_out(self.trunk(clip, [self.pose_in(sample), condition.frames]))
        return clean if self.guess is None else clean + self.guess(sample, timestep, condition.style, *condition.guess)
