"""Whose sound it is: lips that move with it, late, or not at all; silence; sound around a track."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from avatar.video_io import find_ffmpeg
from pose.keypoints import COUNT, FACE, Keypoints
from pose.speech import speech_features
from train.prepare_cache import Work
from train.prepare_media import Media
from train.prepare_settings import PrepareConfig, SoundConfig
from train.prepare_stages import Track, hear, load_sound

FRAMES = 125
BEFORE_S = 1.0


@pytest.fixture(scope="module")
def recording(tmp_path_factory, babble):
    """Seven seconds of syllables of all lengths, with black pictures; the track begins after a second."""
    folder = tmp_path_factory.mktemp("recording")
    random = np.random.default_rng(0)
    pieces = []
    for number in range(30):
        pieces += [babble(random.uniform(0.1, 0.3), number), np.zeros(int(16000 * random.uniform(0.02, 0.2)))]
    sound = np.concatenate(pieces).astype(np.float32)
    soundfile.write(folder / "sound.wav", sound[: 7 * 16000], 16000)
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "color=black:s=64x64:r=25:d=7"]
    command += ["-i", folder / "sound.wav", "-c:a", "flac", folder / "film.mkv"]
    subprocess.run(command, check=True)
    return folder, sound[: 7 * 16000]


@pytest.fixture
def track():
    return Track("film.mkv", "digest", Media(7.0, 64, 64, True), 0, BEFORE_S, FRAMES, ())


def mouth(opening):
    """Keypoints whose inner lips are apart by `opening` (F,) of the eyes' distance."""
    points = np.zeros((len(opening), COUNT, 2), np.float32)
    face = points[:, FACE]
    face[:, 33, 0], face[:, 263, 0] = -50, 50
    face[:, [82, 13, 312], 1] = -50 * opening[:, None]
    face[:, [87, 14, 317], 1] = 50 * opening[:, None]
    return Keypoints(points, np.ones((len(opening), COUNT), np.float32), (64, 64), 25.0)


def judged(tmp_path, recording, track, opening, **changes):
    config = replace(PrepareConfig(), sound=SoundConfig(**changes))
    return hear(Work(tmp_path), recording[0], track, mouth(opening), config)


@pytest.fixture
def energy(recording):
    start = round(BEFORE_S * 16000)
    values = speech_features(recording[1][start : start + FRAMES * 640], 25.0).blocks["energy"][:, 0]
    return 0.3 * values + 0.02 * np.random.default_rng(1).normal(size=len(values))


def test_sound_that_fits(tmp_path, recording, track, energy):
    found = judged(tmp_path, recording, track, energy)
    assert found["reason"] == "" and found["before"] == 25 and found["measures"]["lip_r"] > 0.8
    assert abs(found["measures"]["lip_lag_s"]) < 0.05 and found["measures"]["speech"] > 0.5
    sound = load_sound(Work(tmp_path), found["key"])
    assert len(sound) == (25 + FRAMES + 25) * 640, "a second before, and what there is after"
    assert np.abs(sound - recording[1][: len(sound)]).max() < 2e-4, "on the clock of the pictures"


def test_late_lips(tmp_path, recording, track, energy):
    for lag in (-8, 8):
        found = judged(tmp_path, recording, track, np.roll(energy, lag))
        assert found["reason"].startswith(("lips are", "lips do not move")), lag
        assert abs(found["measures"]["lip_lag_s"] - lag / 25) < 0.05
    assert judged(tmp_path, recording, track, np.roll(energy, 2))["reason"] == "", "0.08 s is within the limit"
    assert judged(tmp_path, recording, track, np.roll(energy, 8), lag_s=0.4)["reason"] == ""


def test_lips_of_somebody_else(tmp_path, recording, track):
    other = np.convolve(np.random.default_rng(3).normal(size=FRAMES + 4), np.ones(5) / 5, "valid")
    found = judged(tmp_path, recording, track, np.abs(other))
    assert "lips do not move with the sound" in found["reason"] or "off the sound" in found["reason"]
    brief = replace(track, frames=50)
    assert judged(tmp_path, recording, brief, np.abs(other[:50]))["reason"] == "", "too short to judge"


def test_no_speech_and_no_sound(tmp_path, recording, track, energy):
    folder = tmp_path / "quiet"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 1e-4, 7 * 16000).astype(np.float32)
    soundfile.write(folder / "film.wav", noise, 16000)
    found = hear(
        Work(tmp_path), folder, replace(track, source="film.wav", file="other"), mouth(energy), PrepareConfig()
    )
    assert found["reason"].startswith("no speech: in 0%")
    silent = replace(track, media=Media(7.0, 64, 64, False))
    assert judged(tmp_path, recording, silent, energy)["reason"] == "silent: the file has no sound"


def test_sound_that_ends_early_ends_in_silence(tmp_path, recording, energy):
    late = Track("film.mkv", "digest", Media(7.0, 64, 64, True), 0, 4.0, FRAMES, ())
    found = judged(tmp_path, recording, late, energy)
    sound = load_sound(Work(tmp_path), found["key"])
    assert len(sound) == (50 + FRAMES) * 640 and np.abs(sound[-2 * 16000 :]).max() == 0
