"""Controls that show whether a number means anything: mismatched audio, lag between speech and movement, resampling.

Letters: F frames, N samples, K files. A score that stays where it is when the same motion is put beside another
person's speech says nothing about speech.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from pose.acoustics import SAMPLE_RATE
from pose.metrics.arrays import Double, finite

REACH_S = 1.5  # of the lag; a gesture's stroke is rarely further from its word


def mismatched(speakers: Sequence[str], seed: int = 0) -> list[int]:
    """For each of K files another file whose speech it gets, of another speaker wherever that is possible.

    A permutation, so that every recording is heard once. ValueError for a single file.
    """
    count = len(speakers)
    if count < 2:
        raise ValueError(f"mismatched audio needs at least 2 files, got {count}")
    random = np.random.default_rng([seed, count])
    names = np.array(speakers, object)
    # Sorted by speaker and moved on by the size of the largest group, nobody meets their own speaker if any order can.
    order = random.permutation(count)
    order = order[np.argsort(names[order], kind="stable")]
    largest = int(np.unique(names.astype(str), return_counts=True)[1].max())
    moved = np.roll(order, -(largest % count or 1))
    result = np.empty(count, int)
    result[order] = moved
    return result.tolist()


def fitted(waveform: ArrayLike, samples: int) -> Double:
    """A waveform (N,) repeated or cut to a number of samples: another file's speech for this file's motion."""
    values = finite(waveform, "waveform", dimensions=1)
    return np.resize(values, samples)


def loudness(waveform: ArrayLike, frames: int, fps: float) -> Double:
    """(F,) decibels of a 16 kHz waveform (N,) in the frames of a motion, floor 60 dB below the loudest frame."""
    values = finite(waveform, "waveform", dimensions=1)
    edges = np.round(np.arange(frames + 1) * SAMPLE_RATE / fps).astype(int)
    power = np.concatenate([[0.0], np.cumsum(values**2)])[np.minimum(edges, len(values))]
    power = np.diff(power) / np.maximum(np.diff(edges), 1)
    if not power.max() > 0:
        raise ValueError("the sound is silent")
    return 10.0 * np.log10(np.maximum(power / power.max(), 1e-6))


def speech_lag(loud: ArrayLike, movement: ArrayLike, fps: float) -> tuple[float, float]:
    """Largest correlation of loudness (F,) and movement (F,) within 1.5 s, and where it lies, in seconds.

    Movement that comes after its speech has a positive lag. `movement` is for instance the speed of the wrists or the
    opening of the mouth; slow changes over seconds are taken away from both. 0 lag and a correlation well above that
    of mismatched audio mean that speech moves the body.
    """
    a, b = finite(loud, "loudness", dimensions=1), finite(movement, "movement", dimensions=1)
    if len(a) != len(b):
        raise ValueError(f"loudness and movement must have the same frames, got {len(a)} and {len(b)}")
    reach = int(round(REACH_S * fps))
    if len(a) < 4 * reach:
        raise ValueError(f"{len(a)} frames are too few for a lag of {reach}; at least {4 * reach}")
    a, b = _quick(a, fps), _quick(b, fps)
    if a.std() < 1e-9 or b.std() < 1e-9:
        raise ValueError("loudness or movement is constant: no correlation")
    scores = []
    for lag in range(-reach, reach + 1):
        x, y = (a[: len(a) - lag], b[lag:]) if lag >= 0 else (a[-lag:], b[:lag])
        scores.append(np.corrcoef(x, y)[0, 1])
    best = int(np.argmax(scores))
    return float(scores[best]), (best - reach) / fps


def bootstrap_interval(
    count: int, statistic: Callable[[np.ndarray], float], draws: int = 500, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile confidence interval of a statistic of files: `statistic` gets `count` numbers of files drawn anew."""
    if count < 2:
        raise ValueError(f"an interval needs at least 2 files, got {count}")
    random = np.random.default_rng([seed, count])
    values = [statistic(random.integers(count, size=count)) for _ in range(draws)]
    low, high = np.nanpercentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _quick(values: Double, fps: float) -> Double:
    """Less its mean over four seconds around."""
    width = int(4 * fps) | 1
    padded = np.pad(values, width // 2, mode="reflect") if len(values) > width // 2 else values
    if len(padded) == len(values):
        return values - values.mean()
    sums = np.concatenate([[0.0], np.cumsum(padded)])
    return values - (sums[width:] - sums[:-width]) / width
