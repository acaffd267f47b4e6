"""The gesture model that ships: what infer/run.py relies on, and that its lips are worth shipping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infer.gesture import load_gesture_model, load_speech_model
from infer.inputs import GESTURES
from pose.motion import Motion, expression_index
from pose.prosody import prosody_motion
from pose.speech import SpeechFeatures, open_speech

SPEECH = Path(__file__).resolve().parents[2] / "examples" / "speech.wav"

pytestmark = pytest.mark.skipif(not GESTURES.is_dir(), reason="no gesture model ships")


@pytest.fixture(scope="module")
def pipeline():
    return load_gesture_model(str(GESTURES))


@pytest.fixture(scope="module")
def heard(pipeline) -> SpeechFeatures:
    features = open_speech(SPEECH).features(pipeline.fps)
    return SpeechFeatures.join(list(load_speech_model(pipeline, None).stream(features)))


@pytest.fixture(scope="module")
def motion(pipeline, heard) -> Motion:
    return Motion.concatenated(list(pipeline.stream([heard], seed=1)))


def test_it_is_small_and_says_what_it_needs(pipeline):
    assert sum(path.stat().st_size for path in GESTURES.rglob("*") if path.is_file()) < 15e6
    assert pipeline.fps == 25.0 and not pipeline.config.own_eyes
    assert {"neutral", "happiness"} <= set(pipeline.config.styles) and len(pipeline.config.speakers) > 1


def test_the_same_seed_is_the_same_motion_however_speech_comes_cut(pipeline, heard, motion):
    pieces = [heard[k : k + 31] for k in range(0, len(heard), 31)]
    again = Motion.concatenated(list(pipeline.stream(pieces, seed=1)))
    np.testing.assert_array_equal(again.rotations, motion.rotations)
    np.testing.assert_array_equal(again.expression, motion.expression)
    other = Motion.concatenated(list(pipeline.stream([heard], seed=2)))
    assert len(other) == len(motion) == len(heard)
    assert np.abs(other.rotations - motion.rotations).max() > 0.1


def test_lips_are_those_of_the_phones_and_not_late(heard, motion):
    """The rule's jaw is what was learned: as good as 1 on its own speech, above 0.9 says that sampling adds little."""
    jaw = expression_index("jawOpen")
    wanted, made = prosody_motion(heard, 1).expression[:, jaw], motion.expression[:, jaw]
    shifted = {lag: np.corrcoef(made[5 + lag : len(made) - 5 + lag], wanted[5:-5])[0, 1] for lag in (-1, 0, 1)}
    assert max(shifted, key=shifted.get) == 0 and shifted[0] > 0.9
    closed = prosody_motion(heard, 1).expression[:, expression_index("mouthPressLeft")] > 0.15
    gap = motion.expression[:, jaw] - motion.expression[:, expression_index("mouthClose")]
    assert closed.sum() > 5 and np.median(gap[closed]) < 0.03 < 0.1 < np.median(gap[wanted > 0.3])


def test_it_moves_as_smoothly_as_people_do_and_stays_where_it_is(motion):
    positions = motion.positions() / 100
    hands = positions[:, [motion.skeleton.index(name) for name in ("LeftHand", "RightHand")]]
    acceleration = np.linalg.norm(np.diff(hands, 2, axis=0), axis=-1) * motion.fps**2
    assert 0.3 < acceleration.mean() < 6 and acceleration.max() < 40  # m/s²; jumps between windows have hundreds
    assert np.linalg.norm(motion.root_position - motion.root_position[0], axis=1).max() < 10  # cm


def test_it_is_neutral_unless_told_otherwise(pipeline, heard):
    made = {}
    for name, choice in (("left out", {}), ("neutral", {"style": "neutral"}), ("nothing", {"style": {}})):
        made[name] = Motion.concatenated(list(pipeline.stream([heard[:50]], seed=1, **choice))).rotations
    np.testing.assert_array_equal(made["left out"], made["neutral"])
    assert not np.array_equal(made["left out"], made["nothing"])
