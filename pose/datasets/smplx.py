"""What BEAT2 and SHOW share: SMPL-X poses of 55 joints as motion of the home skeleton.

The licensed body model is not needed: both rest poses are T-poses with identity rotations, so that joints are matched
by orientation (`pose.representations.joints.SmplxVectors`); lengths are home's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.motion import Motion
from pose.representations.joints import SmplxVectors

JAW = slice(66, 69)  # of the 165 numbers of a pose


def smplx_motion(
    poses: ArrayLike,  # (F, 165) axis angles in SMPL-X's order
    translation: ArrayLike,  # (F, 3) metres
    fps: float,
) -> Motion:
    """The body's motion. The root is moved by the translation, with the first frame's height at home's hips."""
    poses, translation = np.asarray(poses, np.float64), np.asarray(translation, np.float64)
    if poses.ndim != 2 or poses.shape[1] != 165 or translation.shape != (len(poses), 3):
        raise ValueError(f"poses must be (F, 165) and translation (F, 3), got {poses.shape} and {translation.shape}")
    if not (np.isfinite(poses).all() and np.isfinite(translation).all()):
        raise ValueError("poses or translation hold NaN or infinite values")
    body = SmplxVectors(fps=fps).motion(poses)
    travel = 100.0 * (translation - translation[:1] * (0, 1, 0))
    root = travel + body.root_position[:1] * (0, 1, 0)
    return Motion(fps, body.skeleton, body.rotations, root.astype(np.float32))


def smplx_face(poses: ArrayLike, expression: ArrayLike, frames: int) -> NDArray[np.float32]:
    """(F, 3 + X): the jaw's axis angle and the expression parameters."""
    parts = [np.asarray(poses)[:frames, JAW], np.asarray(expression)[:frames]]
    face = np.concatenate(parts, 1).astype(np.float32)
    if not np.isfinite(face).all():
        raise ValueError("the face parameters hold NaN or infinite values")
    return face
