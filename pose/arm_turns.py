"""Arms of 2D keypoints turned at shoulder, elbow and wrist, in the plane of the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose.keypoints import HANDS

ARMS = {"left": (5, 7, 9), "right": (6, 8, 10)}  # body points of shoulder, elbow, wrist


def turned_arms(
    points: NDArray[np.float32],  # (543, 2)
    angles: NDArray[np.floating],  # (2, 3) radians: left, right; shoulder, elbow, wrist; positive is outward and up
) -> NDArray[np.float32]:
    """Points (543, 2) with both arms turned; every joint takes along what hangs on it."""
    points = points.astype(np.float64)
    for (side, (shoulder, elbow, wrist)), turns in zip(ARMS.items(), np.asarray(angles, np.float64), strict=True):
        hand = list(range(HANDS[side].start, HANDS[side].stop))
        outward = -1.0 if side == "left" else 1.0
        chain = ((shoulder, [elbow, wrist, *hand]), (elbow, [wrist, *hand]), (wrist, hand))
        for angle, (pivot, moved) in zip(turns, chain, strict=True):
            cos, sin = np.cos(outward * angle), np.sin(outward * angle)
            turn = np.array([[cos, -sin], [sin, cos]])
            points[moved] = points[pivot] + (points[moved] - points[pivot]) @ turn.T
    return points.astype(np.float32)
