"""Our own extractor for the FGD: an autoencoder of two seconds of upper body and hands on the home skeleton.

    windows (W, 34, 282) ─ encoder ─► features (W, L) ─ decoder ─► windows

Letters: W windows, F = 34 frames at 15 fps, L width of a feature. A window holds the 6D rotations of BEAT's 47 joints
relative to their parents: no angle jumps at 180°, and constant channels are not blown up (floored deviation). Its name
consists of a label and a fingerprint of the weights and is part of the metric's printed name: FGDs of different
extractors are different quantities. Trained by train/fgd.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module
from numpy.typing import NDArray
from torch import Tensor, nn

from pose.metrics.weights import fingerprint
from pose.models.denoiser import StrictModel
from pose.motion import Motion
from pose.representations.joints import BEAT_JOINTS, JointVectors

Double = NDArray[np.float64]

FPS = 15.0
FRAMES = 34
STRIDE = 10  # frames between the starts of windows, as in BEAT and TED
WIDTH = 6 * len(BEAT_JOINTS)
DEVIATION_FLOOR = 0.02  # of a number of a 6D rotation, about 1°: less is not movement
SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "gesture_features"


class GestureFeatures(StrictModel):
    """The autoencoder; `features` are its bottleneck."""

    @register_to_config
    def __init__(self, label: str = "untrained", width: int = 32, channels: int = 96) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(WIDTH))
        self.register_buffer("deviation", torch.ones(WIDTH))

        def layer(inner: int, outer: int, stride: int = 1) -> list[nn.Module]:
            return [
                nn.Conv1d(inner, outer, 4 if stride == 2 else 3, stride),
                nn.GroupNorm(8, outer),
                nn.LeakyReLU(0.2),
            ]

        steps = 5  # 34 → 32 → 30 → 14 → 12 → 5
        self.encoder = nn.Sequential(
            *layer(WIDTH, channels),
            *layer(channels, channels),
            *layer(channels, channels, 2),
            *layer(channels, channels),
            *layer(channels, channels, 2),
            nn.Flatten(),
            nn.Linear(steps * channels, width),
        )
        self.decoder = nn.Sequential(
            nn.Linear(width, 9 * channels),
            nn.Unflatten(1, (channels, 9)),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2, mode="linear"),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Upsample(size=FRAMES, mode="linear"),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv1d(channels, WIDTH, 3, padding=1),
        )

    @property
    def name(self) -> str:
        """Label and eight digits of the weights."""
        return f"{self.config.label}-{fingerprint(self)}"

    @classmethod
    def shipped(cls) -> GestureFeatures:
        """The extractor that comes with Rhetor; ValueError when this copy has none."""
        if not (SHIPPED / "config.json").is_file():
            raise ValueError(
                "this copy of Rhetor has no FGD extractor; train one with train/fgd.py and pass its folder"
            )
        return cls.from_pretrained(SHIPPED)

    def fit(self, windows: Tensor) -> None:
        """Centre and scale by the training windows (W, 34, 282)."""
        flat = windows.reshape(-1, WIDTH)
        self.center.copy_(flat.mean(0))
        self.deviation.copy_(flat.std(0).clamp(min=DEVIATION_FLOOR))

    def normalized(self, windows: Tensor) -> Tensor:
        """(W, 34, 282) in deviations from the centre."""
        return (windows - self.center) / self.deviation

    def forward(self, windows: Tensor) -> Tensor:
        """Normalised windows (W, 34, 282) to their reconstruction."""
        result: Tensor = self.decoder(self.encoder(windows.transpose(1, 2))).transpose(1, 2)
        return result

    @torch.no_grad()
    def features(self, windows: NDArray) -> Double:
        """(W, 34, 282) of `motion_windows` to (W, L)."""
        values = torch.as_tensor(windows, dtype=torch.float32, device=self.center.device)
        parts = [self.encoder(self.normalized(part).transpose(1, 2)) for part in values.split(512)]
        return torch.cat(parts).double().cpu().numpy()


def motion_windows(motion: Motion, stride: int = STRIDE) -> NDArray[np.float32]:
    """(W, 34, 282) windows of a motion on the home skeleton at 15 fps; ValueError when it is shorter than one."""
    if len(motion) < FRAMES:
        raise ValueError(f"{len(motion)} frames at {motion.fps:g} fps are less than a window of {FRAMES} at {FPS:g}")
    rows = JointVectors(fps=FPS, joints=BEAT_JOINTS, notation="sixd", root=False).raw(motion).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(rows, FRAMES, axis=0)[::stride]
    return np.ascontiguousarray(windows.transpose(0, 2, 1))
