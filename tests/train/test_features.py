"""Features: cached by content and settings, on the motion clock, words in place; windows as the pipeline's."""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from pose.datasets.beat import Beat
from pose.feature_sets import speech_windows
from pose.representations.joints import JointVectors
from pose.speech import speech_features
from pose.textgrid import Interval, write_textgrid
from train.features import FeatureCache, WordVectors
from train.windows import GestureWindows


@pytest.fixture
def copy(corpus, tmp_path):
    """Two recordings that may be changed."""
    for path in sorted((corpus / "1").glob("1_procedural_0_9_9.*")) + sorted((corpus / "1").glob("*_66_66.*")):
        (tmp_path / "1").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "1")
    return tmp_path


def test_cache_follows_content_and_settings(copy, tmp_path, babble):
    representation = JointVectors(fps=15.0)
    cache = FeatureCache(tmp_path / "cache", representation, "acoustic", 4)
    beat = Beat(copy)
    clip = cache.load(beat, beat.recordings[0])
    assert clip.vectors.shape == (52, 453) and clip.speech.shape == (56, 109) and len(clip) == 52
    files = set((tmp_path / "cache").iterdir())
    assert isinstance(cache.load(beat, beat.recordings[0]).vectors, np.memmap)
    assert set((tmp_path / "cache").iterdir()) == files and len(files) == 2
    FeatureCache(tmp_path / "cache", representation, "acoustic", 8).load(beat, beat.recordings[0])
    FeatureCache(tmp_path / "cache", representation, None, 4).load(beat, beat.recordings[0])
    assert len(set((tmp_path / "cache").iterdir())) == 6
    soundfile.write(beat.recordings[0].files["sound"], babble(3.5, 99), 16000)
    changed = cache.load(beat, beat.recordings[0])
    assert len(set((tmp_path / "cache").iterdir())) == 8 and not np.allclose(changed.speech, clip.speech)


def test_unusable_clips_are_named(copy, tmp_path):
    beat = Beat(copy)
    beat.recordings[1].files["motion"].write_text("HIERARCHY")
    cache = FeatureCache(tmp_path / "cache", JointVectors(fps=15.0), "acoustic", 4)
    clips, unusable = cache.load_all(beat, beat.recordings)
    assert len(clips) == 1 and unusable[0][0] == beat.recordings[1].name and "BVH" in unusable[0][1]


def test_other_processes_make_the_same(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("train.features.MANY", 2)
    beat, seen = Beat(copy), []
    beat.recordings[1].files["motion"].write_text("HIERARCHY")
    representation = JointVectors(fps=15.0)
    cache = FeatureCache(tmp_path / "many", representation, "acoustic", 4)
    clips, unusable = cache.load_all(beat, beat.recordings, seen.append, processes=2)
    one = FeatureCache(tmp_path / "one", representation, "acoustic", 4).load(beat, beat.recordings[0])
    assert [clip.name for clip in clips] == [one.name] and unusable[0][0] == beat.recordings[1].name
    assert sorted(seen) == sorted(recording.name for recording in beat.recordings)
    np.testing.assert_array_equal(clips[0].speech, one.speech)
    np.testing.assert_array_equal(clips[0].vectors, one.vectors)


@pytest.mark.parametrize("feature_set", ["acoustic", None])
def test_windows_are_what_the_pipeline_hears(copy, tmp_path, feature_set):
    """Training's speech of window k is bit for bit the sampler's speech of window k."""
    representation, frames, seed = JointVectors(fps=15.0), 24, 4
    cache = FeatureCache(tmp_path / "cache", representation, feature_set, seed)
    beat = Beat(copy)
    clip = cache.load(beat, beat.recordings[0])
    representation.fit([clip.vectors])
    windows = GestureWindows([clip], representation, frames, seed, frames - seed, ["neutral", "x"], ["1"])
    waveform = beat.load(beat.recordings[0], 15.0).waveform
    heard = list(speech_windows([speech_features(waveform, 15.0)], feature_set, 15.0, frames, seed))
    for number in range(len(windows)):
        item = windows[number]
        np.testing.assert_allclose(item["speech"], heard[number].speech, atol=1e-5)
        assert item["vectors"].shape == (24, 453) and item["style"].tolist() == [1.0, 0.0, 1.0]
    assert not windows[0]["seed"].any() and torch.equal(windows[1]["seed"], windows[1]["vectors"][:seed])
    everything = torch.cat([windows[k]["vectors"][0 if k == 0 else seed :] for k in range(len(windows))])
    raw = everything * representation.deviation + representation.mean
    np.testing.assert_allclose(raw[seed:], clip.vectors[: len(raw) - seed], atol=1e-3)
    np.testing.assert_allclose(raw[:seed], np.tile(clip.vectors[:1], (seed, 1)), atol=1e-3)


def test_words(copy, tmp_path):
    vectors = tmp_path / "words.vec"
    vectors.write_text("2 300\nhello " + " ".join(["0.5"] * 300) + "\nworld " + " ".join(["0.25"] * 300) + "\n")
    beat = Beat(copy)
    grid = beat.recordings[0].files["motion"].with_suffix(".TextGrid")
    write_textgrid(grid, {"words": [Interval(1.0, 2.0, "Hello"), Interval(2.0, 3.0, "unknown")]}, 3.5)
    beat = Beat(copy)
    cache = FeatureCache(tmp_path / "cache", JointVectors(fps=15.0), "acoustic_words", 0, None, str(vectors))
    words = cache.load(beat, beat.recordings[0]).speech[:, 109:]
    assert words.shape == (52, 301)
    assert np.all(words[15:30, :-1] == 0.5) and not words[30:45, :-1].any()
    np.testing.assert_array_equal(words[:, -1], np.r_[np.ones(15), np.zeros(30), np.ones(7)])
    with pytest.raises(ValueError, match="299 numbers"):
        vectors.write_text("hello " + " ".join(["0.5"] * 299))
        WordVectors(vectors).vector("hello")


def test_a_set_with_a_speech_network_needs_one(tmp_path):
    with pytest.raises(ValueError, match="speech_model"):
        FeatureCache(tmp_path, JointVectors(fps=15.0), "wavlm", 4)
