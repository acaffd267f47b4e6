"""Values between frames without a kink: place, speed and acceleration go on smoothly through every frame.

Straight lines between frames kink at each of them: motion at 15 fps drawn at 30 in straight lines has four times its
own jerk. Here a polynomial of degree 5 joins two frames; its speed and acceleration there are those of the polynomial
of degree 4 through five frames, so that it depends on two frames before and two after, and a stream needs no more.
Letters: F frames, n places, J joints.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose.rotations import matrix_to_quaternion, quaternion_to_matrix

Double = NDArray[np.float64]

BEFORE, AFTER = 2, 3  # frames that count, before and after the frame at or before a place

# By powers of t in [0, 1] (columns): the quintic Hermite polynomials of value, speed and acceleration at t = 0, then
# at t = 1.
_HERMITE = np.array([
    [1, 0, 0, -10, 15, -6], [0, 1, 0, -6, 8, -3], [0, 0, 0.5, -1.5, 1.5, -0.5],
    [0, 0, 0, 10, -15, 6], [0, 0, 0, -4, 7, -3], [0, 0, 0, 0.5, -1, 0.5],
])  # fmt: skip
_SPEED = np.array([1, -8, 0, 8, -1]) / 12.0  # central differences of five frames, of order 4
_ACCELERATION = np.array([-1, 16, -30, 16, -1]) / 12.0


def _powers_to_weights() -> Double:
    """(6 powers of t, 6 frames)."""
    ends = []
    for first in (0, 1):  # of the five frames about t = 0, then about t = 1
        value, speed, acceleration = np.zeros((3, 6))
        value[BEFORE + first] = 1
        speed[first : first + 5], acceleration[first : first + 5] = _SPEED, _ACCELERATION
        ends += [value, speed, acceleration]
    return _HERMITE.T @ np.stack(ends)


_WEIGHTS = _powers_to_weights()


def between(values: NDArray, places: NDArray) -> Double:
    """`values` (F, …) at `places` (n,), in frames from 0 to F - 1; beyond the ends they go on in
    straight lines.

    Exact at whole places and for polynomials up to degree 4; overshoots at jumps.
    """
    values, places = np.asarray(values, np.float64), np.asarray(places, np.float64)
    last = len(values) - 1
    if last < 0 or (len(places) and not (places.min() >= 0 and places.max() <= last)):
        raise ValueError(f"places must be from 0 to {last}, the last frame; got {places.min()} to {places.max()}")
    first = np.minimum(places.astype(int), max(last - 1, 0))
    weights = (places - first)[:, None] ** np.arange(6) @ _WEIGHTS
    steps = (values[1] - values[0], values[-1] - values[-2]) if last else (values[0] * 0, values[0] * 0)
    extended = np.concatenate([
        np.stack([values[0] - k * steps[0] for k in range(BEFORE, 0, -1)]),
        values,
        np.stack([values[-1] + k * steps[1] for k in range(1, AFTER + 1)]),
    ])  # fmt: skip
    result = np.zeros((len(places), *values.shape[1:]))
    for column in range(BEFORE + 1 + AFTER):
        result += weights[:, column].reshape(-1, *[1] * (values.ndim - 1)) * extended[first + column]
    return result


def rotations_between(rotations: NDArray, places: NDArray) -> Double:
    """(F, J, 3, 3) at `places` (n,): quaternions, each on the side of the one before, through `between`."""
    quaternions = matrix_to_quaternion(rotations)
    same_side = (quaternions[1:] * quaternions[:-1]).sum(-1, keepdims=True) >= 0
    quaternions[1:] *= np.cumprod(np.where(same_side, 1.0, -1.0), axis=0)
    return quaternion_to_matrix(between(quaternions, places))
