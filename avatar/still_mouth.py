"""Keypoints of a face whose mouth rests as in the photo while the head moves: for a prior that leaves lips to sound.

Letters: F frames, P face points that talking leaves alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avatar.warp.body import RIGID_FACE
from pose.keypoints import FACE, LEFT_EYE_UPPER, RIGHT_EYE_UPPER, Keypoints

Array = NDArray[np.float32]

NOSE_BASE = FACE.start + 2
# Bone under thin skin: the outline above the jaw, all corners of the eyes, and the ridge of the nose, which stands out
# of the plane of the others and so tells turns.
STEADY = [FACE.start + i for i in (*RIGID_FACE, 133, 362, 6, 197, 195, 5, 4, 1)]
# ours: from eyes (0) to the end of the nose (1), what is above the first stays the frame's own, below the second is at
# rest, so that nothing jumps between.
OWN, AT_REST = 0.5, 0.95


def still_mouth(
    keypoints: Keypoints,
    reference: Keypoints,  # one frame, the photo's own
    depth: Array,  # (543,) of the photo, as in `Detection`
) -> Keypoints:
    """The same keypoints with the photo's lips, jaw and chin, carried by the least-squares affine map, of the photo's
    face in depth to each frame, of points that talking leaves alone.

    Frames and photos whose face is not known are left as they are.
    """
    if len(reference) != 1 or np.shape(depth) != reference.points.shape[1:2]:
        raise ValueError(f"expected one reference frame and depth (543,), got {len(reference)} and {np.shape(depth)}")
    seen = (keypoints.confidence[:, FACE] > 0).all(1)
    if not seen.any() or not (reference.confidence[0, FACE] > 0).all():
        return keypoints
    own = reference.points[0].astype(np.float64)
    solid = np.column_stack([own, depth, np.ones(len(own))])  # (543, 4)
    fit = np.linalg.pinv(solid[STEADY]) @ keypoints.points[:, STEADY].astype(np.float64)  # (F, 4, 2)
    carried = solid[FACE] @ fit  # (F, 478, 2)

    # Down the face in the photo; of a turned head the nose stands out to a side, which does not count.
    right, left = own[FACE.start + RIGHT_EYE_UPPER[0]], own[FACE.start + LEFT_EYE_UPPER[0]]
    across, down = left - right, own[NOSE_BASE] - (right + left) / 2
    down = down - (down @ across) / max(float(across @ across), 1e-6) * across
    height = (own[FACE] - (right + left) / 2) @ down / max(float(down @ down), 1e-6)
    rest = np.clip((height - OWN) / (AT_REST - OWN), 0, 1)[:, None]

    points = keypoints.points.copy()
    points[:, FACE] += seen[:, None, None] * rest * (carried - points[:, FACE])
    return replace(keypoints, points=points)
