"""The mouth made of phones: it closes on p b m alone, opens by vowel, rounds before the vowel, rests in silence."""

from __future__ import annotations

import numpy as np
import pytest

from pose.motion import expression_index
from pose.phone_lips import PHONES, phone_mouth
from pose.prosody import prosody_motion
from pose.speech import SAMPLE_RATE, SpeechFeatures, speech_features


def said(text: str, fps: float = 25.0, each_s: float = 0.16) -> SpeechFeatures:
    """A voice whose reader hears these phones, each as long; "SIL" is silent."""
    names = text.split()
    frames = round(each_s * fps) * len(names)
    features = speech_features(np.zeros(round(frames / fps * SAMPLE_RATE), np.float32), fps)
    places = np.repeat([PHONES.index(name) for name in names], frames // len(names))
    phones = np.full((frames, len(PHONES)), 0.2 / (len(PHONES) - 1), np.float32)
    phones[np.arange(frames), places] = 0.8
    sounding = (places > 0).astype(np.float32)[:, None]
    blocks = {name: block.copy() for name, block in features.blocks.items()}
    for name, value in (("speech", 1.0), ("energy", 0.7), ("formants", 0.7), ("voicing", 1.0)):
        blocks[name] = np.broadcast_to(value * sounding, blocks[name].shape).astype(np.float32)
    blocks["mel"] = blocks["mel"] + 40 * sounding
    return SpeechFeatures(fps, {**blocks, "phones": phones}, features.waveform)


def within(values: np.ndarray, place: int, each: int = 4) -> np.ndarray:
    return values[place * each : (place + 1) * each]


@pytest.mark.parametrize("fps", [25.0, 50.0])
def test_lips_meet_on_p_b_m_alone(fps):
    made = phone_mouth(said("AA P AA M IY B AA T AA", fps).blocks, fps)
    each, gap = round(0.16 * fps), made["jawOpen"] - made["mouthClose"]
    for place in (1, 3, 5):
        assert within(gap, place, each)[1:-1].max() < 0.01, place
        assert within(made["mouthPress"], place, each)[1:-1].min() > 0.1
    for place in (2, 4, 7, 8):
        assert within(gap, place, each)[1:-1].min() > 0.05, place


def test_open_by_vowel_and_round_before_it():
    made = phone_mouth(said("AA AA EH EH IY IY T UW UW S S").blocks, 25.0)
    opening = [float(within(made["jawOpen"], place, 8)[2:-2].mean()) for place in range(3)]
    assert opening[0] > 1.2 * opening[1] > 1.2 * 1.5 * opening[2] > 0.05
    pucker = made["mouthPucker"]
    assert within(pucker, 7)[1:].min() > 0.3 and within(pucker, 0).max() < 0.1
    assert within(pucker, 6)[-1] > 0.5 * within(pucker, 7).max()  # the t is rounded already
    assert within(made["mouthStretch"], 9)[2:].min() > 0.08


def test_silence_is_still_and_a_row_without_phones_is_silence():
    features = said("SIL SIL SIL AA AA SIL SIL SIL SIL SIL")
    made = phone_mouth(features.blocks, 25.0)
    for values in made.values():
        assert within(values, 8).max() < 0.01 and values.min() >= 0.0 and values.max() < 0.95
    features.blocks["phones"][-8:] = 0.0
    assert all(np.isfinite(values).all() for values in phone_mouth(features.blocks, 25.0).values())
    with pytest.raises(ValueError, match="40 wide, got 39"):
        phone_mouth({**features.blocks, "phones": features.blocks["phones"][:, :39]}, 25.0)


def test_prosody_motion_uses_them():
    features = said("AA AA UW UW UW AA AA P AA AA AA AA")
    with_phones = prosody_motion(features, 1).expression
    plain = {name: block for name, block in features.blocks.items() if name != "phones"}
    without = prosody_motion(SpeechFeatures(25.0, plain, features.waveform), 1).expression
    pucker = expression_index("mouthPucker")
    assert with_phones[10:18, pucker].mean() > without[10:18, pucker].mean() + 0.1
    eyes = [expression_index(name) for name in ("eyeBlinkLeft", "browInnerUp", "eyeLookDownLeft")]
    assert np.array_equal(with_phones[:, eyes], without[:, eyes])
