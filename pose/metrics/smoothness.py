"""How motion moves, without a reference: jerk, jitter, sliding feet and hands, range of motion.

Letters: F frames, J joints. Positions are centimetres, y up. Compare with the ground truth: motion that is frozen has
no jerk and no sliding, so that less is better only down to the true value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pose.metrics.arrays import Double, finite, known, positive
from pose.rotations import matrix_to_axis_angle

FOOT_HEIGHT = 3.0  # cm above the lowest place of the foot in the clip: a foot in contact; by hand
FOOT_SPEED = 30.0  # cm/s: faster feet step; by hand
HAND_REACH = 10.0  # cm between the wrists' palms: hands that touch or fold; by hand


def speeds(positions: ArrayLike, fps: float) -> Double:
    """(F - 1, J) cm/s of positions (F, J, 3)."""
    positive(fps, "fps")
    values = finite(positions, "positions", dimensions=3, least=2)
    return np.linalg.norm(np.diff(values, axis=0), axis=-1) * fps


def jerk(positions: ArrayLike, fps: float, variant: str = "mean") -> float:
    """Mean length of the third derivative of positions (F, J, 3).

    "mean": in m/s³, as in the GENEA evaluations. "jitter": in 100 m/s³, the unit of TransPose and SmoothSync.
    """
    positive(fps, "fps")
    known(variant, ("mean", "jitter"))
    values = finite(positions, "positions", dimensions=3, least=4)
    mean = np.linalg.norm(np.diff(values, n=3, axis=0), axis=-1).mean() * fps**3 / 100.0
    return float(mean / 100.0 if variant == "jitter" else mean)


def acceleration(positions: ArrayLike, fps: float) -> float:
    """Mean length of the second derivative, m/s²."""
    positive(fps, "fps")
    values = finite(positions, "positions", dimensions=3, least=3)
    return float(np.linalg.norm(np.diff(values, n=2, axis=0), axis=-1).mean() * fps**2 / 100.0)


def foot_sliding(feet: ArrayLike, fps: float) -> float:
    """Mean horizontal speed, cm/s, of feet (F, 2, 3) while they stand: low, and not lifted or set down.

    A foot stands while it is within 3 cm of its lowest place (2nd percentile) and slower than 30 cm/s vertically.
    """
    positive(fps, "fps")
    values = finite(feet, "feet", dimensions=3, least=2)
    floor = np.percentile(values[..., 1], 2, axis=0)
    change = np.diff(values, axis=0) * fps
    stands = (values[1:, :, 1] < floor + FOOT_HEIGHT) & (np.abs(change[..., 1]) < FOOT_SPEED)
    if not stands.any():
        raise ValueError("no foot ever stands: the feet are not in this motion, or it floats")
    return float(np.linalg.norm(change[..., [0, 2]], axis=-1)[stands].mean())


def hand_sliding(hands: ArrayLike, fps: float) -> float:
    """Mean speed, cm/s, of one hand against the other while they touch; `hands` (F, 2, 3) are places of the palms.

    Hands that are folded or hold each other should move as one.
    """
    positive(fps, "fps")
    values = finite(hands, "hands", dimensions=3, least=2)
    between = values[:, 0] - values[:, 1]
    touching = np.linalg.norm(between, axis=-1) < HAND_REACH
    both = touching[1:] & touching[:-1]
    if not both.any():
        raise ValueError("the hands never touch")
    return float((np.linalg.norm(np.diff(between, axis=0), axis=-1) * fps)[both].mean())


def range_of_motion(rotations: ArrayLike) -> float:
    """Degrees: mean over joints of twice the 95th percentile of the angle from the joint's mean rotation.

    `rotations` (F, J, 3, 3) local.
    """
    values = finite(rotations, "rotations", dimensions=4, least=2)
    left, _, right = np.linalg.svd(values.mean(0))
    left[..., -1] *= np.linalg.det(left @ right)[..., None]
    away = np.swapaxes(left @ right, -1, -2) @ values
    angle = np.linalg.norm(matrix_to_axis_angle(away), axis=-1)
    return float(np.degrees(2 * np.percentile(angle, 95, axis=0)).mean())


def gesture_space(wrists: ArrayLike) -> float:
    """Litres: the box of the 5th to 95th percentiles of each wrist's place (F, 2, 3) from the chest, mean of both."""
    values = finite(wrists, "wrists", dimensions=3, least=2)
    low, high = np.percentile(values, [5, 95], axis=0)
    return float((high - low).prod(-1).mean() / 1000.0)
