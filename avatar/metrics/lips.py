"""Do the lips move with the sound: a measure without weights, from the mouth's opening and the loudness of the voice.

Letters: F frames. It is coarse: vowels differ in opening more than in loudness, and p, b, m close in the middle of
loud speech. Real speakers reach a correlation of about 0.4 (docs/METRICS_VIDEO.md). Read it beside the same mouth
against another recording; SyncNet (avatar/metrics/sync.py) is the published measure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]

MAX_LAG_S = 0.4  # further off, no one takes the sound for the mouth's
# Slower changes are smiles and the pauses that all speech has: on 11 clips of GRID, own sound against the ten others,
# the means differ by 1.8 deviations with 0.6 s, by 1.6 with 1 s, by 1.0 with 5 s.
TREND_S = 0.6
LEAST_S = 1.0


@dataclass(frozen=True)
class LipSync:
    """`correlation` Pearson's r at lag 0; `best` the highest r within the lags and `lag_s` its lag, positive where
    the mouth is late; `lags_s` and `curve` (L,) all of them."""

    correlation: float
    best: float
    lag_s: float
    lags_s: Double
    curve: Double


def lip_sync(
    opening: NDArray[np.floating],  # (F,) any unit, NaN where no face was found
    loudness: NDArray[np.floating],  # (F,) on a scale like decibels, not power
    fps: float,
    max_lag_s: float = MAX_LAG_S,
) -> LipSync:
    """Correlation of mouth opening and loudness, both without their trend (TREND_S).

    Every lag is judged on the same frames of the mouth; frames without a face are left out. ValueError when fewer
    than a second remain or one of the two never changes.
    """
    if opening.shape != loudness.shape or opening.ndim != 1:
        raise ValueError(f"opening and loudness must be (F,) on one clock, got {opening.shape} and {loudness.shape}")
    if not np.isfinite(loudness).all():
        raise ValueError("the loudness holds NaN or infinite values")
    reach = round(max_lag_s * fps)
    inside = np.isfinite(opening)
    inside[:reach] = inside[len(inside) - reach :] = False
    frames = np.flatnonzero(inside)
    if len(frames) < max(LEAST_S * fps, 3):
        raise ValueError(f"only {len(frames)} frames show a face and have sound {max_lag_s:g} s around them")
    mouth, voice = detrended(opening, fps)[frames], detrended(loudness, fps)
    if mouth.std() < 1e-9 or voice[frames].std() < 1e-9:
        raise ValueError("the mouth or the loudness never changes, so nothing can be said of their agreement")
    shifts: NDArray[np.int64] = np.arange(-reach, reach + 1)
    # A mouth that is `shift` frames late does now what the sound did `shift` frames ago.
    curve = np.array([_pearson(mouth, voice[frames - shift]) for shift in shifts])
    top = int(curve.argmax())
    return LipSync(float(curve[reach]), float(curve[top]), float(shifts[top] / fps), shifts / fps, curve)


def detrended(values: NDArray[np.floating], fps: float, window_s: float = TREND_S) -> Double:
    """Values (F,) less their mean over the window around each frame; NaN stays NaN and is left out of the means."""
    width = 2 * round(window_s * fps / 2) + 1
    known = np.isfinite(values)
    kernel = np.ones(width)
    filled = np.where(known, values, 0.0).astype(np.float64)
    half = width // 2
    total, count = (np.convolve(part, kernel)[half : half + len(values)] for part in (filled, known.astype(float)))
    mean: Double = total / np.clip(count, 1, None)
    return np.where(known, values - mean, np.nan)


def _pearson(first: Double, second: Double) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / max(float(np.sqrt((first @ first) * (second @ second))), 1e-12))
