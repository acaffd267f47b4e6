"""What all datasets are read into: a recording that is listed, and a clip that is loaded.

Letters: F frames, N samples at 16 kHz, D directions, X face parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pose.acoustics import SAMPLE_RATE
from pose.motion import Motion
from pose.textgrid import Interval

Array = NDArray[np.float32]

MINIMUM_S = 1.0  # a clip shorter than this holds no gesture


@dataclass(frozen=True)
class Recording:
    """One take as listed: `split` is train, val, test or additional; `files` by kind ("motion", "sound", "words" …).

    `part` tells the takes of one file apart where a file holds many (a key, a number).
    """

    name: str
    speaker: str
    style: str
    split: str
    files: Mapping[str, Path]
    part: str = ""


@dataclass(frozen=True)
class Clip:
    """One take as loaded: motion and sound start together and end together.

    `motion` on the home skeleton, or None where there are only `directions` (F, D, 3), unit vectors along bones;
    `waveform` (N,) in [-1, 1]; `words` where the dataset aligns them; `semantic` (F,) how much a gesture means there,
    0 to 1; `face` (F, X) face parameters that are not ARKit's; `notes`: the faults that were mended on loading.
    """

    name: str
    speaker: str
    style: str
    split: str
    fps: float
    waveform: Array
    motion: Motion | None = None
    directions: Array | None = None
    words: tuple[Interval, ...] | None = None
    semantic: Array | None = None
    face: Array | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    def __len__(self) -> int:
        held = self.motion if self.motion is not None else self.directions
        assert held is not None
        return len(held)

    @property
    def duration_s(self) -> float:
        return len(self) / self.fps

    def between(self, start_s: float, end_s: float) -> Clip:
        """The stretch from `start_s` to `end_s` or the clip's end; ValueError when it is too short for a gesture."""
        first, last = (min(round(second * self.fps), len(self)) for second in (start_s, end_s))
        if last - first < MINIMUM_S * self.fps:
            raise ValueError(
                f"{self.name}: the clip lasts {self.duration_s:.2f} s, which leaves {(last - first) / self.fps:.2f} s "
                f"between {start_s:g} and {end_s:g} s; expected at least {MINIMUM_S:g} s"
            )
        begin, end = first / self.fps, last / self.fps

        def cut(values: Array | None) -> Array | None:
            return None if values is None else values[first:last]

        words = None if self.words is None else [word for word in self.words if word.end > begin and word.start < end]
        return replace(
            self,
            waveform=self.waveform[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)],
            motion=None if self.motion is None else self.motion[first:last],
            directions=cut(self.directions),
            words=None if words is None else tuple(Interval(w.start - begin, w.end - begin, w.text) for w in words),
            semantic=cut(self.semantic),
            face=cut(self.face),
        )

    def trimmed(self) -> Clip:
        """Cut to the shorter of motion and sound, both from the start; ValueError when too little is left."""
        frames = min(len(self), int(len(self.waveform) / SAMPLE_RATE * self.fps + 1e-6))
        if frames < MINIMUM_S * self.fps:
            raise ValueError(
                f"{self.name}: {len(self) / self.fps:.2f} s of motion and {len(self.waveform) / SAMPLE_RATE:.2f} s of "
                f"sound have less than {MINIMUM_S:g} s in common"
            )
        longer = max(len(self) / self.fps, len(self.waveform) / SAMPLE_RATE) - frames / self.fps
        notes = self.notes
        if longer > 1.0:
            which = "motion" if frames < len(self) else "sound"
            notes = (*notes, f"{which} is {longer:.1f} s longer; its end was cut")
        end = frames / self.fps

        def cut(values: Array | None) -> Array | None:
            return None if values is None else values[:frames]

        return replace(
            self,
            waveform=self.waveform[: round(end * SAMPLE_RATE)],
            motion=None if self.motion is None else self.motion[:frames],
            directions=cut(self.directions),
            words=None if self.words is None else tuple(word for word in self.words if word.start < end),
            semantic=cut(self.semantic),
            face=cut(self.face),
            notes=notes,
        )


def read_sound(path: Path) -> Array:
    """A whole recording as 16 kHz mono float32 (N,)."""
    try:
        sound, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} is not sound that can be read: {error}") from None
    mono = sound.mean(1)
    if len(mono) == 0 or not np.isfinite(mono).all():
        raise ValueError(f"{path} holds {'no' if len(mono) == 0 else 'NaN or infinite'} samples")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return mono.astype(np.float32)


def resampled_curves(values: Array, fps: float, target_fps: float, frames: int) -> Array:
    """Curves (n, X) at `fps` on `frames` frames at `target_fps`, never outside the range of what is given.

    Down: each frame is the mean over its own stretch of time. Up: linear. Past the end the last value holds. (An FFT
    resampler rings: it made coefficients of -0.04 of BEAT's 60 fps blinks.)
    """
    place = np.arange(frames) * (fps / target_fps)
    half = max(fps / target_fps, 1.0) / 2
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, 0, dtype=np.float64)])

    def integral(at: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.clip(at, 0, len(values))
        low = np.minimum(at.astype(int), len(values) - 1)
        return total[low] + (at - low)[:, None] * values[low]

    if half <= 0.5:
        low = np.minimum(place.astype(int), len(values) - 1)
        high = np.minimum(low + 1, len(values) - 1)
        t = np.clip(place - low, 0.0, 1.0)[:, None]
        return (values[low] * (1 - t) + values[high] * t).astype(np.float32)
    start = np.clip(place + 0.5 - half, 0, len(values) - 1e-3)
    end = np.clip(place + 0.5 + half, 1e-3, len(values))
    end = np.maximum(end, start + 1e-3)
    mean = (integral(end) - integral(start)) / (end - start)[:, None]
    return np.clip(mean, values.min(0), values.max(0)).astype(np.float32)


def held_at(fps: float, frames: int, rows: list[tuple[float, float, float]]) -> Array:
    """Stretches (start s, end s, value) as one value a frame (F,), 0 elsewhere."""
    values = np.zeros(frames, np.float32)
    for start, end, value in rows:
        values[max(0, round(start * fps)) : max(0, round(end * fps))] = value
    return values
