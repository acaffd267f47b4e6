"""The gesture: arms with raised forearms and open, relaxed hands, as global bone rotations.

Directions are in MakeHuman's axes (x to the person's left, y up, z to the camera), for the left arm; the right arm is
the mirror image, except for what `Arm` says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from presenter.human import Array, Human, frame, turn, unit


@dataclass
class Arm:
    upper: tuple[float, float, float]  # shoulder to elbow
    fore: tuple[float, float, float]  # elbow to wrist
    hand: tuple[float, float, float]  # wrist to knuckles
    palm: tuple[float, float, float]  # out of the palm
    curl: tuple[float, float, float, float]  # degrees a joint, index to little finger, on the curled rest hand
    spread: float  # degrees between neighbouring fingers
    thumb: tuple[float, float] = (0.0, 0.0)  # degrees: away from the index in the palm's plane, towards the palm


def arm_rotations(human: Human, side: str, arm: Arm) -> dict[str, Array]:
    """Global rotations of one arm's bones; `side` is "L" or "R"."""
    mirror = np.array([1.0 if side == "L" else -1.0, 1.0, 1.0])
    sign = mirror[0]
    upper, fore = unit(np.array(arm.upper) * mirror), unit(np.array(arm.fore) * mirror)
    hand, palm = np.array(arm.hand) * mirror, np.array(arm.palm) * mirror
    shoulder, elbow = human.head(f"upperarm01.{side}"), human.head(f"lowerarm01.{side}")
    wrist = human.head(f"wrist.{side}")
    rest_upper, rest_fore = elbow - shoulder, wrist - elbow
    # Upper arm and forearm share the elbow's hinge, the normal of the plane of the two.
    rest_hinge, hinge = np.cross(rest_upper, rest_fore), np.cross(upper, fore)
    upper_turn = frame(upper, hinge) @ frame(rest_upper, rest_hinge).T
    fore_turn = frame(fore, hinge) @ frame(rest_fore, rest_hinge).T
    index, middle, little = (human.head(f"finger{number}-1.{side}") for number in (2, 3, 5))
    rest_palm = -sign * np.cross(index - wrist, little - wrist)
    hand_turn = frame(hand, palm) @ frame(middle - wrist, rest_palm).T
    # The hand's turn about the forearm is spread over its bones, or the wrist collapses like a wrung cloth.
    rest = hand_turn @ fore_turn.T
    axis = np.array([rest[2, 1] - rest[1, 2], rest[0, 2] - rest[2, 0], rest[1, 0] - rest[0, 1]])
    twist = (2 * np.degrees(np.arctan2(axis @ fore, 1 + np.trace(rest))) + 180) % 360 - 180
    rotations = {f"upperarm0{part}.{side}": upper_turn for part in (1, 2)}
    rotations[f"lowerarm01.{side}"] = turn(fore, 0.3 * twist) @ fore_turn
    rotations[f"lowerarm02.{side}"] = turn(fore, 0.7 * twist) @ fore_turn
    rotations[f"wrist.{side}"] = hand_turn
    out_of_palm = hand_turn @ unit(rest_palm)
    for number, spread, curl in zip(range(2, 6), (1.0, 0.15, -0.6, -1.3), arm.curl, strict=True):
        along = unit(human.head(f"finger{number}-2.{side}") - human.head(f"finger{number}-1.{side}"))
        bend_axis = hand_turn @ np.cross(along, unit(rest_palm))
        bone_turn = turn(out_of_palm, -sign * spread * arm.spread) @ hand_turn
        for joint, share in ((1, 0.8), (2, 1.0), (3, 0.7)):
            bone_turn = turn(bend_axis, share * curl) @ bone_turn
            rotations[f"finger{number}-{joint}.{side}"] = bone_turn
    away, inwards = arm.thumb
    along = hand_turn @ unit(human.tail(f"finger1-3.{side}") - human.head(f"finger1-1.{side}"))
    thumb_turn = turn(out_of_palm, -sign * away) @ turn(np.cross(along, out_of_palm), inwards) @ hand_turn
    rotations[f"finger1-1.{side}"] = thumb_turn
    return rotations
