"""Eyes of one motion on the head of another: the gaze stays where it was, the rest of the face its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pose.eye_contact import TAKEN, gaze, head_turn, with_eyes
from pose.motion import EXPRESSION_NAMES, Motion, expression_index
from pose.prosody import prosody_motion
from pose.rotations import axis_angle_to_matrix
from pose.speech import speech_features


@pytest.fixture(scope="module")
def motions() -> tuple[Motion, Motion]:
    time = np.arange(6 * 16000) / 16000
    sound = 0.2 * np.sign(np.sin(2 * np.pi * 130 * time)) * np.clip(np.sin(2 * np.pi * 2.1 * time), 0, 1)
    features = speech_features(sound.astype(np.float32), 25.0)
    one, other = (prosody_motion(features, seed) for seed in (1, 2))
    return one, other


def test_a_motion_s_own_eyes_change_nothing(motions):
    made = with_eyes(motions[0], motions[0])
    np.testing.assert_allclose(made.expression, motions[0].expression, atol=1e-6)


def test_eyes_brows_and_blinks_are_the_other_s_and_all_else_stays(motions):
    one, other = motions
    made = with_eyes(one, other)
    taken = [expression_index(name) for name in TAKEN]
    rest = [k for k in range(len(EXPRESSION_NAMES)) if k not in taken]
    np.testing.assert_array_equal(made.expression[:, rest], one.expression[:, rest])
    brows = expression_index("browInnerUp")
    np.testing.assert_array_equal(made.expression[:, brows], other.expression[:, brows])
    assert made.expression[:, expression_index("eyeBlinkLeft")].max() > 0.8
    looked = gaze(other.expression) + head_turn(other) - head_turn(other)[0]
    np.testing.assert_allclose(gaze(made.expression) + head_turn(made) - head_turn(made)[0], looked, atol=1e-5)


@pytest.mark.parametrize("axis,sign", [(0, 1.0), (1, 1.0)])
def test_eyes_turn_against_a_turned_head(motions, axis, sign):
    """Yaw about y to the person's left, pitch about x downwards; counted from where the heads began."""
    one = motions[0]
    rotations = one.rotations.copy()
    turn = [0.0, 0.0, 0.0]
    turn[1 - axis] = 0.2
    head = one.skeleton.index("Head")
    rotations[10:, head] = rotations[10:, head] @ axis_angle_to_matrix(turn).astype(np.float32)
    moved = with_eyes(replace(one, rotations=rotations), one)
    change = (gaze(moved.expression) - gaze(one.expression))[10:]
    np.testing.assert_allclose(change[:, axis], -0.2 * sign, atol=0.03)
    np.testing.assert_allclose(change[:, 1 - axis], 0, atol=0.03)
    begun = head_turn(one)[0]
    cut = [with_eyes(replace(one, rotations=rotations)[k:], one[k:], (begun, begun)).expression[0] for k in (5, 30)]
    np.testing.assert_allclose(cut, moved.expression[[5, 30]], atol=1e-6)
