"""DiffuseStyleGesture+'s vector on BEAT: 76 blocks of nine numbers, 684; with derivatives 2052, with the face 2205.

Blocks 1 to 75 are the rotation matrices of the 75 joints, row by row. Block 0 is the root's place. The released code
takes the root's position in centimetres for Euler angles in degrees and writes a matrix of them, so that the position
wraps at 360 cm and cannot be had back beyond 90 in its middle angle (`fidelity="released"`). Ours writes the
position itself and six zeros, which keeps the published width; the floored deviation keeps them quiet.
"""

from __future__ import annotations

import numpy as np
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module

from pose.motion import Motion
from pose.representations.joints import HOME_JOINTS
from pose.representations.vectors import DEVIATION_FLOOR, Double, MotionVectors, home_motion, joint_columns
from pose.rotations import euler_to_matrix, matrix_to_euler, sixd_to_matrix

BLOCKS = 1 + len(HOME_JOINTS)


class MatrixVectors(MotionVectors):
    """(F, 684), or 2052 with derivatives, 2205 with the face too. Exact both ways with `fidelity="paper"`."""

    @register_to_config
    def __init__(
        self,
        fps: float = 30.0,
        expression: bool = False,
        derivatives: bool = True,
        deviation_floor: float = DEVIATION_FLOOR,
        fidelity: str = "paper",
    ) -> None:
        super().__init__()
        self._set_up(9 * BLOCKS)

    def body_vectors(self, motion: Motion) -> Double:
        blocks = np.zeros((len(motion), BLOCKS, 9))
        blocks[:, 1:] = motion.rotations[:, joint_columns(motion, HOME_JOINTS)].reshape(len(motion), -1, 9)
        if self.config.fidelity == "released":
            blocks[:, 0] = euler_to_matrix(np.radians(motion.root_position), "XYZ").reshape(-1, 9)
        else:
            blocks[:, 0, :3] = motion.root_position
        return blocks.reshape(len(motion), -1)

    def body_motion(self, vectors: Double) -> Motion:
        blocks = vectors.reshape(len(vectors), BLOCKS, 9)
        root = blocks[:, 0, :3]
        if self.config.fidelity == "released":
            root = np.degrees(matrix_to_euler(_orthogonal(blocks[:, 0]), "XYZ"))
        return home_motion(self.config.fps, _orthogonal(blocks[:, 1:]), root)


def _orthogonal(blocks: Double) -> Double:
    """(…, 9) rows of nearly a rotation to the rotation (…, 3, 3) that Gram-Schmidt makes of its first two columns."""
    matrix = blocks.reshape(*blocks.shape[:-1], 3, 3)
    return sixd_to_matrix(np.concatenate([matrix[..., :, 0], matrix[..., :, 1]], -1))
