"""What the four gesture networks have in common: how a pipeline and a trainer talk to them.

    condition(speech, seed, style) ─► Condition ─┐   once a window: speech encoders run here
                                                 ▼
    sample (B, F, P), timestep (B,) ─────► denoise(…) ─► prediction (B, F, P)   once a step

`forward` is both in one call, for training. The prediction is the clean sample ("sample") or the noise ("epsilon"),
as the class attribute `prediction_type` says; vectors are normalised (`pose.representations`).

A window of F frames begins with S seed frames, which overlap the end of the window before:

    frame      0 … S-1            S … F-1
    sample     generated again    generated        all F frames are noised, denoised and in the loss
    seed       given, clean       -
    speech     given              given            the same F frames of sound

Dropping of conditions for guidance happens inside `condition` while the module is in training mode.
Letters: B clips, F frames, S seed frames, P width of a pose vector, A width of the speech features, N samples of
sound at 16 kHz, K width of the style vector (styles, speakers or both), C width of a frame's condition, D of a clip's.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import logging
from torch import Tensor

from pose.models.speech_encoders import band_levels

FIDELITIES = ("paper", "released")


@dataclass(frozen=True)
class Condition:
    """What one window is generated from, encoded: `frames` (B, F, C), one vector a frame; `clip` (B, D) or None.

    `style` (B, K) is what of the style vector was not dropped, and `guess` what the model's `GaussianGuess`es make of
    the speech, for them.
    """

    frames: Tensor
    clip: Tensor | None = None
    style: Tensor | None = None
    guess: tuple[Tensor, ...] = ()

    def joined(self, other: Condition) -> Condition:
        """Both along the batch, for two evaluations in one call."""
        clip = None if self.clip is None or other.clip is None else torch.cat([self.clip, other.clip])
        style = None if self.style is None or other.style is None else torch.cat([self.style, other.style])
        guess = tuple(torch.cat(pair) for pair in zip(self.guess, other.guess, strict=True))
        return Condition(torch.cat([self.frames, other.frames]), clip, style, guess)


def sinusoid(timestep: Tensor, width: int) -> Tensor:
    """(B,) to (B, width): sines and cosines of wavelengths 2π to 20000π in turn, the positions of a transformer."""
    rates = torch.exp(torch.arange(0, width, 2, device=timestep.device) * (-math.log(10000.0) / width))
    angle = timestep[:, None].float() * rates
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def keep_mask(like: Tensor, dropout: float, training: bool) -> Tensor:
    """(B, 1, …) of ones with zeros for the clips whose condition is dropped; all ones outside training."""
    mask = like.new_ones((len(like), *[1] * (like.ndim - 1)))
    return torch.bernoulli(mask * (1 - dropout)) if training and dropout > 0 else mask


def noise_from_velocity(
    velocity: Tensor, sample: Tensor, timestep: Tensor, schedule: dict[str, Any], guess: Tensor | None = None
) -> Tensor:
    """ε = a v + s x_t, all (B, F, P), where v = a ε - s x_0 (Salimans and Ho 2022); a² + s² = 1 at `timestep` (B,).

    The clean sample is then a x_t - s v: what the network gets wrong is not blown up by s / a where noise is high.
    With a `guess` of the clean sample (B, F, P), `velocity` is what is to be added to the guess's own.
    """
    share = DDPMScheduler(**schedule).alphas_cumprod.to(sample)[timestep][:, None, None]
    clean, noise = share.sqrt(), (1 - share).sqrt()
    if guess is not None:
        velocity = velocity + (clean * sample - guess) / noise
    return noise * sample + clean * velocity


class StrictModel(ModelMixin, ConfigMixin):
    """A diffusers model that loads safetensors only, and only if every tensor is accounted for."""

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **kwargs: Any) -> Any:
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs["use_safetensors"] = True  # a pickle can run any code on loading
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # what does not fit is said below
        try:
            model, info = super().from_pretrained(path, output_loading_info=True, **kwargs)
        except OSError as error:
            raise ValueError(
                f"no {cls.__name__} in {str(path)!r}: it needs config.json and safetensors ({error})"
            ) from error
        finally:
            logging.set_verbosity(verbosity)
        wrong = [
            f"{kind}: {', '.join(sorted(info[f'{kind}_keys'])[:8])}"
            for kind in ("missing", "unexpected")
            if info[f"{kind}_keys"]
        ]
        if wrong:
            raise ValueError(
                f"the weights in {str(path)!r} do not fit {cls.__name__} as configured ({'; '.join(wrong)}): train "
                "the model again, or use the version that it was trained with"
            )
        return (model, info) if wants_info else model


class GestureDenoiser(StrictModel):
    """Base of the systems. Every config has style_dim, frames, seed_frames, schedule; for features speech_dim."""

    prediction_type = "sample"
    speech_input = "features"  # "features": (B, F, A); "waveform": (B, N)

    @property
    def noise_schedule(self) -> dict[str, Any]:
        """Keyword arguments of the system's own noise schedule for any diffusers scheduler."""
        config = self.config
        schedule = {"num_train_timesteps": config.num_train_timesteps, "beta_schedule": config.beta_schedule}
        if config.beta_schedule == "linear":
            schedule |= {"beta_start": config.beta_start, "beta_end": config.beta_end}
        return schedule

    @property
    def pose_dim(self) -> int:
        """P."""
        return self.config.pose_dim

    def heard(self, speech: Tensor) -> Tensor:
        """(B, F, A): the speech as numbers a frame, for `GaussianGuess`."""
        return speech if self.speech_input == "features" else band_levels(speech, self.config.frames)

    def condition(self, *, speech: Tensor, seed: Tensor | None = None, style: Tensor | None = None) -> Condition:
        """Encode what a window is generated from. None: as if dropped in training."""
        raise NotImplementedError

    def null_condition(self, *, speech: Tensor, seed: Tensor | None = None) -> Condition:
        """What guidance leads away from: the published choice of what is dropped."""
        raise NotImplementedError

    def denoise(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """(B, F, P) at `timestep` (B,), 0 to num_train_timesteps - 1, to the prediction (B, F, P)."""
        raise NotImplementedError

    def forward(
        self,
        sample: Tensor,  # (B, F, P) noised
        timestep: Tensor,  # (B,)
        *,
        speech: Tensor,  # (B, F, A), or (B, N) where speech_input is "waveform"
        seed: Tensor | None = None,  # (B, S, P)
        style: Tensor | None = None,  # (B, K)
    ) -> Tensor:
        return self.denoise(sample, timestep, self.condition(speech=speech, seed=seed, style=style))

    def checked_seed(self, seed: Tensor | None, like: Tensor) -> Tensor:
        """(B, S, P); zeros, the mean pose, when there is none."""
        shape = (len(like), self.config.seed_frames, self.pose_dim)
        if seed is None:
            return like.new_zeros(shape)
        if seed.shape != shape:
            raise ValueError(f"seed must be {shape}: clips, seed frames, pose vector; got {tuple(seed.shape)}")
        return seed

    def checked_style(self, style: Tensor | None, like: Tensor) -> Tensor:
        """(B, K); zeros when there is none."""
        shape = (len(like), self.config.style_dim)
        if style is None:
            return like.new_zeros(shape)
        if style.shape != shape:
            raise ValueError(f"style must be {shape}: clips, styles and speakers; got {tuple(style.shape)}")
        return style

    def checked_features(self, speech: Tensor) -> Tensor:
        """(B, F, A) of the model's own window."""
        shape = (self.config.frames, self.config.speech_dim)
        if speech.ndim != 3 or speech.shape[1:] != shape:
            raise ValueError(
                f"speech must be (B, {shape[0]}, {shape[1]}): clips, frames of a window, features; "
                f"got {tuple(speech.shape)}"
            )
        return speech
