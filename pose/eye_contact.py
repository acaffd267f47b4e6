"""Eyes and brows of one motion for the head of another.

A model that is trained for minutes blinks by halves: a blink is rare and sudden, and what a few steps of a small
network sample is neither. The prosody motion's eyes are whole, but they look at the camera from that motion's head. On
another head they have to be turned by as much as the two heads differ. Axes: x to the person's left, y up, z to the
front.
Letters: F frames.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.glances import EYE_RANGE
from pose.motion import EXPRESSION_NAMES, Motion, expression_index

Double = NDArray[np.float64]

LOOKS = ("eyeLookDown", "eyeLookUp", "eyeLookIn", "eyeLookOut")
# Frowns stay the other motion's: they are its mood, not its attention.
TAKEN = tuple(name for name in EXPRESSION_NAMES if name.startswith(("eye", "browInner", "browOuter")))
LID_SHARE = 0.2  # of a look down that the lids follow, as in pose.prosody


def gaze(expression: NDArray[np.float32]) -> Double:
    """Face coefficients (F, 51) to the eyes' turn in the head (F, 2): yaw to the left, pitch down, radians."""
    down, up, inward, outward = (expression[:, expression_index(f"{name}Left")] for name in LOOKS)
    return np.stack([EYE_RANGE[0] * (outward - inward), EYE_RANGE[1] * (down - up)], 1).astype(np.float64)


def with_eyes(motion: Motion, eyes: Motion, first: tuple[Double, Double] | None = None) -> Motion:
    """`motion` with the eyes and brows of `eyes` (as many frames), looking where those look.

    Turns of both heads count from `first`, the `head_turn` of the two at the beginning of the recording, because that
    is where a photo's own gaze belongs; left out: from their first frames.
    """
    assert motion.expression is not None and eyes.expression is not None
    turns = head_turn(motion), head_turn(eyes)
    first = (turns[0][0], turns[1][0]) if first is None else first
    own = gaze(eyes.expression)
    looked = own + (turns[1] - first[1]) - (turns[0] - first[0])
    expression = motion.expression.copy()
    columns = [expression_index(name) for name in TAKEN]
    expression[:, columns] = eyes.expression[:, columns]
    yaw, pitch = np.clip(looked / EYE_RANGE, -1, 1).T
    signed = {
        "eyeLookDownLeft": pitch, "eyeLookDownRight": pitch, "eyeLookUpLeft": -pitch, "eyeLookUpRight": -pitch,
        "eyeLookOutLeft": yaw, "eyeLookInRight": yaw, "eyeLookInLeft": -yaw, "eyeLookOutRight": -yaw,
    }  # fmt: skip
    for name, value in signed.items():
        expression[:, expression_index(name)] = np.maximum(value, 0)
    lids = LID_SHARE * (np.maximum(pitch, 0) - np.clip(own[:, 1] / EYE_RANGE[1], 0, 1))
    for side in ("Left", "Right"):
        column = expression_index(f"eyeBlink{side}")
        expression[:, column] = np.clip(expression[:, column] + lids, 0, 1)
    return replace(motion, expression=expression)


def head_turn(motion: Motion) -> Double:
    """Where the face points (F, 2): yaw to the left, pitch down, radians."""
    head = motion.skeleton.index("Head")
    front = motion.skeleton.global_rotations(motion.rotations)[:, head, :, 2].astype(np.float64)
    return np.stack([np.arctan2(front[:, 0], front[:, 2]), -np.arcsin(np.clip(front[:, 1], -1, 1))], 1)
