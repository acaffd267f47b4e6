"""Joint rotations as numbers: Euler angles, axis-angle or 6D, for all joints or some; SMPL-X's 165.

Letters: F frames, J joints of the representation, n numbers a rotation.
"""

from __future__ import annotations

import numpy as np
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module

from pose.motion import Motion
from pose.representations.vectors import DEVIATION_FLOOR, Double, MotionVectors, home_motion, joint_columns
from pose.rotations import (
    axis_angle_to_matrix,
    euler_to_matrix,
    matrix_to_axis_angle,
    matrix_to_euler,
    matrix_to_sixd,
    sixd_to_matrix,
)
from pose.skeleton import Skeleton

NOTATIONS = {"euler": 3, "axis_angle": 3, "sixd": 6}  # and their numbers a rotation
HOME_JOINTS = Skeleton.home().names

_ARM = ("Shoulder", "Arm", "ForeArm", "Hand")
_FINGERS = (
    *(f"Middle{k}" for k in (1, 2, 3)), "Ring", *(f"Ring{k}" for k in (1, 2, 3)), "Pinky",
    *(f"Pinky{k}" for k in (1, 2, 3)), "Index", *(f"Index{k}" for k in (1, 2, 3)), *(f"Thumb{k}" for k in (1, 2, 3)),
)  # fmt: skip
# The 47 joints of BEAT's 141-d vector, in its order; the head itself and the legs are not among them.
BEAT_JOINTS = ("Spine", "Neck", "Neck1") + tuple(
    side + name for side in ("Right", "Left") for name in (*_ARM, *(f"Hand{finger}" for finger in _FINGERS))
)


class JointVectors(MotionVectors):
    """Local rotations of `joints`, by name on any skeleton, and with `root` the position of the root first, in cm.

    Exact both ways for what it holds; joints that it does not hold stay at rest, the root on its place. "euler" is
    X, Y, Z in degrees as in BEAT's files, wrapped: the files go on counting beyond 180.
    """

    @register_to_config
    def __init__(
        self,
        fps: float = 30.0,
        joints: tuple[str, ...] = HOME_JOINTS,
        notation: str = "sixd",
        root: bool = True,
        expression: bool = False,
        derivatives: bool = False,
        deviation_floor: float = DEVIATION_FLOOR,
        fidelity: str = "paper",
    ) -> None:
        super().__init__()
        if notation not in NOTATIONS:
            raise ValueError(f"notation must be one of {', '.join(NOTATIONS)}, got {notation!r}")
        unknown = [name for name in joints if name not in HOME_JOINTS]
        if unknown or not joints:
            raise ValueError(f"joints must be names of the home skeleton, at least one; unknown: {', '.join(unknown)}")
        self._set_up(NOTATIONS[notation] * len(joints) + 3 * root)

    @classmethod
    def beat_euler(cls, fps: float = 15.0, expression: bool = False) -> JointVectors:
        """BEAT's 141 numbers: 47 joints, degrees. A floor of 0.1° for its many still channels."""
        return cls(fps, BEAT_JOINTS, "euler", root=False, expression=expression, deviation_floor=0.1)

    @classmethod
    def beat_axis_angle(cls, fps: float = 15.0, expression: bool = False) -> JointVectors:
        """141 numbers as DiffSHEG writes them: no angle that wraps."""
        return cls(fps, BEAT_JOINTS, "axis_angle", root=False, expression=expression)

    def body_vectors(self, motion: Motion) -> Double:
        local = motion.rotations[:, joint_columns(motion, self.config.joints)]
        if self.config.notation == "euler":
            values = np.degrees(matrix_to_euler(local, "XYZ"))
        elif self.config.notation == "axis_angle":
            values = matrix_to_axis_angle(local)
        else:
            values = matrix_to_sixd(local)
        values = values.reshape(len(motion), -1)
        return np.concatenate([motion.root_position, values], 1) if self.config.root else values

    def body_motion(self, vectors: Double) -> Motion:
        root, values = (vectors[:, :3], vectors[:, 3:]) if self.config.root else (None, vectors)
        values = values.reshape(len(values), len(self.config.joints), -1)
        if self.config.notation == "euler":
            local = euler_to_matrix(np.radians(values), "XYZ")
        elif self.config.notation == "axis_angle":
            local = axis_angle_to_matrix(values)
        else:
            local = sixd_to_matrix(values)
        rotations = Skeleton.home().rest_rotations(len(values)).astype(np.float64)
        rotations[:, [HOME_JOINTS.index(name) for name in self.config.joints]] = local
        return home_motion(self.config.fps, rotations, root)


# SMPL-X's 55 joints in the order of BEAT2's `poses`, and which joint of the home skeleton has the same orientation.
# Jaw and eyes have none: they are in the face coefficients.
_SMPLX_BODY = (
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine3",
    "LeftForeFoot", "RightForeFoot", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm",
    "LeftForeArm", "RightForeArm", "LeftHand", "RightHand",
)  # fmt: skip
SMPLX_JOINTS: tuple[str | None, ...] = (
    *_SMPLX_BODY, None, None, None,
    *(f"{side}Hand{finger}{k}" for side in ("Left", "Right")
      for finger in ("Index", "Middle", "Pinky", "Ring", "Thumb") for k in (1, 2, 3)),
)  # fmt: skip
SMPLX_PARENTS = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15,
    20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38,
    21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53,
)  # fmt: skip


class SmplxVectors(MotionVectors):
    """SMPL-X's 165 numbers: axis-angle of 55 joints, root first; no translation, jaw and eyes zero.

    Both rest poses are T-poses with identity rotations, so joints are matched by their global orientation: SMPL-X has
    one spine joint and one neck joint less and no bones inside the palm. 165 to motion to 165 is exact but for jaw and
    eyes; the other way loses how the bend is spread over the joints SMPL-X lacks.
    """

    @register_to_config
    def __init__(
        self,
        fps: float = 30.0,
        expression: bool = False,
        derivatives: bool = False,
        deviation_floor: float = DEVIATION_FLOOR,
        fidelity: str = "paper",
    ) -> None:
        super().__init__()
        self._set_up(3 * len(SMPLX_JOINTS))

    def body_vectors(self, motion: Motion) -> Double:
        shared = [joint for joint, name in enumerate(SMPLX_JOINTS) if name is not None]
        columns = joint_columns(motion, [name for name in SMPLX_JOINTS if name is not None])
        world = np.tile(np.eye(3), (len(motion), len(SMPLX_JOINTS), 1, 1))
        world[:, shared] = motion.skeleton.global_rotations(motion.rotations)[:, columns]
        local = world.copy()
        for joint in shared[1:]:
            local[:, joint] = np.swapaxes(world[:, SMPLX_PARENTS[joint]], -1, -2) @ world[:, joint]
        return matrix_to_axis_angle(local).reshape(len(motion), -1)

    def body_motion(self, vectors: Double) -> Motion:
        local = axis_angle_to_matrix(vectors.reshape(len(vectors), len(SMPLX_JOINTS), 3))
        # A joint that SMPL-X lacks follows its parent, so every shared joint keeps its own local rotation.
        rotations = Skeleton.home().rest_rotations(len(vectors)).astype(np.float64)
        for joint, name in enumerate(SMPLX_JOINTS):
            if name is not None:
                rotations[:, HOME_JOINTS.index(name)] = local[:, joint]
        return home_motion(self.config.fps, rotations)
