"""Arms of a photo under a 3D target: inverse kinematics, then what a 2D picture of an arm can show.

Letters: F frames, S = 2 sides. Everything is smooth in its inputs, frame by frame without memory, and gives the
photo's own arm for the photo's own wrist and elbow; so smooth motion stays smooth, and frame 0 is the photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.rotations import normalized

Array = NDArray[np.float64]

# Limits of the picture of an arm, chosen with the warp that draws it: turns in the image plane in radians, lengths as
# ratios to those in the photo. A forearm that gets longer than it was seen has no pixels to show.
SHOULDER_TURN = 0.3
ELBOW_TURN = (0.35, 0.85)  # of a forearm that points at the camera, and of one seen in full length
UPPER_RATIO = (0.85, 1.08)
FOREARM_RATIO = (0.55, 1.12)
# A forearm that points at the camera may get longer by this more, and shorter only by this part of what others may:
# its hand lies over it and would be squeezed with it.
FORESHORTENED_GAIN, FORESHORTENED_SHRINK = 0.2, 0.25
STRETCHED = 0.97  # of the arm's length: elbows do not snap straight
ITERATIONS = 8


@dataclass(frozen=True)
class ArmPose:
    """`elbow`, `wrist` (F, 2, 2) px and `turn` (F, 2), radians by which the picture of the forearm has turned."""

    elbow: Array
    wrist: Array
    turn: Array


def soft_limit(value: Array, low: Array | float, high: Array | float) -> Array:
    """`value` bent smoothly into (low, high) with low < 0 < high: slope 1 at 0, flat far out."""
    bound = np.where(value < 0, -np.asarray(low), np.asarray(high))
    return bound * np.tanh(value / bound)


def two_bone(shoulder: Array, wrist: Array, elbow_hint: Array, upper: Array, fore: Array) -> tuple[Array, Array]:
    """Elbow and reachable wrist (..., 3) for bones of lengths `upper` and `fore` (...); a hint says where to bend."""
    way = wrist - shoulder
    distance = np.linalg.norm(way, axis=-1)
    axis = normalized(way)
    near, far = np.abs(upper - fore) + 0.05 * (upper + fore), upper + fore
    distance = np.clip(distance, near, far)
    along = (upper**2 - fore**2 + distance**2) / (2 * distance)
    across = np.sqrt(np.maximum(upper**2 - along**2, 0.0))
    hint = elbow_hint - shoulder
    pole = normalized(hint - (hint * axis).sum(-1, keepdims=True) * axis)
    return shoulder + along[..., None] * axis + across[..., None] * pole, shoulder + distance[..., None] * axis


def shown_length(joints: Array) -> Array:
    """How much of each forearm a picture shows, (2,) in [0, 1], from shoulder, elbow, wrist (2, 3, 3)."""
    forearm = joints[:, 2] - joints[:, 1]
    return np.linalg.norm(forearm[:, :2], axis=-1) / np.maximum(np.linalg.norm(forearm, axis=-1), 1e-9)


def fit_picture(shoulder: Array, joints: Array, elbow: Array, wrist: Array, unit: float) -> ArmPose:
    """The nearest arms that a picture can show.

    `shoulder`, `elbow`, `wrist` (F, 2, 2) px where they should be; `joints` (2, 3, 3) px the photo's shoulder, elbow,
    wrist; `unit` px of a shoulder width. Four numbers describe an arm: turn and length of both bones relative to the
    photo, each smoothly bounded. They are found by damped Gauss-Newton steps from the photo's arm, always as many,
    with a small price on leaving the photo, so that no pose is a singular one.
    """
    frames = len(shoulder)
    bones = joints[:, 1:, :2] - joints[:, :-1, :2]  # (2, 2, 2)
    longer = FOREARM_RATIO[1] - 1 + FORESHORTENED_GAIN * (1 - shown_length(joints))
    shrink = FORESHORTENED_SHRINK + (1 - FORESHORTENED_SHRINK) * shown_length(joints)
    shorter = (1 - FOREARM_RATIO[0]) * shrink
    elbow_turn = ELBOW_TURN[0] + (ELBOW_TURN[1] - ELBOW_TURN[0]) * shown_length(joints)
    upper, fore = (np.broadcast_to(bones[:, k], (frames, 2, 2)) for k in (0, 1))
    weights = np.array([0.04, 0.025, 0.25, 0.05])  # price of each number, against units of distance; by hand
    x = np.zeros((frames, 2, 4))

    def turned(vector: Array, angle: Array) -> Array:
        cosine, sine = np.cos(angle), np.sin(angle)
        return np.stack(
            [cosine * vector[..., 0] - sine * vector[..., 1], sine * vector[..., 0] + cosine * vector[..., 1]], -1
        )

    def pose(x: Array) -> tuple[Array, ...]:
        a = SHOULDER_TURN * np.tanh(x[..., 0] / SHOULDER_TURN)
        b = a + elbow_turn * np.tanh(x[..., 1] / elbow_turn)
        p = 1 + soft_limit(x[..., 2], UPPER_RATIO[0] - 1, UPPER_RATIO[1] - 1)
        q = 1 + soft_limit(x[..., 3], -shorter, longer)
        return turned(upper, a), turned(fore, b), p, q, b

    def slopes(x: Array) -> list[Array]:
        bounds = (
            np.full(x.shape[:-1], SHOULDER_TURN),
            np.broadcast_to(elbow_turn, x.shape[:-1]),
            np.where(x[..., 2] < 0, 1 - UPPER_RATIO[0], UPPER_RATIO[1] - 1),
            np.where(x[..., 3] < 0, shorter, longer),
        )
        return [1 / np.cosh(x[..., k] / bound) ** 2 for k, bound in enumerate(bounds)]

    for _ in range(ITERATIONS):
        u, f, p, q, _ = pose(x)
        s = slopes(x)
        quarter_u, quarter_f = np.stack([-u[..., 1], u[..., 0]], -1), np.stack([-f[..., 1], f[..., 0]], -1)
        at_elbow = shoulder + p[..., None] * u
        at_wrist = at_elbow + q[..., None] * f
        to_elbow = np.stack(
            [quarter_u * (p * s[0])[..., None], np.zeros_like(u), u * s[2][..., None], np.zeros_like(u)], -1
        )
        to_wrist = to_elbow + np.stack(
            [
                quarter_f * (q * s[0])[..., None],
                quarter_f * (q * s[1])[..., None],
                np.zeros_like(f),
                f * s[3][..., None],
            ],
            -1,
        )
        jacobian = np.concatenate([0.5 * to_elbow, to_wrist], -2) / unit  # (F, 2, 4, 4)
        residual = np.concatenate([0.5 * (at_elbow - elbow), at_wrist - wrist], -1) / unit
        transposed = np.swapaxes(jacobian, -1, -2)
        normal = transposed @ jacobian + np.diag(weights**2 + 1e-3)
        gradient = (transposed @ residual[..., None])[..., 0] + weights**2 * x
        # Steps are bounded smoothly: a hard bound would show as a kink in the motion.
        x = x - soft_limit(np.linalg.solve(normal, gradient[..., None])[..., 0], -0.6, 0.6)

    u, f, p, q, b = pose(x)
    at_elbow = shoulder + p[..., None] * u
    return ArmPose(at_elbow, at_elbow + q[..., None] * f, b)
