"""Reading recordings, and the features on the clock of the video."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from pose.speech import (
    SAMPLE_RATE,
    SpeechFeatures,
    measure_levels,
    open_speech,
    speech_features,
    stream_features,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "speech.wav"


def babble(seconds: float = 6.0, rate: int = SAMPLE_RATE, pitch_hz: float = 120.0) -> np.ndarray:
    """Four vowel-like syllables a second (a buzz through two resonances), silent from 2 to 3 s and after 5 s."""
    time = np.arange(int(seconds * rate)) / rate
    pitch = pitch_hz * (1.0 + 0.1 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = np.zeros_like(time)
    for harmonic in range(1, int(3500 / pitch_hz)):
        frequency = harmonic * pitch_hz
        gain = 1 / (1 + ((frequency - 650) / 120) ** 2) + 0.5 / (1 + ((frequency - 1200) / 150) ** 2) + 0.003
        sound += gain * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 4 * time) + 0.3, 0, None)
    speaking = ((time < 2) | (time > 3)) & (time < 5)
    return (0.2 * sound * syllables * speaking).astype(np.float32)


def assert_same(a: SpeechFeatures, b: SpeechFeatures) -> None:
    assert set(a.blocks) == set(b.blocks)
    for name in a.blocks:
        np.testing.assert_array_equal(a.blocks[name], b.blocks[name], err_msg=name)
    np.testing.assert_array_equal(a.waveform, b.waveform)


@pytest.mark.parametrize("fps", [25.0, 30.0, 23.976, 12.5])
def test_frames_cover_the_sound_and_waveform_is_kept(fps: float) -> None:
    sound = babble(5.013)
    features = speech_features(sound, fps)
    assert len(features) == int(np.ceil(len(sound) / SAMPLE_RATE * fps))
    np.testing.assert_array_equal(features.waveform, sound)
    assert all(np.isfinite(block).all() for block in features.blocks.values())


@pytest.mark.parametrize("size", [501, 16000, 50000])
def test_stream_does_not_depend_on_the_chunks(size: int) -> None:
    sound = babble(9.3)
    levels = measure_levels([sound])
    whole = SpeechFeatures.join(list(stream_features([sound], levels)))
    cut = stream_features((sound[i : i + size] for i in range(0, len(sound), size)), levels)
    assert_same(SpeechFeatures.join(list(cut)), whole)


def test_features_mean_what_they_say() -> None:
    features = speech_features(babble()).blocks
    time = np.arange(150) / 25
    speaking = ((time < 1.9) | (time > 3.1)) & (time < 4.9)
    silent = ((time > 2.1) & (time < 2.9)) | (time > 5.1)
    speech, energy = features["speech"][:, 0], features["energy"][:, 0]
    assert speech[speaking].mean() > 0.9 and speech[silent].max() == 0.0
    assert energy[silent].max() == 0.0 and 0.7 < energy.max() <= 1.3
    voiced = features["voicing"][:, 0] > 0.6
    truth = 12 * np.log2(1 + 0.1 * np.sin(2 * np.pi * 0.7 * (time + 0.02)))
    assert voiced[speaking].mean() > 0.5
    assert np.corrcoef(features["pitch"][voiced, 0], truth[voiced])[0, 1] > 0.98
    # An onset at each of the four syllables a second.
    onset = features["onset"][:, 0]
    peaks = (onset[1:-1] > onset[:-2]) & (onset[1:-1] >= onset[2:]) & (onset[1:-1] > 0.2)
    assert 14 <= peaks.sum() <= 18


def test_pitch_in_hertz() -> None:
    for pitch_hz in (85.0, 220.0, 330.0):
        assert measure_levels([babble(pitch_hz=pitch_hz)]).pitch_hz == pytest.approx(pitch_hz, rel=0.07)


def test_level_does_not_matter() -> None:
    loud, quiet = (speech_features(babble() * gain).blocks for gain in (1.0, 0.003))
    for name in ("energy", "voicing", "onset", "speech"):
        assert np.abs(loud[name] - quiet[name]).mean() < 0.02, name


def test_steady_noise_is_not_speech() -> None:
    generator = np.random.default_rng(0)
    sound = babble()
    clean = speech_features(sound).blocks["speech"][:, 0] > 0.5
    noisy = sound + 0.3 * sound.std() * generator.normal(size=len(sound)).astype(np.float32)
    found = speech_features(noisy).blocks["speech"][:, 0] > 0.5
    assert (found == clean).mean() > 0.9 and found[~clean].mean() < 0.05
    hum = np.sin(2 * np.pi * 100 * np.arange(len(sound)) / SAMPLE_RATE).astype(np.float32)
    for steady in (generator.normal(0, 0.1, len(sound)).astype(np.float32), hum, np.zeros_like(sound)):
        assert speech_features(steady).blocks["speech"].mean() < 0.02


def test_one_word_in_a_minute_of_silence() -> None:
    generator = np.random.default_rng(0)
    sound = np.zeros(60 * SAMPLE_RATE, np.float32)
    sound[30 * SAMPLE_RATE : 32 * SAMPLE_RATE] = babble(2.0)
    for noise in (0.0, 0.002):
        noisy = sound + noise * generator.normal(size=len(sound)).astype(np.float32)
        speech = speech_features(noisy).blocks["speech"][:, 0]
        assert speech[760:790].mean() > 0.9 and speech[:740].max() == 0.0 and speech[810:].max() == 0.0
    click = 1e-4 * generator.normal(size=60 * SAMPLE_RATE).astype(np.float32)
    click[480000:480200] = 0.5
    assert speech_features(click).blocks["speech"].max() == 0.0


def test_example_is_speech() -> None:
    speech = open_speech(EXAMPLE)
    features = SpeechFeatures.join(list(speech.features()))
    assert 6.0 <= speech.duration_s <= 10.5 and len(features) == speech.frames()
    assert features.blocks["speech"].mean() > 0.6


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 44100, 2), ("a.flac", 8000, 1), ("a.ogg", 48000, 6), ("a.mp3", 22050, 1), ("a.m4a", 44100, 2)],
)
def test_any_format_rate_and_channels(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    sound = np.repeat(babble(3.0, rate)[:, None], channels, 1)
    path = tmp_path / name
    if name.endswith("m4a"):  # libsndfile has no AAC: this goes through ffmpeg
        soundfile.write(tmp_path / "a.wav", sound, rate)
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / "a.wav"), str(path)]
        subprocess.run(command, check=True)
    else:
        soundfile.write(path, sound, rate)
    speech = open_speech(path)
    assert (speech.source_rate, speech.channels) == (rate, channels)
    assert speech.duration_s == pytest.approx(3.0, abs=0.12)  # codecs pad
    assert sum(len(chunk) for chunk in speech.chunks()) == speech.samples
    features = SpeechFeatures.join(list(speech.features()))
    assert len(features) == speech.frames() and len(features.waveform) == speech.samples
    reference = speech_features(babble(3.0)).blocks["energy"][:70, 0]
    assert np.corrcoef(features.blocks["energy"][:70, 0], reference)[0, 1] > 0.9


def test_inverted_channel_and_overdriven_floats(tmp_path: Path) -> None:
    sound = babble(3.0)
    soundfile.write(tmp_path / "inverted.wav", np.stack([sound, -sound], 1), SAMPLE_RATE, subtype="FLOAT")
    speech = open_speech(tmp_path / "inverted.wav")
    assert speech.channel == 0 and not speech.levels.silent
    soundfile.write(tmp_path / "hot.wav", 1000.0 * sound, SAMPLE_RATE, subtype="FLOAT")
    hot = SpeechFeatures.join(list(open_speech(tmp_path / "hot.wav").features()))
    assert np.abs(hot.waveform).max() <= 1.0
    np.testing.assert_allclose(hot.blocks["energy"], speech_features(sound).blocks["energy"], atol=0.03)


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is not audio\n" * 50)
    soundfile.write(tmp_path / "no_samples.wav", np.zeros(0, np.float32), SAMPLE_RATE)
    soundfile.write(tmp_path / "short.wav", np.zeros(400, np.float32), SAMPLE_RATE)
    broken = babble(1.0)
    broken[8000] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, SAMPLE_RATE, subtype="FLOAT")
    expected = {
        "missing.wav": "no such audio file",
        "empty.wav": "0 bytes",
        "text.wav": "not audio",
        "no_samples.wav": "0 samples|not audio",
        "short.wav": "25 ms",
        "nan.wav": r"NaN.*0\.50 s",
        ".": "not a file",
    }
    for name, message in expected.items():
        with pytest.raises(ValueError, match=message) as raised:
            open_speech(tmp_path / name)
        assert "\n" not in str(raised.value) and ";" in str(raised.value)


def test_missing_ffmpeg_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "song.m4a").write_bytes(b"no header that libsndfile knows")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no_such_ffmpeg"))
    with pytest.raises(ValueError, match="needs ffmpeg"):
        open_speech(tmp_path / "song.m4a")


def test_features_check_their_shapes() -> None:
    with pytest.raises(ValueError, match="same number of frames"):
        SpeechFeatures(25.0, {"energy": np.zeros((3, 1), np.float32), "mel": np.zeros((4, 64), np.float32)})
    features = speech_features(babble(2.0))
    assert len(features[10:20]) == 10 and len(features[10:20].waveform) == 6400
    with pytest.raises(ValueError, match="mono"):
        speech_features(np.zeros((2, 100), np.float32))
