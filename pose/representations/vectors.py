"""What all pose vectors share: face coefficients, derivatives, statistics, saving.

    Motion ─ body_vectors ─► (F, D) ─┐
           ─ expression   ─► (F, 51) ┴─ with derivatives ─► raw vectors (F, P) ─ (x - mean) / deviation ─► model

A representation is a diffusers model without parameters: its statistics are buffers, so that it travels with the
network that was trained on it. `encode` and `decode` are what models see; `raw` and `motion` are the numbers in their
own units (cm, degrees, unit vectors).
Letters: F frames, D width of the body's part, P width of the whole vector, X = 51 face coefficients.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from diffusers.utils.accelerate_utils import apply_forward_hook
from numpy.typing import NDArray
from torch import Tensor

from pose.models.denoiser import FIDELITIES, StrictModel
from pose.motion import EXPRESSION_NAMES, Motion
from pose.skeleton import HOME_HEIGHT, Skeleton

Double = NDArray[np.float64]

DEVIATION_FLOOR = 0.01  # DiffuseStyleGesture's: a channel that never moves is not blown up to noise


class MotionVectors(StrictModel):
    """Base of the representations; a subclass registers its config, then calls `_set_up`.

    Configs have `fps`, `expression` (51 face coefficients follow the body), `derivatives` (each part is followed by
    its frame differences and theirs; DiffuseStyleGesture+ and the holistic model), `deviation_floor`, `fidelity`.
    """

    def _set_up(self, body_dim: int) -> None:
        if self.config.fidelity not in FIDELITIES:
            raise ValueError(f"fidelity must be one of {', '.join(FIDELITIES)}, got {self.config.fidelity!r}")
        parts = [body_dim] + [len(EXPRESSION_NAMES)] * self.config.expression
        self.parts = [size * (3 if self.config.derivatives else 1) for size in parts]
        self.register_buffer("mean", torch.zeros(sum(self.parts)))
        self.register_buffer("deviation", torch.ones(sum(self.parts)))

    @property
    def dim(self) -> int:
        """P."""
        return sum(self.parts)

    @property
    def pose_channels(self) -> Tensor:
        """(P,) bool: numbers that a single pose has; the others are speeds, which need its neighbours."""
        stays = torch.arange(self.parts[0]) < self.parts[0] // (3 if self.config.derivatives else 1)
        face = [torch.arange(size) < len(EXPRESSION_NAMES) for size in self.parts[1:]]
        return torch.cat([stays, *face]).to(self.mean.device)

    def body_vectors(self, motion: Motion) -> Double:
        """(F, D) of motion whose joints are known to be there."""
        raise NotImplementedError

    def body_motion(self, vectors: Double) -> Motion:
        """The motion of (F, D), without a face."""
        raise NotImplementedError

    def raw(self, motion: Motion) -> Double:
        """Motion to (F, P) in its own units."""
        if abs(motion.fps - self.config.fps) > 1e-6:
            raise ValueError(
                f"these vectors run at {self.config.fps:g} fps and the motion at {motion.fps:g}; "
                f"call motion.resampled({self.config.fps:g}) first"
            )
        parts = [self.body_vectors(motion)]
        if self.config.expression:
            if motion.expression is None:
                raise ValueError("these vectors include the face and the motion has no expression; pass one that has")
            parts.append(motion.expression.astype(np.float64))
        return np.concatenate([with_derivatives(part) if self.config.derivatives else part for part in parts], -1)

    def motion(self, vectors: Double) -> Motion:
        """(F, P) in its own units to motion; of derivatives only the values are read, the face is held in [0, 1]."""
        vectors = np.asarray(vectors, np.float64)
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(f"vectors must be (F, {self.dim}), got {vectors.shape}")
        parts = np.split(vectors, np.cumsum(self.parts)[:-1], axis=1)
        if self.config.derivatives:
            parts = [part[:, : part.shape[1] // 3] for part in parts]
        body = self.body_motion(parts[0])
        expression = np.clip(parts[1], 0, 1).astype(np.float32) if self.config.expression else None
        return Motion(body.fps, body.skeleton, body.rotations, body.root_position, expression, body.translations)

    @apply_forward_hook
    def encode(self, motion: Motion) -> Tensor:
        """Motion to normalised vectors (F, P), float32."""
        raw = torch.as_tensor(self.raw(motion), device=self.mean.device)
        return ((raw - self.mean) / self.deviation).float()

    @apply_forward_hook
    def decode(self, vectors: Tensor) -> Motion:
        """Normalised vectors (F, P) to motion."""
        raw = vectors.double() * self.deviation + self.mean
        return self.motion(raw.cpu().numpy())

    def fit(self, raw: Iterable[Double]) -> None:
        """Set mean and deviation from the `raw` vectors (F, P) of a training set, clip by clip in one pass."""
        total, square, count = np.zeros(self.dim), np.zeros(self.dim), 0
        for vectors in raw:
            # Sums about the first clip's mean: squares of centimetres would lose the small deviations.
            if not count:
                origin = vectors.mean(0)
            moved = vectors - origin
            total, square, count = total + moved.sum(0), square + (moved**2).sum(0), count + len(vectors)
        if not count:
            raise ValueError("no vectors to fit on; pass at least one clip")
        mean = total / count
        deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
        if self.config.fidelity == "released":
            deviation = deviation + 1e-6  # as DiffuseStyleGesture+ does: constant channels explode
        else:
            deviation = np.maximum(deviation, self.config.deviation_floor)
        self.mean.copy_(torch.as_tensor(origin + mean))
        self.deviation.copy_(torch.as_tensor(deviation))


def with_derivatives(values: Double) -> Double:
    """(F, D) to (F, 3 D): values, differences to the frame before, and the differences of those; 0 at the start."""
    speed = np.diff(values, axis=0, prepend=values[:1])
    return np.concatenate([values, speed, np.diff(speed, axis=0, prepend=speed[:1])], -1)


def joint_columns(motion: Motion, names: Iterable[str]) -> list[int]:
    """Where the named joints stand in the motion's skeleton; ValueError lists those that are not there."""
    names = list(names)
    missing = [name for name in names if name not in motion.skeleton.names]
    if missing:
        raise ValueError(
            f"the motion's skeleton lacks {', '.join(missing[:6])} ({len(missing)} of {len(names)}); "
            "map it to the home skeleton first"
        )
    return [motion.skeleton.index(name) for name in names]


def home_motion(fps: float, rotations: Double, root_position: Double | None = None) -> Motion:
    """Motion on the home skeleton; without a root position it stands on its place."""
    if root_position is None:
        root_position = np.tile([0.0, HOME_HEIGHT, 0.0], (len(rotations), 1))
    return Motion(fps, Skeleton.home(), rotations.astype(np.float32), root_position.astype(np.float32))
