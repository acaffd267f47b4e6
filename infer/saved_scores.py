"""What belongs to one video of an evaluation, what was measured of it, and how that is kept between runs."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.keypoints import Keypoints

WEIGHTS = ("lpips", "fid", "fvd", "arcface", "syncnet")


@dataclass(frozen=True)
class Settings:
    """What changes the numbers. `weights` {name: path} of WEIGHTS, `names` what is printed for them."""

    fps: float = 25.0
    max_side: int = 1280
    every: int = 5
    device: str = "cpu"
    weights: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One video and what belongs to it; None where there is nothing. `system` is its row of the table."""

    system: str
    name: str
    video: Path
    audio: Path | None = None  # instead of the video's own sound
    real: Path | None = None  # the true video of the same person and sound
    photo: Path | None = None
    driving: Path | None = None  # keypoints that drove it, .npz

    def key(self, settings: Settings) -> str:
        """Changes with every file (path, size, date) and setting that the scores depend on."""
        files = [self.video, self.audio, self.real, self.photo, self.driving]
        stamps = [None if p is None else _stamp(p) for p in files]
        text = json.dumps([stamps, {**asdict(settings), "weights": None, "device": None}, 2], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def _stamp(path: Path) -> tuple[str, int, int]:
    """What changes when a file does; a missing one is found out when it is read."""
    state = path.stat() if path.exists() else None
    return str(path.resolve()), state.st_size if state else 0, state.st_mtime_ns if state else 0


@dataclass
class Scores:
    """Of one file: `values` {metric: number}; `excluded` {metric: why there is none}; `facts` about the file."""

    values: dict[str, float] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray] = field(default_factory=dict)

    def put(self, metric: str, measure: Any) -> None:
        """The value of `measure()`, or the reason why there is none."""
        try:
            value = float(measure())
        except ValueError as error:
            self.excluded[metric] = " ".join(str(error).split())
            return
        if np.isnan(value):
            self.excluded[metric] = "not a number"
        else:
            self.values[metric] = value

    def save(self, stem: Path) -> None:
        """STEM.npz, then STEM.json, each whole or not at all; the second is the sign that both are there."""
        part = stem.with_suffix(".part.npz")
        np.savez_compressed(part, **self.arrays)
        os.replace(part, stem.with_suffix(".npz"))
        part = stem.with_suffix(".part.json")
        part.write_text(json.dumps({"values": self.values, "excluded": self.excluded, "facts": self.facts}))
        os.replace(part, stem.with_suffix(".json"))

    @classmethod
    def load(cls, stem: Path) -> Scores:
        """What `save` wrote; the arrays are read when they are asked for, by `array`."""
        return cls(**json.loads(stem.with_suffix(".json").read_text()))


def array(stem: Path, name: str) -> NDArray | None:
    """One array of saved scores, None where the file had none."""
    with np.load(stem.with_suffix(".npz"), allow_pickle=False) as file:
        return file[name] if name in file.files else None


def saved_keypoints(stem: Path, fps: float) -> Keypoints | None:
    """The keypoints that were found in a video."""
    points, confidence, size = (array(stem, name) for name in ("points", "confidence", "size"))
    if points is None or confidence is None or size is None:
        return None
    return Keypoints(points, confidence, (int(size[0]), int(size[1])), fps)
