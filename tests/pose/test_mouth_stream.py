"""The mouth as a block of what is heard: the rule's own, however the speech comes cut, silent beyond its ends."""

from __future__ import annotations

import numpy as np
import pytest

from pose.mouth_stream import with_mouth
from pose.phone_lips import MOUTH, PHONES, phone_mouth
from pose.speech import SpeechFeatures, speech_features


def read(seconds: float, fps: float) -> SpeechFeatures:
    """A voice with phones that change four times a second."""
    random = np.random.default_rng(0)
    time = np.arange(round(seconds * 16000)) / 16000
    sound = 0.2 * np.sign(np.sin(2 * np.pi * 130 * time)) * np.clip(np.sin(2 * np.pi * 2.1 * time), 0, 1)
    features = speech_features(sound.astype(np.float32), fps)
    said = random.integers(0, len(PHONES), round(4 * seconds) + 2)
    phones = np.eye(len(PHONES), dtype=np.float32)[said[(np.arange(len(features)) * 4 / fps).astype(int)]]
    return SpeechFeatures(fps, {**features.blocks, "phones": phones}, features.waveform)


@pytest.mark.parametrize("fps", [15.0, 25.0, 60.0])
@pytest.mark.parametrize("cut", [1, 7, 41])
def test_it_is_the_rule_s_mouth_however_speech_comes_cut(fps, cut):
    whole = read(3.7, fps)
    made = SpeechFeatures.join(list(with_mouth(whole[k : k + cut] for k in range(0, len(whole), cut))))
    once = SpeechFeatures.join(list(with_mouth([whole])))
    np.testing.assert_array_equal(made.blocks["mouth"], once.blocks["mouth"])
    np.testing.assert_array_equal(made.waveform, whole.waveform)
    assert made.blocks["mouth"].shape == (len(whole), len(MOUTH)) and made.blocks["mouth"].max() > 0.1
    # In the middle the whole recording's; at its ends the rule alone holds the first and last frames for silence.
    wanted, edge = phone_mouth(whole.blocks, fps), round(0.7 * fps)
    for column, name in enumerate(MOUTH):
        np.testing.assert_allclose(made.blocks["mouth"][edge:-edge, column], wanted[name][edge:-edge], atol=1e-6)
    assert tuple(wanted) == MOUTH


def test_a_recording_shorter_than_the_reach_and_none_at_all():
    short = read(0.5, 25.0)
    assert len(SpeechFeatures.join(list(with_mouth([short])))) == len(short)
    assert list(with_mouth([])) == []
