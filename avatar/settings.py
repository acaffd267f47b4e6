"""The choices of one run of the video pipeline, and what it tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avatar import conditions
from avatar.sampling import Guidance

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
