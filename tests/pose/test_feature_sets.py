"""What gesture models hear: widths, scales, windows that do not depend on how the speech comes cut."""

import numpy as np
import pytest

from pose.feature_sets import FEATURE_SETS, feature_rows, feature_width, silence, speech_windows
from pose.speech import SpeechFeatures, speech_features

FPS = 20.0


def tone(seconds: float = 3.0) -> np.ndarray:
    """A voice-like buzz that starts and stops."""
    time = np.arange(int(seconds * 16000)) / 16000
    buzz = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 20))
    return (0.2 * buzz * (np.sin(2 * np.pi * 1.5 * time) > 0)).astype(np.float32)


@pytest.fixture(scope="module")
def features() -> SpeechFeatures:
    return speech_features(tone(), FPS)


def with_network(features: SpeechFeatures) -> SpeechFeatures:
    random = np.random.default_rng(0)
    widths = {"wavlm": 1024, "phones": 40, "mouth": 12}
    read = {name: random.normal(size=(len(features), width)).astype(np.float32) for name, width in widths.items()}
    return SpeechFeatures(features.fps, {**features.blocks, **read}, features.waveform)


def test_published_widths():
    widths = {name: feature_width(name) for name in FEATURE_SETS}
    assert widths == {
        "acoustic": 109,
        "acoustic_phones": 149,
        "acoustic_mouth": 161,
        "acoustic_words": 410,
        "wavlm": 1024,
        "wavlm_acoustic": 1133,
        "wavlm_words": 1434,
    }
    with pytest.raises(ValueError, match="'hubert'; known are acoustic"):
        feature_width("hubert")


def test_order_and_scale(features):
    features = with_network(features)
    rows = feature_rows(features, "wavlm_words")
    np.testing.assert_array_equal(rows[:, 108:1132], features.blocks["wavlm"])
    np.testing.assert_allclose(rows[:, 40:104], (features.blocks["mel"] + 30) / 20, atol=1e-6)
    np.testing.assert_array_equal(rows[:, 1132:1133], features.blocks["onset"])
    np.testing.assert_allclose(rows[:, -1:], 1 - features.blocks["speech"], atol=1e-6)  # no word is known
    assert np.abs(feature_rows(features, "acoustic")).max() < 5


def test_changes_go_on_over_cuts(features):
    whole = feature_rows(features, "acoustic")
    parts = [feature_rows(features[:25], "acoustic"), feature_rows(features[25:], "acoustic", features[:25])]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_missing_blocks_are_named(features):
    with pytest.raises(ValueError, match="lack the block 'wavlm'"):
        feature_rows(features, "wavlm")
    wrong = SpeechFeatures(FPS, {**features.blocks, "wavlm": np.zeros((len(features), 768), np.float32)})
    with pytest.raises(ValueError, match="1024 wide, got 768"):
        feature_rows(wrong, "wavlm")


@pytest.mark.parametrize("cut", [1, 7, 60])
@pytest.mark.parametrize("feature_set", ["acoustic", "acoustic_mouth", None])
def test_windows_do_not_depend_on_the_cut(features, feature_set, cut):
    features = with_network(features)
    pieces = [features[k : k + cut] for k in range(0, len(features), cut)]
    windows = list(speech_windows(pieces, feature_set, FPS, 16, 4))
    whole = list(speech_windows([features], feature_set, FPS, 16, 4))
    assert [window.first for window in windows] == [window.first for window in whole] == list(range(-4, 56, 12))
    for window, other in zip(windows, whole, strict=True):
        np.testing.assert_allclose(window.speech, other.speech, atol=1e-6)


def test_windows_hold_their_frames(features):
    rows = feature_rows(features, "acoustic", silence(features, 1))[:57]
    quiet = feature_rows(silence(features, 4), "acoustic")
    padded = np.concatenate([quiet, rows])
    for window in speech_windows([features[:57]], "acoustic", FPS, 16, 4):
        wanted = padded[window.first + 4 : window.first + 20]
        np.testing.assert_allclose(window.speech[: len(wanted)], wanted, atol=1e-6)
        assert window.speech.shape == (16, 109)
    assert window.total == 57


def test_windows_hold_their_samples(features):
    padded = np.concatenate([np.zeros(3200, np.float32), features.waveform])
    for window in speech_windows([features], None, FPS, 16, 4):
        start = (window.first + 4) * 800
        wanted = padded[start : start + 12800]
        np.testing.assert_array_equal(window.speech[: len(wanted)], wanted)
        assert window.speech.shape == (12800,) and not window.speech[len(wanted) :].any()


def test_samples_at_a_rate_that_does_not_divide():
    """15 fps: 1066.67 samples a frame, 36,267 a window of 34."""
    features = speech_features(tone(6.0), 15.0)
    lengths = {window.speech.shape for window in speech_windows([features[:41], features[41:]], None, 15.0, 34, 4)}
    assert lengths == {(36267,)}


def test_every_new_frame_is_covered_once(features):
    for total in (1, 11, 12, 13, 24, 60):
        windows = list(speech_windows([features[:total]], "acoustic", FPS, 16, 4))
        # The last window's overlap may lie beyond the end, but not all that is new in it.
        assert windows[-1].first + 4 < total <= windows[-1].first + 16


def test_wrong_speech_is_refused(features):
    with pytest.raises(ValueError, match="15 fps, got features at 20"):
        next(speech_windows([features], "acoustic", 15.0, 16, 4))
    with pytest.raises(ValueError, match="waveform"):
        next(speech_windows([SpeechFeatures(FPS, features.blocks)], None, FPS, 16, 4))
    with pytest.raises(ValueError, match="no speech"):
        next(speech_windows([], "acoustic", FPS, 16, 4))
