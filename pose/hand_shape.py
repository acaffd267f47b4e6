"""The photo's hand, turned and with its fingers bent as far as a picture of it can show.

Letters: F frames. Axes: x right, y down, z away from the camera, pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose.arm_limits import soft_limit
from pose.body_signals import hand_axes
from pose.keypoints import FINGERS
from pose.photo_body import PhotoHand
from pose.rotations import axis_angle_to_matrix, matrix_to_quaternion

Array = NDArray[np.float64]

WRIST_BEND = 0.6  # radians, in the image plane, against the forearm
PALM_TURN = 0.6  # radians out of the image plane; a picture has no other side
LOOKS = (0.82, 1.2)  # how the spans of a tilted hand may change against the photo, as ratios
SWERVE = 0.15  # and how far their ends may move against each other, as a part of them
LONGER = 0.12  # by how much of its length a bone of the hand may grow in the picture
CURL = 0.26  # radians by which a finger may bend or stretch against the photo
STRAIGHT = 0.15  # radians past straight that fingers go backwards
THUMB_SHARE = 0.3  # the thumb bends across the palm and shows little of a bend towards it (chosen by hand)


def picture_turn(rotation: Array, forearm: Array) -> tuple[Array, Array]:
    """Split hand rotations (F, 3, 3) into a turn in the picture (F,) and a tilt out of it (F, 2), radians.

    The turn is bounded against `forearm` (F,), that of the forearm. The tilt is a rotation vector in the image plane,
    fixed to the hand as the photo shows it. What goes beyond a right angle cannot be shown: both parts then return
    smoothly to 0.
    """
    w, x, y, z = np.moveaxis(matrix_to_quaternion(rotation), -1, 0)
    # rotation = twist @ swing, twist about the line of sight; half a turn of swing leaves the twist open: it counts 0.
    certain = w * w + z * z
    twist = 2 * np.arctan2(z, w)
    bend = WRIST_BEND * np.tanh(np.sin(twist - forearm) * certain / WRIST_BEND)
    swing = 2 * np.arctan2(np.hypot(x, y), np.sqrt(certain))
    axis = np.stack([w * x + z * y, w * y - z * x], -1)
    return forearm + bend, axis / np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-9) * np.sin(swing)[
        :, None
    ]


class HandShape:
    """One hand of the photo; `points` gives it in each frame relative to the wrist."""

    def __init__(self, hand: PhotoHand, side: int) -> None:
        self._points = hand.points
        palm = hand.points - hand.points[0]
        self._along, self._across, self._normal = hand_axes(palm[9], palm[5], palm[17], side)
        self._size = float(np.linalg.norm(np.ptp(hand.points[:, :2], axis=0)))
        self._tilt_room = np.array([[_tilt_room(hand.points, axis, way) for way in (-1, 1)] for axis in (0, 1)])
        bones = np.stack([np.diff(hand.points[list(finger)], axis=0) for finger in FINGERS])  # (5, 3, 3)
        self._flexion = np.arctan2(bones @ self._normal, bones @ self._along)
        self._bones = bones

    def points(self, turn: Array, tilt: Array, flexion: Array) -> Array:
        """(F, 21, 2) px relative to the body's wrist.

        `turn` (F,) in the image plane, `tilt` (F, 2) out of it, `flexion` (F, 5, 3) change of the fingers' bends.
        """
        tilt = soft_limit(tilt, -self._tilt_room[:, 0], self._tilt_room[:, 1])
        turned = axis_angle_to_matrix(np.concatenate([tilt, np.zeros((len(tilt), 1))], -1))
        room = np.clip(-(self._flexion + STRAIGHT), -CURL, -0.05)
        bend = soft_limit(np.concatenate([THUMB_SHARE * flexion[:, :1], flexion[:, 1:]], 1), room, CURL)
        # Bending turns along the palm towards out of the palm: about the axis across the hand.
        axis = np.cross(self._along, self._normal)
        bones = (axis_angle_to_matrix(bend[..., None] * axis) @ self._bones[..., None])[..., 0]  # (F, 5, 3, 3)

        palm = self._points[[finger[0] for finger in FINGERS]] - self._points[0]
        flat = self._shown(turned, np.broadcast_to(palm, (len(turn), 5, 3)), palm)
        chains = self._shown(turned, bones, self._bones)
        result = np.zeros((len(turn), 21, 2))
        for finger, joints in enumerate(FINGERS):
            result[:, joints[0]] = flat[:, finger]
            for bone, joint in enumerate(joints[1:]):
                result[:, joint] = result[:, joints[bone]] + chains[:, finger, bone]
        result += self._points[0, :2]
        cosine, sine = np.cos(turn)[:, None], np.sin(turn)[:, None]
        x, y = result[..., 0], result[..., 1]
        return np.stack([cosine * x - sine * y, sine * x + cosine * y], -1)

    def _shown(self, turned: Array, moved: Array, photo: Array) -> Array:
        """Bones (F, ..., 3) tilted and seen from the front (F, ..., 2), hardly longer than they are in the photo."""
        matrix = turned.reshape(len(turned), *[1] * (moved.ndim - 2), 3, 3)
        flat = (matrix @ moved[..., None])[..., :2, 0]
        before = np.linalg.norm(photo[..., :2], axis=-1)
        after = np.linalg.norm(flat, axis=-1)
        # Bones that point at the camera have hardly a length: give them that of a fingertip to grow by.
        growth = LONGER * before + 0.02 * self._size
        bounded = before + np.where(after > before, growth * np.tanh((after - before) / growth), after - before)
        return flat * (bounded / np.maximum(after, 1e-9))[..., None]


def _tilt_room(points: Array, axis: int, way: int) -> float:
    """Radians by which a hand (21, 3) may tilt about x or y before its picture is squeezed or stretched too much.

    Looked at are the bones, the fingers' spans and those between neighbours. Hands that point at the camera or show
    their edge have little room.
    """
    spans = [(finger[k], finger[k + 1]) for finger in FINGERS[1:] for k in range(3)]
    spans += [(finger[0], finger[3]) for finger in FINGERS] + [(0, finger[0]) for finger in FINGERS[1:]]
    spans += [(FINGERS[k][joint], FINGERS[k + 1][joint]) for k in (1, 2, 3) for joint in (0, 2, 3)]
    first, second = (points[[span[end] for span in spans]] for end in (0, 1))
    slack = 0.012 * np.linalg.norm(np.ptp(points[:, :2], axis=0))
    before = np.linalg.norm((second - first)[:, :2], axis=-1)
    for angle in np.arange(1, 25) * PALM_TURN / 24:
        tilted = (second - first) @ axis_angle_to_matrix(angle * way * np.eye(3)[axis]).T
        after = np.linalg.norm(tilted[:, :2], axis=-1)
        moved = np.linalg.norm((tilted - (second - first))[:, :2], axis=-1)
        bad = (after < LOOKS[0] * before - slack) | (after > LOOKS[1] * before + slack)
        if (bad | (moved > SWERVE * before + slack)).any():
            return float(angle)
    return PALM_TURN
