"""Motion from speech: natural, deterministic, streamed; lips, strokes and stillness follow the sound."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from pose.motion import EXPRESSION_NAMES, Motion, expression_index
from pose.prosody import ProsodyMotion, prosody_motion
from pose.speech import SAMPLE_RATE, SpeechFeatures, open_speech, speech_features
from pose.stress import find_stresses

EXAMPLE = Path(__file__).parents[2] / "examples" / "speech.wav"
FPS = 25.0


def talk(seconds: float, seed: int = 0, pauses: tuple[tuple[float, float], ...] = ()) -> np.ndarray:
    """Speech-like sound: syllables of uneven length, loudness and pitch with two moving formants, weak gaps between
    them and silence in `pauses`. 16 kHz."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    knots = np.cumsum(random.uniform(0.12, 0.32, int(seconds * 6) + 4))
    loudness, pitch, first, second = np.zeros_like(time), np.zeros_like(time), np.zeros_like(time), np.zeros_like(time)
    for start, end in zip(knots, knots[1:], strict=False):
        inside = (time >= start) & (time < end)
        loudness[inside] = random.uniform(0.2, 1.0) * np.sin(np.pi * (time[inside] - start) / (end - start)) ** 0.7
        pitch[inside] = random.uniform(95, 150)
        first[inside], second[inside] = random.uniform(300, 800), random.uniform(900, 2200)
    for start, end in pauses:
        loudness[(time >= start) & (time < end)] = 0.0
    smooth = np.hanning(800) / np.hanning(800).sum()
    pitch, first, second = (np.convolve(x, smooth, "same") + 1.0 for x in (pitch, first, second))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    sound = np.zeros_like(time)
    for harmonic in range(1, 26):
        frequency = harmonic * pitch
        gain = 1 / (1 + ((frequency - first) / 90) ** 2) + 0.5 / (1 + ((frequency - second) / 120) ** 2) + 0.002
        sound += gain * np.sin(harmonic * phase)
    return (0.2 * sound * loudness + 1e-5 * random.normal(size=len(time))).astype(np.float32)


@lru_cache
def features(kind: str) -> SpeechFeatures:
    if kind == "example":
        return SpeechFeatures.join(list(open_speech(EXAMPLE).features()))
    if kind == "silence":
        return speech_features(np.zeros(20 * SAMPLE_RATE, np.float32))
    if kind == "paused":
        return speech_features(talk(14.0, 1, ((5.0, 8.0),)))
    return speech_features(talk(60.0 if kind == "0" else 30.0, int(kind)))


@lru_cache
def motion(kind: str, seed: int = 0) -> Motion:
    return prosody_motion(features(kind), seed)


def wrists(moved: Motion) -> np.ndarray:
    """(F, 2, 3) in shoulder widths."""
    positions = moved.positions()
    name = moved.skeleton.index
    width = np.linalg.norm(positions[0, name("LeftArm")] - positions[0, name("RightArm")])
    return positions[:, [name("LeftHand"), name("RightHand")]] / width


def speed(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(points, axis=0), axis=-1) * FPS


@pytest.mark.parametrize("kind", ["example", "0", "paused", "silence"])
def test_same_length_and_valid(kind: str) -> None:
    moved = motion(kind)
    assert len(moved) == len(features(kind)) and moved.fps == FPS
    rotations = moved.rotations.astype(np.float64)
    assert np.abs(rotations @ np.swapaxes(rotations, -1, -2) - np.eye(3)).max() < 1e-5
    assert (np.linalg.det(rotations) > 0.99).all()
    assert moved.expression.min() >= 0.0 and moved.expression.max() <= 1.0


def test_first_frame_is_rest_for_every_seed() -> None:
    for seed in range(4):
        moved = motion("example", seed)
        np.testing.assert_allclose(moved.rotations[0], motion("silence").rotations[0], atol=1e-6)
        assert moved.expression[0].max() < 0.02


@pytest.mark.parametrize("sizes", [(1,), (7, 1, 90), (1000,)])
def test_stream_does_not_depend_on_the_chunks(sizes: tuple[int, ...]) -> None:
    whole = features("paused")
    parts, start = [], 0
    while start < len(whole):
        size = sizes[len(parts) % len(sizes)]
        parts.append(whole[start : start + size])
        start += size
    streamed = Motion.concatenated(list(ProsodyMotion(0).stream(iter(parts))))
    np.testing.assert_array_equal(streamed.rotations, motion("paused").rotations)
    np.testing.assert_array_equal(streamed.root_position, motion("paused").root_position)
    np.testing.assert_array_equal(streamed.expression, motion("paused").expression)


