"""Where speech is stressed and where it pauses, from the features of `pose.speech`.

Letters: F frames of a window, S parts of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]

NEIGHBOURHOOD_S = 1.2  # a syllable is prominent against the others this near


@dataclass(frozen=True)
class Stress:
    """A syllable: `time_s` of its loudest moment in the recording, `strength` about 0 for an average one, 1 for a
    clearly stressed one."""

    time_s: float
    strength: float


def gaussian_smooth(values: Double, sigma: float) -> Double:
    """Along axis 0 with edges held; `sigma` in steps of that axis. Looks at most 3 sigma ahead and behind."""
    if sigma <= 0.05:
        return values
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.concatenate([np.repeat(values[:1], radius, 0), values, np.repeat(values[-1:], radius, 0)])
    return np.asarray(sum(weight * padded[i : i + len(values)] for i, weight in enumerate(kernel)))


def find_stresses(blocks: dict[str, NDArray[np.float32]], fps: float, first_frame: int) -> list[Stress]:
    """The syllables in a window of features that begins at `first_frame`, in order of time.

    A syllable is a peak of loudness after smoothing over 70 ms. Its strength adds up how much louder it is than the
    syllables around it, how sharply it sets in, how high its pitch is and how far above its valleys it stands
    (loudness, pitch and length are the correlates of stress; Terken and Hermes 2000). Within about 1.5 s of the
    ends of the window strengths are less sure.
    """
    fine = 0.7 * blocks["formants"].astype(np.float64) + 0.3 * blocks["fine"]
    parts = fine.shape[1]
    rate = fps * parts
    # Loudness in decibels is flat along running speech; its exponential shows the syllables (13 dB to a factor of e).
    envelope = gaussian_smooth(np.exp(3.0 * (fine.reshape(-1) - 1.0)), 0.03 * rate)
    peaks = np.flatnonzero((envelope[1:-1] > envelope[:-2]) & (envelope[1:-1] >= envelope[2:])) + 1
    peaks = peaks[envelope[peaks] > 0.1]
    reach = max(1, round(0.18 * rate))
    kept: list[int] = []
    for peak in peaks:  # a peak must stand out from the valleys on both sides, else it belongs to its neighbour
        left = envelope[max(0, peak - reach) : peak + 1].min()
        right = envelope[peak : peak + reach + 1].min()
        if max(left, right) > 0.9 * envelope[peak]:
            continue
        if kept and peak - kept[-1] < 0.11 * rate:
            if envelope[peak] > envelope[kept[-1]]:
                kept[-1] = int(peak)
            continue
        kept.append(int(peak))
    if not kept:
        return []
    index = np.array(kept)
    frame = np.minimum(index // parts, len(fine) - 1)
    onset = blocks["onset"][:, 0].astype(np.float64)
    pitch = blocks["pitch"][:, 0].astype(np.float64)
    voicing = blocks["voicing"][:, 0].astype(np.float64)
    back = max(1, round(0.12 * fps))
    sharp = np.array([onset[max(0, f - back) : f + 1].max() for f in frame])
    high = np.array([np.max(pitch[max(0, f - 1) : f + 2] * (voicing[max(0, f - 1) : f + 2] > 0.3)) for f in frame])
    loud = envelope[index]
    wide = max(1, round(0.1 * rate))
    broad = np.array([envelope[max(0, i - wide) : i + wide + 1].mean() for i in index])

    time = (first_frame + (index + 0.5) / parts) / fps
    near = np.abs(time[:, None] - time[None]) <= NEIGHBOURHOOD_S
    weight = near / near.sum(1, keepdims=True)

    def relative(values: Double) -> Double:
        return values - weight @ values

    strength = 1.6 * relative(loud) + 2.0 * relative(broad) + 1.2 * relative(sharp) + 0.08 * relative(high)
    return [Stress(float(t), float(s)) for t, s in zip(time, np.clip(strength, -2.0, 2.0), strict=True)]
