"""What moves when nothing is meant: smooth noise, breathing, the shifting of weight.

Everything here is a function of time and seed alone, never of a state: any range of frames can be asked for.
Letters: F frames, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]


def hashed_normals(seed: int, channel: int, index: NDArray[np.int64]) -> Double:
    """Standard normal numbers that depend on (seed, channel, index) alone; SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        state = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state += np.uint64((seed * 0xD1342543DE82EF95 + channel * 0xA0761D6478BD642F + 0x632BE59BD9B4E019) % 2**64)

        def mixed(x: NDArray[np.uint64]) -> Double:
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53

        radius = np.sqrt(-2.0 * np.log(np.maximum(mixed(state), 1e-12)))
        return radius * np.cos(2.0 * np.pi * mixed(state + np.uint64(0x5851F42D4C957F2D)))


def smooth_noise(seed: int, channel: int, time: Double, period_s: float) -> Double:
    """Noise of unit variance whose swings last about `period_s`, (F,): a cubic B-spline over random knots.

    It never repeats and its acceleration has no steps.
    """
    place = time / (0.5 * period_s)
    knot = np.floor(place).astype(np.int64)
    low, high = int(knot.min()), int(knot.max())
    values = hashed_normals(seed, channel, np.arange(low, high + 4))
    knot, place = knot - low, place - low
    t = place - knot
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    total = sum(w * values[knot + i] for i, w in enumerate(weights))
    return np.asarray(total) / 0.69  # the root of the mean over t of the summed squared weights


def smoothstep(x: Double) -> Double:
    """0 below 0, 1 above 1, minimum jerk between (10 x³ - 15 x⁴ + 6 x⁵; Flash and Hogan 1985)."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10.0 + x * (-15.0 + 6.0 * x))


def breathing(seed: int, time: Double) -> Double:
    """Height of the chest in [-1, 1] over time: 13 to 17 breaths a minute, in a little faster than out, uneven."""
    rate = 0.25 + 0.02 * float(hashed_normals(seed, 90, np.array([0]))[0].clip(-1.5, 1.5))
    phase = 2 * np.pi * rate * time + 0.9 * smooth_noise(seed, 91, time, 9.0)
    depth = 1.0 + 0.2 * smooth_noise(seed, 92, time, 8.0)
    return np.clip(depth * np.sin(phase + 0.35 * np.sin(phase)), -1.4, 1.4)
