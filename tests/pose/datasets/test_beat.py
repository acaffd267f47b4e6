"""BEAT: a small folder in the dataset's real files, whole and with each of the faults that copies have."""

import json
import re

import numpy as np
import pytest
import soundfile

from pose.bvh import write_bvh
from pose.datasets.__main__ import main
from pose.datasets.beat import EMOTIONS, ONE_HOUR, Beat, emotion_of, read_face, split_of, splits_of
from pose.datasets.check import check, open_dataset
from pose.datasets.clip import resampled_curves
from pose.motion import EXPRESSION_NAMES, Motion
from pose.rotations import axis_angle_to_matrix
from pose.skeleton import Skeleton
from pose.textgrid import Interval, write_textgrid

SECONDS = 2.0


def home_motion(seconds: float = SECONDS, fps: float = 120.0, seed: int = 0) -> Motion:
    """Smooth random turns of all joints about the rest pose."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * fps)) / fps
    turns = 0.5 * np.sin(
        2 * np.pi * time[:, None, None] * random.uniform(0.2, 1, (1, 75, 3)) + random.uniform(0, 6, 3)
    )
    root = np.stack([5 * np.sin(time), np.full(len(time), 93.0), np.cos(time)], -1)
    return Motion(fps, Skeleton.home(), axis_angle_to_matrix(turns).astype(np.float32), root.astype(np.float32))


def write_take(folder, name, seconds=SECONDS, sound_s=SECONDS, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    write_bvh(folder / f"{name}.bvh", home_motion(seconds, seed=seed))
    tone = 0.1 * np.sin(np.arange(round(sound_s * 16000)) / 20)
    soundfile.write(folder / f"{name}.wav", tone, 16000)
    frames = [{"weights": [0.5] * 50 + [k % 2 * 1.0], "time": k / 60} for k in range(round(seconds * 60))]
    (folder / f"{name}.json").write_text(json.dumps({"names": list(EXPRESSION_NAMES), "frames": frames}))
    write_textgrid(
        folder / f"{name}.TextGrid", {"words": [Interval(0.2, 0.5, "hello"), Interval(0.5, 9, "x")][:1]}, 10
    )
    (folder / f"{name}.txt").write_text("02_deictic_l\t0.5\t1.0\t0.5\t0.7\tthere\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beat")
    for name in ("2_scott_0_1_1", "2_scott_0_57_57", "2_scott_0_66_66"):
        write_take(folder / "2", name)
    return folder


def test_whole_recording(folder):
    beat = Beat(folder)
    assert [(r.split, r.style) for r in beat.recordings] == [
        ("test", "neutral"),
        ("val", "neutral"),
        ("train", "happiness"),
    ]
    clip = beat.load(beat.recordings[0], 30.0)
    assert len(clip) == 60 and clip.waveform.shape == (32000,) and clip.notes == ()
    assert clip.words == (Interval(0.2, 0.5, "hello"),)
    np.testing.assert_allclose(clip.semantic, np.where((np.arange(60) >= 15) & (np.arange(60) < 30), 0.7, 0))
    wanted = home_motion().resampled(30.0)
    np.testing.assert_allclose(clip.motion.rotations, wanted.rotations[: len(clip)], atol=1e-5)
    assert clip.motion.expression is not None
    # A coefficient that alternates between 0 and 1 is averaged when thinned, and never leaves its range.
    assert np.allclose(clip.motion.expression[1:-1, 50], 0.5, atol=0.26)


def test_splits_and_emotions_have_the_published_counts():
    numbers = list(range(1, 119))
    splits = [split_of(0, n) for n in numbers] + [split_of(1, n) for n in range(1, 13)]
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (98, 16, 16)
    assert [emotion_of(0, n) for n in (1, 64, 65, 73, 81, 87, 95, 103, 111, 118, 119)] == [
        "neutral", "neutral", *EMOTIONS[1:], "disgust", "neutral",
    ]  # fmt: skip


def test_one_hour_speakers_are_cut_inside_files(tmp_path, monkeypatch):
    """The authors' list: 16 monologues and two conversations train; 4 and the halves of 8 are on each other side."""
    assert len(ONE_HOUR) == 20 and not ONE_HOUR & {1, 2, 3, 4, 6, 7, 8, 9, 11, 21}
    named = [splits_of(5, 0, n) for n in range(1, 119)] + [splits_of(5, 1, n) for n in range(1, 4)]
    sides = (("", "train"), ("", "val"), ("b", "val"), ("", "test"), ("a", "test"))
    assert [sum(splits.get(part) == side for splits in named) for part, side in sides] == [18, 4, 8, 4, 8]
    assert splits_of(5, 0, 40) == {"": "additional"} and splits_of(2, 0, 65) == {"": "test"}

    monkeypatch.setattr("pose.datasets.beat._HALF_S", (1.0, 300.0))
    write_take(tmp_path, "5_stewart_0_65_65")
    beat = Beat(tmp_path)
    assert [(r.name[-2:], r.split) for r in beat.recordings] == [("_a", "test"), ("_b", "val")]
    first, second = (beat.load(recording, 30.0) for recording in beat.recordings)
    whole = home_motion().resampled(30.0).rotations
    np.testing.assert_allclose(first.motion.rotations, whole[:30], atol=1e-5)
    np.testing.assert_allclose(second.motion.rotations, whole[30:60], atol=1e-5)
    assert (len(first.waveform), len(second.waveform)) == (16000, 16000)
    assert first.words == (Interval(0.2, 0.5, "hello"),) and second.words == ()
    assert first.semantic.max() > 0 and second.semantic.max() == 0
    write_take(tmp_path, "5_stewart_0_73_73", seconds=1.5, sound_s=1.5)
    report = check(Beat(tmp_path))
    assert report.usable == 3 and "leaves 0.50 s" in dict(report.unusable)["5_stewart_0_73_73_b"]


