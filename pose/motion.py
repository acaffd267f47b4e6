"""3D motion of one person: joint rotations over time on a skeleton, with face expression.

Letters: F frames, J joints, E = 51 expression coefficients. Files are .npz with the fields of `Motion`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.interpolation import between, rotations_between
from pose.skeleton import Skeleton

Array = NDArray[np.float32]

# The ARKit face coefficients in BEAT's order: alphabetical, without tongueOut. Each is in [0, 1].
EXPRESSION_NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip


def expression_index(name: str) -> int:
    """Column of a face coefficient; ValueError names the known ones."""
    if name not in EXPRESSION_NAMES:
        raise ValueError(f"unknown face coefficient {name!r}; known are {', '.join(EXPRESSION_NAMES)}")
    return EXPRESSION_NAMES.index(name)


@dataclass(frozen=True, eq=False)
class Motion:
    """F frames of motion.

    `rotations` (F, J, 3, 3) float32, each joint relative to its parent; `root_position` (F, 3) float32, cm;
    `expression` (F, 51) float32 in [0, 1] in the order of EXPRESSION_NAMES, None when the face is not known;
    `translations` (F, J, 3) float32, cm, replaces the skeleton's offsets where bones slide (in some BVH files),
    else None.
    """

    fps: float
    skeleton: Skeleton
    rotations: Array
    root_position: Array
    expression: Array | None = None
    translations: Array | None = None

    def __post_init__(self) -> None:
        frames, joints = len(self.rotations), len(self.skeleton)
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be positive, got {self.fps}")
        expected = {
            "rotations": (frames, joints, 3, 3),
            "root_position": (frames, 3),
            "expression": (frames, len(EXPRESSION_NAMES)),
            "translations": (frames, joints, 3),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.shape != shape:
                raise ValueError(f"{name} must be {shape}, got {array.shape}")
            if not np.isfinite(array).all():
                frame = int(np.argwhere(~np.isfinite(array))[0, 0])
                raise ValueError(f"{name} holds NaN or infinite values, first in frame {frame}")

    def __len__(self) -> int:
        return len(self.rotations)

    def __getitem__(self, frames: slice) -> Motion:
        """A range of frames; the arrays are views."""
        return replace(
            self,
            rotations=self.rotations[frames],
            root_position=self.root_position[frames],
            expression=None if self.expression is None else self.expression[frames],
            translations=None if self.translations is None else self.translations[frames],
        )

    @property
    def duration_s(self) -> float:
        """F / fps."""
        return len(self) / self.fps

    def positions(self) -> NDArray[np.float64]:
        """Joint positions (F, J, 3), cm."""
        return self.skeleton.forward_kinematics(self.rotations, self.root_position, self.translations)[0]

    def resampled(self, fps: float) -> Motion:
        """The same motion at another frame rate, smooth between frames (`pose.interpolation`).

        Frame k of the result is the motion at k / fps seconds; the last one is at or before the last frame given, so
        that nothing is extrapolated. Downsampling takes points in time and does not average.
        """
        if not (np.isfinite(fps) and fps > 0):
            raise ValueError(f"fps must be positive, got {fps}")
        if fps == self.fps or len(self) == 0:
            return replace(self, fps=fps)
        count = int(np.floor((len(self) - 1) / self.fps * fps + 1e-6)) + 1
        places = np.minimum(np.arange(count) * (self.fps / fps), len(self) - 1)
        return replace(self.at(places), fps=fps)

    def at(self, places: NDArray[np.float64]) -> Motion:
        """The motion at `places` (n,), in frames from 0 to F - 1, whole or between; the frame rate stays as it is."""
        expression = None if self.expression is None else np.clip(between(self.expression, places), 0, 1)
        translations = None if self.translations is None else between(self.translations, places)
        return replace(
            self,
            rotations=rotations_between(self.rotations, places).astype(np.float32),
            root_position=between(self.root_position, places).astype(np.float32),
            expression=None if expression is None else expression.astype(np.float32),
            translations=None if translations is None else translations.astype(np.float32),
        )

    @classmethod
    def concatenated(cls, parts: Sequence[Motion]) -> Motion:
        """One motion of all the parts in order; they must agree in fps, skeleton and which fields they have."""
        if not parts:
            raise ValueError("no motion to concatenate; pass at least one")
        first = parts[0]
        for part in parts[1:]:
            if part.fps != first.fps or part.skeleton != first.skeleton:
                raise ValueError(
                    f"parts differ in fps ({first.fps} and {part.fps}) or skeleton; resample or map first"
                )
            for name in ("expression", "translations"):
                if (getattr(part, name) is None) != (getattr(first, name) is None):
                    raise ValueError(f"{name} must be given in all parts or in none")

        def joined(name: str) -> Array:
            return np.concatenate([getattr(part, name) for part in parts])

        return replace(
            first,
            rotations=joined("rotations"),
            root_position=joined("root_position"),
            expression=None if first.expression is None else joined("expression"),
            translations=None if first.translations is None else joined("translations"),
        )

    def save(self, path: str | Path) -> None:
        """Write an .npz (NumPy appends the ending when it is missing)."""
        fields: dict[str, NDArray] = {
            "fps": np.array(self.fps),
            "names": np.array(self.skeleton.names),
            "parents": np.array(self.skeleton.parents),
            "offsets": self.skeleton.offsets,
            "end_names": np.array(list(self.skeleton.end_sites), str),
            "end_offsets": np.array(list(self.skeleton.end_sites.values()), np.float64).reshape(-1, 3),
            "rotations": self.rotations,
            "root_position": self.root_position,
        }
        if self.expression is not None:
            fields |= {"expression": self.expression, "expression_names": np.array(EXPRESSION_NAMES)}
        if self.translations is not None:
            fields["translations"] = self.translations
        np.savez_compressed(path, **fields)

    @classmethod
    def load(cls, path: str | Path) -> Motion:
        """Read what `save` wrote; ValueError when the file is no such thing."""
        try:
            with np.load(path, allow_pickle=False) as file:
                fields = dict(file)
        except (zipfile.BadZipFile, EOFError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a motion file (.npz written by Motion.save): {error}") from None
        needed = {"fps", "names", "parents", "offsets", "end_names", "end_offsets", "rotations", "root_position"}
        if needed - set(fields):
            raise ValueError(
                f"{path} lacks {', '.join(sorted(needed - set(fields)))}: it was not written by Motion.save"
            )
        if "expression" in fields and tuple(fields.get("expression_names", ())) != EXPRESSION_NAMES:
            raise ValueError(f"{path}: the face coefficients are not the {len(EXPRESSION_NAMES)} of EXPRESSION_NAMES")
        skeleton = Skeleton(
            tuple(str(name) for name in fields["names"]),
            tuple(int(parent) for parent in fields["parents"]),
            fields["offsets"],
            dict(zip((str(name) for name in fields["end_names"]), fields["end_offsets"], strict=True)),
        )
        return cls(
            float(fields["fps"]),
            skeleton,
            fields["rotations"].astype(np.float32),
            fields["root_position"].astype(np.float32),
            fields["expression"].astype(np.float32) if "expression" in fields else None,
            fields["translations"].astype(np.float32) if "translations" in fields else None,
        )