def test_stream_looks_ahead_a_bounded_time() -> None:
    """Motion comes while features still arrive, and what comes later than 7 s cannot change it."""
    whole = features("0")
    given = 0

    def feed() -> object:
        nonlocal given
        for start in range(0, len(whole), 25):
            given = start + 25
            yield whole[start : start + 25]

    made = 0
    for part in ProsodyMotion(0).stream(feed()):
        made += len(part)
        assert given - made <= 7 * 25
    cut = prosody_motion(whole[: 20 * 25], 0)
    np.testing.assert_array_equal(cut.rotations[: 12 * 25], motion("0").rotations[: 12 * 25])


def test_seed_decides() -> None:
    again = prosody_motion(features("example"), 1)
    np.testing.assert_array_equal(again.rotations, motion("example", 1).rotations)
    for other in (0, 2, 3):
        away = np.linalg.norm(wrists(again) - wrists(motion("example", other)), axis=-1)
        assert away.mean() > 0.08


@pytest.mark.parametrize("kind", ["example", "0", "paused"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wrists_move_like_those_of_speakers(kind: str, seed: int) -> None:
    moved = wrists(motion(kind, seed))
    speaking = features(kind).blocks["speech"][1:, 0] > 0.5
    acceleration = np.linalg.norm(np.diff(moved, 2, axis=0), axis=-1) * FPS**2
    assert np.percentile(acceleration, 99.9) <= 50.0
    assert 0.3 <= speed(moved)[speaking].mean() <= 1.2
    jerk = np.linalg.norm(np.diff(moved, 3, axis=0), axis=-1) * FPS**3
    assert jerk.max() < 900.0  # no spikes: minimum-jerk reaches at this acceleration have about 500
    away = np.linalg.norm(moved - moved[0], axis=-1)
    assert 0.3 < away.max() < 1.0


def test_hands_stay_in_front_and_apart() -> None:
    for seed in range(3):
        moved = motion("0", seed)
        positions = moved.positions() - moved.root_position[:, None]
        name = moved.skeleton.index
        left, right = positions[:, name("LeftHand")], positions[:, name("RightHand")]
        assert min(left[:, 2].min(), right[:, 2].min()) > 8.0  # cm before the hips
        assert (left[:, 0] - right[:, 0]).min() > 8.0


def test_no_freeze_and_no_loop() -> None:
    moved = motion("0")
    positions = moved.positions()
    still = np.abs(np.diff(positions, axis=0)).max((1, 2)) < 0.005  # cm a frame
    longest = max((len(run) for run in "".join("x" if s else " " for s in still).split()), default=0)
    assert longest <= 12
    path = wrists(moved)
    for column in range(2):
        x = path[:, column] - path[:, column].mean(0)
        size = len(x)
        product = sum(np.correlate(x[:, axis], x[:, axis], "full")[size - 1 :] for axis in range(3))
        likeness = product / product[0] * size / (size - np.arange(size))
        assert likeness[50:1000].max() < 0.5


def test_silence_is_quiet_but_alive() -> None:
    moved = motion("silence", 3)
    assert speed(wrists(moved))[25:].mean() < 0.1
    lips = [i for i, name in enumerate(EXPRESSION_NAMES) if name.startswith("jaw") or name in (
        "mouthFunnel", "mouthPucker", "mouthLowerDownLeft", "mouthUpperUpLeft")]  # fmt: skip
    assert moved.expression[:, lips].max() < 0.01
    blink = moved.expression[:, expression_index("eyeBlinkLeft")]
    assert blink.max() > 0.8
    assert np.abs(np.diff(moved.positions(), axis=0)).max((1, 2))[12:].min() > 0.0005


def test_hands_go_home_in_a_long_pause() -> None:
    moved = wrists(motion("paused", 1))
    away = np.linalg.norm(moved - moved[0], axis=-1).max(1)
    assert away[int(6.5 * FPS) : int(7.1 * FPS)].max() < 0.12
    assert away[int(2 * FPS) : int(5 * FPS)].max() > 0.25 and away[int(8.5 * FPS) : int(13 * FPS)].max() > 0.25


def test_mouth_follows_syllables() -> None:
    for kind in ("0", "example"):
        blocks = features(kind).blocks
        jaw = motion(kind).expression[:, expression_index("jawOpen")]
        speaking = blocks["speech"][:, 0] > 0.5
        loudness = blocks["formants"].mean(1)
        lags = {lag: np.corrcoef(jaw[3:-3], np.roll(loudness, lag)[3:-3])[0, 1] for lag in range(-3, 4)}
        assert max(lags, key=lags.__getitem__) in (-1, 0, 1) and lags[0] > 0.6
        assert 0.1 < jaw[speaking].mean() < 0.35 and 0.4 < np.percentile(jaw, 99.5) < 0.8
    pause = slice(int(5.3 * FPS), int(7.7 * FPS))
    assert motion("paused").expression[pause, expression_index("jawOpen")].max() < 0.01


def test_jaw_opens_more_on_open_vowels() -> None:
    """The vowels of "spa" and "see" as two resonances each (Peterson and Barney 1952), by turns."""
    time = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    open_vowel = np.floor(time / 0.5) % 2 == 0
    first, second = np.where(open_vowel, 730.0, 270.0), np.where(open_vowel, 1090.0, 2290.0)
    sound = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = 115.0 * harmonic
        gain = 1 / (1 + ((frequency - first) / 60) ** 2) + 0.5 / (1 + ((frequency - second) / 80) ** 2)
        sound += gain * np.sin(2 * np.pi * frequency * time)
    sound *= 0.2 * np.clip(np.sin(2 * np.pi * 2 * time) ** 2 * 3, 0, 1)
    moved = prosody_motion(speech_features(sound.astype(np.float32)))
    jaw = moved.expression[:, expression_index("jawOpen")]
    wide = moved.expression[:, expression_index("mouthStretchLeft")]
    a, e = (np.concatenate([x[k : k + 4] for k in range(start, 96, 25)]) for start in (5, 17) for x in (jaw,))
    assert a.mean() > 0.35 and e.mean() < 0.5 * a.mean()
    assert wide[17:21].mean() > wide[5:9].mean() + 0.05


def test_strokes_end_on_stress() -> None:
    """Hands are fast 0.12 s before stressed syllables and slow just after; not so under another voice's syllables."""

    def fast_before_slow_after(moved: Motion, stressed: SpeechFeatures) -> float:
        hands = speed(wrists(moved)).max(1)
        times = [s.time_s for s in find_stresses(stressed.blocks, FPS, 0) if s.strength > 0.4]
        frames = [k for k in (round(t * FPS) - 1 for t in times) if 5 <= k < len(hands) - 5]
        return float(np.mean([hands[k - 3] for k in frames]) / np.mean([hands[k + 1] for k in frames]))

    kinds = ("0", "1")
    matched = [fast_before_slow_after(motion(kind, seed), features(kind)) for kind in kinds for seed in (0, 1)]
    other = [fast_before_slow_after(motion("0", seed)[:750], features("1")) for seed in (0, 1)]
    assert np.mean(matched) > 2.0
    assert np.mean(other) < 1.4


def test_blinks_are_human() -> None:
    for seed in range(3):
        blink = motion("0", seed).expression[:, expression_index("eyeBlinkLeft")]
        starts = np.flatnonzero((blink[1:] > 0.5) & (blink[:-1] <= 0.5))
        ends = np.flatnonzero((blink[1:] <= 0.5) & (blink[:-1] > 0.5))
        assert 9 <= len(starts) <= 26
        assert ((ends[: len(starts)] - starts[: len(ends)]) / FPS).max() <= 0.3
        assert np.diff(starts).std() / np.diff(starts).mean() > 0.3


def test_other_frame_rates_and_bad_arguments() -> None:
    sound = talk(4.0, 2)
    for fps in (30.0, 24.0):
        given = speech_features(sound, fps)
        assert len(prosody_motion(given)) == len(given)
    with pytest.raises(ValueError, match="fps"):
        ProsodyMotion(fps=5.0)
    with pytest.raises(ValueError, match="liveliness"):
        ProsodyMotion(liveliness=3.0)
    with pytest.raises(ValueError, match="30.0 frames a second"):
        next(ProsodyMotion(fps=25.0).stream([speech_features(sound, 30.0)]))
