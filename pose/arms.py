"""Arms and hands of the home skeleton from a few natural parameters.

Letters: F frames. Coordinates are those of the chest: x to the person's left, y up, z forward. One shoulder width
(sw) is the distance of the two arm joints of the home skeleton, 35 cm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose.rotations import axis_angle_to_matrix, normalized
from pose.skeleton import Skeleton

Double = NDArray[np.float64]

# The parameters of one hand, in the order of the arrays below.
HAND_PARAMETERS = (
    "out", "up", "forward",  # wrist, sw away from its rest position; "out" is away from the middle of the body
    "roll",  # radians, turns the palm up; 0 has the thumb up and the palm inward
    "extend", "deviate",  # radians, wrist bent to the back of the hand, and to the little finger's side
    "curl",  # fingers, 0 flat to 1 fist
    "spread",  # 0 closed to 1 wide
    "point",  # 0 to 1: the index finger straight while the others curl
    "pinch",  # 0 to 1: thumb and index finger meet
    "lift",  # radians, the elbow away from the body
)  # fmt: skip
COUNT = len(HAND_PARAMETERS)
OUT, UP, FORWARD, ROLL, EXTEND, DEVIATE, CURL, SPREAD, POINT, PINCH, LIFT = range(COUNT)

# Rest: forearms raised in front of the body, hands at the height of the belly, relaxed. cm from the arm joint.
REST_WRIST = (-4.0, -27.5, 19.5)  # out, up, forward
REST = np.array([0.0, 0.0, 0.0, -0.35, 0.12, 0.05, 0.34, 0.25, 0.0, 0.0, 0.3])
_SIDES = {"Left": 1.0, "Right": -1.0}
# How far each finger bends at its three joints for curl 1, radians; the little finger leads, as in a relaxed hand.
_BEND = {
    "Index": (1.15, 1.45, 0.85), "Middle": (1.25, 1.5, 0.9), "Ring": (1.3, 1.5, 0.9), "Pinky": (1.3, 1.4, 0.9),
}  # fmt: skip
_CURL_BIAS = {"Index": -0.06, "Middle": 0.0, "Ring": 0.05, "Pinky": 0.07}
_SPREAD = {"Index": 0.18, "Middle": 0.03, "Ring": -0.12, "Pinky": -0.26}  # radians at spread 1, to the thumb's side


class ArmPoser:
    """Turns hand parameters into the rotations of both arms and all fingers."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.shoulder_width_cm = 2.0 * abs(float(self._chest_offset("LeftArm")[0]))
        self._upper_cm = float(np.linalg.norm(skeleton.offsets[skeleton.index("LeftForeArm")]))
        self._fore_cm = float(np.linalg.norm(skeleton.offsets[skeleton.index("LeftHand")]))

    def _chest_offset(self, joint: str) -> Double:
        index = self.skeleton.index(joint)
        total = np.zeros(3)
        while self.skeleton.names[index] != "Spine3":
            total = total + self.skeleton.offsets[index]
            index = self.skeleton.parents[index]
        return total

    def pose(
        self,
        rotations: NDArray[np.float32],  # (F, J, 3, 3) local, written in place
        hands: Double,  # (F, 2, 11): left, right
        shrug: Double,  # (F, 2) radians, the shoulders up
    ) -> None:
        """Write the arms, which reach for their targets by two-bone inverse kinematics in the frame of the chest."""
        for column, (side, sign) in enumerate(_SIDES.items()):
            self._pose_arm(rotations, hands[:, column], shrug[:, column], side, sign)
            self._pose_fingers(rotations, hands[:, column], side, sign)

    def _pose_arm(self, rotations: NDArray[np.float32], hand: Double, shrug: Double, side: str, sign: float) -> None:
        name = self.skeleton.index
        mirror = np.array([sign, 1.0, 1.0])
        collar = axis_angle_to_matrix(np.stack([0 * shrug, 0 * shrug, sign * shrug], -1))
        rotations[:, name(side + "Shoulder")] = collar
        arm_from_collar = self.skeleton.offsets[name(side + "Arm")]
        base = self._chest_offset(side + "Arm") - arm_from_collar + np.einsum("fab,b->fa", collar, arm_from_collar)

        # 1. Where the wrist goes, softly kept within reach and before the chest.
        target = self._chest_offset(side + "Arm") + (REST_WRIST + self.shoulder_width_cm * hand[:, :3]) * mirror
        reach = target - base
        length = np.linalg.norm(reach, axis=-1, keepdims=True)
        longest = 0.97 * (self._upper_cm + self._fore_cm)
        soft = 0.88 * longest
        kept = np.where(length > soft, soft + (longest - soft) * np.tanh((length - soft) / (longest - soft)), length)
        kept = np.maximum(kept, 1.15 * abs(self._upper_cm - self._fore_cm) + 8.0)
        axis = reach / np.maximum(length, 1e-6)

        # 2. The elbow: on the circle that both bones allow, down and a little outward.
        along = (kept**2 + self._upper_cm**2 - self._fore_cm**2) / (2 * kept)
        height = np.sqrt(np.maximum(self._upper_cm**2 - along**2, 1e-6))
        lift = hand[:, LIFT]
        hint = np.stack([sign * np.sin(lift), -np.cos(lift), np.full_like(lift, -0.35)], -1)
        down = normalized(hint - (hint * axis).sum(-1, keepdims=True) * axis)
        elbow = axis * along + down * height
        upper = normalized(elbow)
        fore = normalized(axis * kept - elbow)

        # 3. Rotations that take the T-pose there; the hinge of the elbow is the normal of the bend.
        hinge = normalized(np.cross(upper, fore))
        rest_bone, rest_hinge = np.array([sign, 0.0, 0.0]), np.array([0.0, -sign, 0.0])
        rest = np.stack([rest_bone, rest_hinge, np.cross(rest_bone, rest_hinge)], -1)
        upper_world = np.stack([upper, hinge, np.cross(upper, hinge)], -1) @ rest.T
        fore_world = np.stack([fore, hinge, np.cross(fore, hinge)], -1) @ rest.T
        rotations[:, name(side + "Arm")] = np.swapaxes(collar, -1, -2) @ upper_world
        # Turning the palm up is a turn about the bone, whose direction differs between the sides with its x axis.
        twist = axis_angle_to_matrix(np.stack([-hand[:, ROLL], 0 * lift, 0 * lift], -1))
        rotations[:, name(side + "ForeArm")] = np.swapaxes(upper_world, -1, -2) @ fore_world @ twist
        bend = np.stack([0 * lift, sign * hand[:, DEVIATE], sign * hand[:, EXTEND]], -1)
        rotations[:, name(side + "Hand")] = axis_angle_to_matrix(bend)

    def _pose_fingers(self, rotations: NDArray[np.float32], hand: Double, side: str, sign: float) -> None:
        name = self.skeleton.index
        curl, spread = hand[:, CURL], hand[:, SPREAD]
        point, pinch = np.clip(hand[:, POINT], 0.0, 1.0), np.clip(hand[:, PINCH], 0.0, 1.0)
        zero = np.zeros_like(curl)
        for finger, bends in _BEND.items():
            amount = np.clip(curl + _CURL_BIAS[finger], 0.02, 0.95)
            if finger == "Index":
                amount = amount * (1 - point) + 0.06 * point
                amount = amount * (1 - pinch) + 0.48 * pinch
            else:
                amount = amount * (1 - point) + 0.72 * point
            aside = _SPREAD[finger] * spread * (1.0 - 0.7 * np.clip(amount, 0, 1))
            for joint, bend in enumerate(bends, 1):
                # Bending turns the finger to the palm, which faces down in the T-pose.
                angles = np.stack([zero, -sign * aside if joint == 1 else zero, -sign * bend * amount], -1)
                rotations[:, name(f"{side}Hand{finger}{joint}")] = axis_angle_to_matrix(angles)
        fold = np.clip(0.35 * curl + 0.5 * point + 0.35 * pinch, 0.0, 0.9)
        opposed = np.stack([0.55 * fold, sign * (0.25 * fold - 0.25 * spread * (1 - fold)), -sign * 0.2 * fold], -1)
        rotations[:, name(f"{side}HandThumb1")] = axis_angle_to_matrix(opposed)
        for joint, bend in ((2, 0.5), (3, 0.6)):
            rotations[:, name(f"{side}HandThumb{joint}")] = axis_angle_to_matrix(
                np.stack([zero, sign * bend * fold, zero], -1)
            )
