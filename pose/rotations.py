"""Rotations of 3D space in six notations, on NumPy arrays with any leading shape.

The common form is the matrix, (..., 3, 3), acting on column vectors: `v' = R @ v`, `A @ B` applies B first.
Notations: axis-angle (..., 3), the unit axis times the angle; quaternion (..., 4) as w, x, y, z; 6D (..., 6), the
first two columns of the matrix one after the other (Zhou et al. 2019, "On the Continuity of Rotation Representations
in Neural Networks", section 4.2); Euler angles (..., n), intrinsic, one for each letter of the order: "ZXY" means
Rz(a0) @ Rx(a1) @ Ry(a2), which is how BVH reads its channels from left to right.
All angles are radians. Results are float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_AXES = {"X": 0, "Y": 1, "Z": 2}


def _trailing(value: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    array = np.asarray(value, np.float64)
    if array.shape[-len(shape) :] != shape:
        raise ValueError(f"{name} must end in {shape}, got {array.shape}")
    return array


def normalized(vectors: ArrayLike, epsilon: float = 1e-12) -> Array:
    """Unit vectors along the last axis; a vector shorter than `epsilon` stays as it is, divided by `epsilon`."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), epsilon)


def axis_angle_to_matrix(axis_angle: ArrayLike) -> Array:
    """(..., 3) to (..., 3, 3) by Rodrigues' formula; exact at angle 0."""
    vector = _trailing(axis_angle, (3,), "axis_angle")
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    cross = np.zeros((*vector.shape, 3))
    x, y, z = np.moveaxis(vector, -1, 0)
    cross[..., 0, 1], cross[..., 0, 2], cross[..., 1, 2] = -z, y, -x
    cross[..., 1, 0], cross[..., 2, 0], cross[..., 2, 1] = z, -y, x
    # sin(t)/t and (1 - cos t)/t² as sinc, which is defined at 0.
    linear = np.sinc(angle / np.pi)
    square = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + linear * cross + square * (cross @ cross)


def matrix_to_axis_angle(matrix: ArrayLike) -> Array:
    """(..., 3, 3) to (..., 3) with angles in [0, π]."""
    quaternion = matrix_to_quaternion(matrix)
    vector = quaternion[..., 1:]
    sine = np.linalg.norm(vector, axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., :1])
    # angle / sine tends to 2 where the rotation vanishes.
    return vector * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)


def quaternion_to_matrix(quaternion: ArrayLike) -> Array:
    """(..., 4) as w, x, y, z, of any positive length, to (..., 3, 3)."""
    w, x, y, z = np.moveaxis(normalized(_trailing(quaternion, (4,), "quaternion")), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def matrix_to_quaternion(matrix: ArrayLike) -> Array:
    """(..., 3, 3) to unit (..., 4) as w, x, y, z with w >= 0."""
    m = _trailing(matrix, (3, 3), "matrix")
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    # Row i is the quaternion times four times its component i: the row of the largest component is well conditioned.
    candidates = np.stack(
        [
            np.stack([1 + xx + yy + zz, wx, wy, wz], -1),
            np.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
            np.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
            np.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    largest = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), -1)
    quaternion = normalized(np.take_along_axis(candidates, largest[..., None, None], -2)[..., 0, :])
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def sixd_to_matrix(sixd: ArrayLike) -> Array:
    """(..., 6), any two independent vectors, to (..., 3, 3) by Gram-Schmidt (Zhou et al., eq. 15)."""
    sixd = _trailing(sixd, (6,), "sixd")
    first = normalized(sixd[..., :3])
    second = sixd[..., 3:] - (first * sixd[..., 3:]).sum(-1, keepdims=True) * first
    second = normalized(second)
    return np.stack([first, second, np.cross(first, second)], -1)


def matrix_to_sixd(matrix: ArrayLike) -> Array:
    """(..., 3, 3) to (..., 6): the first column, then the second."""
    matrix = _trailing(matrix, (3, 3), "matrix")
    return np.concatenate([matrix[..., :, 0], matrix[..., :, 1]], -1)


def euler_to_matrix(angles: ArrayLike, order: str) -> Array:
    """(..., n) radians to (..., 3, 3) for an order of n letters out of X, Y and Z, also fewer or more than three."""
    if not order or set(order) - set(_AXES):
        raise ValueError(f"order must be letters out of X, Y and Z such as 'XYZ', got {order!r}")
    angles = _trailing(angles, (len(order),), f"angles of order {order}")
    matrix = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3))
    for i, letter in enumerate(order):
        axis_angle = np.zeros((*angles.shape[:-1], 3))
        axis_angle[..., _AXES[letter]] = angles[..., i]
        matrix = matrix @ axis_angle_to_matrix(axis_angle)
    return matrix


def matrix_to_euler(matrix: ArrayLike, order: str) -> Array:
    """(..., 3, 3) to (..., 3) radians for one of the six orders of X, Y, Z; the middle angle is in [-π/2, π/2].

    In gimbal lock the first angle is set to 0; the angles always give the matrix back.
    """
    if sorted(order) != ["X", "Y", "Z"]:
        raise ValueError(f"order must hold X, Y and Z once each, such as 'XYZ', got {order!r}")
    m = _trailing(matrix, (3, 3), "matrix")
    i, j, k = (_AXES[letter] for letter in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    cosine = np.hypot(m[..., i, i], m[..., i, j])
    middle = np.arctan2(sign * m[..., i, k], cosine)
    first = np.where(cosine > 1e-9, np.arctan2(-sign * m[..., j, k], m[..., k, k]), 0.0)
    # The last angle from what is left after undoing the first, so that an ill-conditioned first angle is made good.
    sine_first, cosine_first = np.sin(first)[..., None], np.cos(first)[..., None]
    row = cosine_first * m[..., j, :] + sign * sine_first * m[..., k, :]
    last = np.arctan2(sign * row[..., i], row[..., j])
    return np.stack([first, middle, last], -1)


def rotation_between(start: ArrayLike, end: ArrayLike) -> Array:
    """The smallest rotation (..., 3, 3) that turns the direction of `start` (..., 3) into that of `end` (..., 3)."""
    a, b = normalized(_trailing(start, (3,), "start")), normalized(_trailing(end, (3,), "end"))
    cross = np.cross(a, b)
    sine = np.linalg.norm(cross, axis=-1, keepdims=True)
    angle = np.arctan2(sine, (a * b).sum(-1, keepdims=True))
    # Opposite directions leave the axis open: take any axis across `start`.
    across = normalized(np.cross(a, np.where(np.abs(a[..., :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])))
    axis = np.where(sine > 1e-9, cross / np.maximum(sine, 1e-9), across)
    return axis_angle_to_matrix(axis * angle)
