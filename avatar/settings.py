"""The choices of one run of the video pipeline, and what it tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import SchedulerMixin
from numpy.typing import NDArray

from avatar import conditions, latents
from avatar.models.identity import IdentityEncoder
from avatar.models.unet import AvatarUNet
from avatar.resume import WindowState
from avatar.sampling import Guidance
from avatar.windows import check_window

MOUTHS = ("prior", "sound")  # whose mouth is shown to the model: the prior's, or none, so that sound alone says it


@dataclass(frozen=True)
class Progress:
    """Where a run stands: after `step` of `steps` of the window that begins at frame `first` and has `frames`."""

    first: int
    frames: int
    step: int
    steps: int


@dataclass(frozen=True)
class Settings:
    """The choices of one run, checked; see `AvatarPipeline.stream`."""

    steps: int
    strength: float
    guidance: Guidance
    frame_stride: int
    composite: bool
    mouth: str  # of MOUTHS
    condition: str
    box: NDArray[np.float32] | None
    clarity: float | tuple[float, float]
    generator: torch.Generator | None
    backend: str | None
    on_progress: Callable[[Progress], None] | None
    on_window: Callable[[WindowState], None] | None = None

    def __post_init__(self) -> None:
        conditions.check_kind(self.condition)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}; for the prior alone pass strength 0")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be 0 (the prior) to 1 (pure generation), got {self.strength}")
        if self.mouth not in MOUTHS:
            raise ValueError(f"mouth must be one of {', '.join(MOUTHS)}, got {self.mouth!r}")

    def report(self, first: int, frames: int, step: int, steps: int) -> None:
        """Tell whoever asked where the run stands."""
        if self.on_progress is not None:
            self.on_progress(Progress(first, frames, step, steps))

    def tell(self, window: WindowState) -> None:
        """Tell whoever asked what the next window goes on from."""
        if self.on_window is not None:
            self.on_window(window)


def check_parts(
    unet: AvatarUNet,
    vae: latents.Autoencoder,
    scheduler: SchedulerMixin,
    identity_encoder: IdentityEncoder | None,
    window: int,
    motion_frames: int,
    frame_stride: int,
) -> None:
    """ValueError where the parts and the windows of a pipeline do not fit together."""
    positions = unet.config.motion_max_seq_length
    check_window(window, frame_stride)
    if window + motion_frames > positions or not 0 <= motion_frames <= window:
        raise ValueError(
            f"{window} frames and {motion_frames} motion frames do not fit: motion modules have {positions} "
            "positions, and motion frames come from one window; pass a smaller window or fewer motion frames"
        )
    if unet.config.regions and identity_encoder is None:
        raise ValueError(f"the U-Net attends to {unet.config.regions}; pass its identity encoder")
    if latents.latent_channels(vae) != unet.config.out_channels:
        raise ValueError(
            f"the VAE has {latents.latent_channels(vae)} latent channels and the U-Net "
            f"{unet.config.out_channels}; pass the VAE that the U-Net was trained with"
        )
    if unet.config.prior_residual and scheduler.config.get("prediction_type") != "sample":
        raise ValueError(
            f"the U-Net adds to the prior, which gives clean latents, and the scheduler expects "
            f"{scheduler.config.get('prediction_type')!r}; set its prediction_type to 'sample'"
        )