def test_other_bone_lengths_and_names_are_mapped(tmp_path):
    """A speaker with longer arms, and joints under BEAT's own name, gives the same bones in space."""
    write_take(tmp_path, "3_solomon_0_9_9")
    bvh = tmp_path / "3_solomon_0_9_9.bvh"
    text = bvh.read_text().replace("ForeArm", "Arm1")
    bvh.write_text(re.sub(r"OFFSET (-?)28.000000", r"OFFSET \g<1>33.000000", text))
    beat = Beat(tmp_path)
    clip = beat.load(beat.recordings[0], 30.0)
    np.testing.assert_allclose(clip.motion.rotations, home_motion().resampled(30.0).rotations[:60], atol=1e-5)


def faulty(folder):
    """One recording for each fault: name to what the report must say of it."""
    cases = {}
    for number, fault in enumerate(
        (
            "cut off",
            "NaN",
            "wrong joints",
            "header",
            "frame time",
            "sound is no sound",
            "short",
            "no face",
            "grid",
            "no grid",
        ),
        10,
    ):
        name = f"4_lawrence_0_{number}_{number}"
        write_take(folder, name, seed=number, sound_s=0.4 if fault == "short" else SECONDS)
        cases[fault] = name
        bvh = folder / f"{name}.bvh"
        text = bvh.read_text()
        lines = text.splitlines()
        if fault == "cut off":
            bvh.write_text("\n".join(lines[: len(lines) * 7 // 10]))
        elif fault == "NaN":
            lines[-3] = lines[-3].replace(lines[-3].split()[7], "nan", 1)
            bvh.write_text("\n".join(lines))
        elif fault == "wrong joints":
            bvh.write_text(text.replace("JOINT LeftHandRing2", "JOINT LeftHandRinger"))
        elif fault == "header":
            bvh.write_text(text.replace("Frames: 240", "Frames: 238"))
        elif fault == "frame time":
            bvh.write_text(re.sub(r"Frame Time: .*", "Frame Time: .041667", text))
        elif fault == "sound is no sound":
            (folder / f"{name}.wav").write_text("hello")
        elif fault == "no face":
            (folder / f"{name}.json").unlink()
        elif fault == "no grid":
            (folder / f"{name}.TextGrid").unlink()
        elif fault == "grid":
            (folder / f"{name}.TextGrid").write_text(
                'File type = "ooTextFile"\nObject class = "TextGrid"\n0 1 <exists> 3'
            )
    return cases


def test_faults_are_named_and_counted(tmp_path, capsys):
    cases = faulty(tmp_path)
    (tmp_path / "9_miranda_0_2_8.wav").write_bytes(b"")
    (tmp_path / "notes.bvh").write_text("")
    report = check(open_dataset(tmp_path))
    unusable, mended = dict(report.unusable), dict(report.mended)
    assert set(unusable) == {
        cases[f] for f in ("cut off", "NaN", "wrong joints", "sound is no sound", "short")
    } | {"9_miranda_0_2_8", "notes.bvh"}  # fmt: skip
    assert "frames" in unusable[cases["cut off"]] and "nan" in unusable[cases["NaN"]]
    assert "LeftHandRing2" in unusable[cases["wrong joints"]]
    assert "240 frames" in mended[cases["header"]] and "120" in mended[cases["frame time"]]
    assert "face" in mended[cases["no face"]] and "cut off" in mended[cases["grid"]]
    assert "no words" in mended[cases["no grid"]]
    assert report.usable == 5
    assert main([str(tmp_path)]) == 1
    assert "5 recordings usable" in capsys.readouterr().out
    assert main([str(tmp_path / "nothing")]) == 2


def test_sound_and_motion_of_different_sizes(tmp_path, capsys):
    """A .wav that ends before its header says, and one that outlasts the motion: cut to the shorter, and noted."""
    write_take(tmp_path, "4_lawrence_0_9_9", 3.5, 3.5)
    wav = tmp_path / "4_lawrence_0_9_9.wav"
    wav.write_bytes(wav.read_bytes()[: 44 + 2 * 32000])
    write_take(tmp_path, "4_lawrence_0_10_10", 2.0, 3.5, seed=1)
    beat = Beat(tmp_path)
    clips = {recording.name: beat.load(recording, 30.0) for recording in beat.recordings}
    assert {len(clip) for clip in clips.values()} == {60} and {len(c.waveform) for c in clips.values()} == {32000}
    mended = dict(check(beat).mended)
    assert "motion is 1.5 s longer" in mended["4_lawrence_0_9_9"]
    assert "sound is 1.5 s longer" in mended["4_lawrence_0_10_10"]
    assert main([str(tmp_path)]) == 0 and "2 with notes" in capsys.readouterr().out


def test_wrong_frame_time_is_mended_to_the_sound(tmp_path):
    write_take(tmp_path, "29_hanieh_1_4_4")
    bvh = tmp_path / "29_hanieh_1_4_4.bvh"
    bvh.write_text(re.sub(r"Frame Time: .*", "Frame Time: .041667", bvh.read_text()))
    beat = Beat(tmp_path)
    assert len(beat.load(beat.recordings[0], 30.0)) == 60


@pytest.mark.parametrize("fps", [25.0, 60.0])
def test_faces_run_at_the_rate_of_their_times(tmp_path, fps):
    values = np.random.default_rng(0).random((50, len(EXPRESSION_NAMES))).round(5)
    frames = [{"weights": row.tolist(), "time": round(k / fps, 5)} for k, row in enumerate(values)]
    path = tmp_path / "face.json"
    path.write_text(json.dumps({"names": list(EXPRESSION_NAMES), "frames": frames}))
    read, rate = read_face(path, [])
    assert rate == fps
    np.testing.assert_array_equal(resampled_curves(read, rate, fps, 50), values.astype(np.float32))
    path.write_text(json.dumps({"names": list(EXPRESSION_NAMES), "frames": [{"weights": [0.0] * 51}] * 3}))
    assert read_face(path, [])[1] == 60.0


@pytest.mark.parametrize("target", [15.0, 30.0, 60.0, 24.0, 120.0])
def test_curves_keep_range_and_mean(target):
    values = np.random.default_rng(0).random((120, 3)).astype(np.float32)
    values[40:80] = 0
    frames = int(2 * target)
    curves = resampled_curves(values, 60.0, target, frames)
    assert curves.shape == (frames, 3) and curves.min() >= 0 and curves.max() <= 1
    np.testing.assert_allclose(curves.mean(0), values.mean(0), atol=0.06)
    if target == 60.0:
        np.testing.assert_array_equal(curves, values)
