"""DiffuseStyleGesture's vector on ZeroEGGS, 1141 numbers: pose and speeds seen from a root that faces the audience.

    0:13      root: position (3) cm, quaternion w x y z (4), velocity (3) cm/s, turning (3) rad/s, seen from itself
    13:238    75 x 3 position of each joint from its parent, of the first from the root, cm
    238:688   75 x 6 rotation of each joint: its x axis, then its y axis
    688:913   75 x 3 velocities of those positions, cm/s
    913:1138  75 x 3 turning of those rotations, rad/s
    1138:1141 direction of the gaze seen from the root

The root is the point of the floor under Spine2 and turns about the vertical only, with the chest, smoothed over a
second (Ghorbani et al. 2022, section 3). The gaze here is the head's own forward direction.
"""

from __future__ import annotations

import numpy as np
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module
from scipy.signal import savgol_filter
from torch import Tensor

from pose.motion import Motion
from pose.representations.joints import HOME_JOINTS
from pose.representations.vectors import DEVIATION_FLOOR, Double, MotionVectors, home_motion, joint_columns
from pose.rotations import (
    euler_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    matrix_to_sixd,
    quaternion_to_matrix,
    sixd_to_matrix,
)

JOINTS = len(HOME_JOINTS)
_POSITIONS, _ROTATIONS, _SPEEDS, _TURNS = 13, 13 + 3 * JOINTS, 13 + 9 * JOINTS, 13 + 12 * JOINTS
DIM = 16 + 15 * JOINTS


class RootSpaceVectors(MotionVectors):
    """(F, 1141). Exact both ways for motion whose bones do not slide: bone lengths are the skeleton's own.

    The joint positions of a generated vector are read only for the first joint; released code reads all, and bones
    stretch (`fidelity="released"`: they come back as `Motion.translations`).
    """

    @register_to_config
    def __init__(
        self,
        fps: float = 20.0,
        expression: bool = False,
        derivatives: bool = False,
        deviation_floor: float = DEVIATION_FLOOR,
        fidelity: str = "paper",
    ) -> None:
        super().__init__()
        self._set_up(DIM)

    @property
    def pose_channels(self) -> Tensor:
        channels = super().pose_channels
        channels[7:_POSITIONS] = False
        channels[_SPEEDS : DIM - 3] = False
        return channels

    def body_vectors(self, motion: Motion) -> Double:
        columns = joint_columns(motion, HOME_JOINTS)
        if columns != list(range(JOINTS)):
            raise ValueError(
                "these vectors need the 75 joints in the order of the home skeleton; map the motion to it"
            )
        frames, skeleton = len(motion), motion.skeleton
        local = motion.rotations.astype(np.float64)
        positions, world = skeleton.forward_kinematics(local, motion.root_position, motion.translations)
        # 1. Root
        chest = skeleton.index("Spine2")
        root = positions[:, chest] * [1.0, 0.0, 1.0]
        turned = _facing(world[:, chest], self.config.fps)  # (F, 3, 3)
        back = np.swapaxes(turned, -1, -2)
        # 2. Pose, the first joint seen from the root
        offsets = skeleton.offsets if motion.translations is None else motion.translations
        places: Double = np.array(np.broadcast_to(offsets, (frames, JOINTS, 3)), np.float64)
        places[:, 0] = np.einsum("fab,fb->fa", back, positions[:, 0] - root)
        local[:, 0] = back @ local[:, 0]
        gaze = np.einsum("fab,fb->fa", back, world[:, skeleton.index("Head"), :, 2])
        # 3. Speeds
        root_speed = np.einsum("fab,fb->fa", back, _rate(root, self.config.fps))
        parts = [
            root, matrix_to_quaternion(turned), root_speed, _turning(turned, self.config.fps),
            places, matrix_to_sixd(local), _rate(places, self.config.fps), _turning(local, self.config.fps), gaze,
        ]  # fmt: skip
        return np.concatenate([part.reshape(frames, -1) for part in parts], -1)

    def body_motion(self, vectors: Double) -> Motion:
        frames = len(vectors)
        turned = quaternion_to_matrix(vectors[:, 3:7])
        turned = euler_to_matrix(np.arctan2(turned[:, 0, 2], turned[:, 2, 2])[:, None], "Y")  # the upright part alone
        places = vectors[:, _POSITIONS:_ROTATIONS].reshape(frames, JOINTS, 3)
        rotations = sixd_to_matrix(vectors[:, _ROTATIONS:_SPEEDS].reshape(frames, JOINTS, 6))
        rotations[:, 0] = turned @ rotations[:, 0]
        root_position = vectors[:, :3] * [1.0, 0.0, 1.0] + np.einsum("fab,fb->fa", turned, places[:, 0])
        motion = home_motion(self.config.fps, rotations, root_position)
        if self.config.fidelity == "released":
            translations = places.astype(np.float32)
            return Motion(motion.fps, motion.skeleton, motion.rotations, motion.root_position, None, translations)
        return motion


def _facing(chest: Double, fps: float) -> Double:
    """Global rotations of the chest (F, 3, 3) to turns about the vertical (F, 3, 3), smoothed over about a second."""
    forward = chest[:, :, 2] * [1.0, 0.0, 1.0]
    window = min(2 * round(fps / 2) + 1, (len(chest) - 1) // 2 * 2 + 1)
    if window > 3:
        forward = savgol_filter(forward, window, 2, axis=0)
    return euler_to_matrix(np.arctan2(forward[:, 0], forward[:, 2])[:, None], "Y")


def _rate(values: Double, fps: float) -> Double:
    """Change a second from the frame before; the first frame takes the second's."""
    if len(values) < 2:
        return np.zeros_like(values)
    change = np.diff(values, axis=0) * fps
    return np.concatenate([change[:1], change])


def _turning(rotations: Double, fps: float) -> Double:
    """Rotations (F, …, 3, 3) to their turning (F, …, 3), rad/s from the frame before; the first has the second's."""
    if len(rotations) < 2:
        return np.zeros(rotations.shape[:-1])
    turn = matrix_to_axis_angle(rotations[1:] @ np.swapaxes(rotations[:-1], -1, -2)) * fps
    return np.concatenate([turn[:1], turn])
