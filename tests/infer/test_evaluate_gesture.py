"""The evaluation as a user runs it: files in, tables and pictures out; broken files named, nothing silently 0."""

import csv
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from infer.evaluate import main
from infer.evaluate_gesture import parse, plan
from infer.gesture_files import _key, measure_file, read_motion, read_result, speaker_of
from infer.gesture_report import build, markdown
from pose.bvh import write_bvh
from pose.metrics.gesture_features import GestureFeatures
from pose.metrics.suite import AUDIO_MEASURES, MEASURES, Values
from pose.motion import Motion
from pose.prosody import prosody_motion
from pose.speech import speech_features

SECONDS = 13


def syllables(seed: int) -> np.ndarray:
    """A buzz that comes and goes about three times a second."""
    random = np.random.default_rng(seed)
    time = np.arange(SECONDS * 16000) / 16000
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 12))
    beats = np.convolve(random.random(len(time) // 800) < 0.18, np.hanning(7), mode="same")
    return (
        0.2 * buzz * np.interp(time, np.arange(len(beats)) * 0.05, beats) + random.normal(0, 1e-3, len(time))
    ).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("gestures")
    for part in ("made", "true", "sound"):
        (root / part).mkdir()
    for number in range(3):
        name, sound = f"{number}_anna_0_1_{number}", syllables(number)
        features = speech_features(sound, 30.0)
        soundfile.write(root / "sound" / f"{name}.wav", sound, 16000)
        prosody_motion(features, number).save(root / "true" / f"{name}.npz")
        made = prosody_motion(features, 50 + number)
        if number == 0:
            write_bvh(root / "made" / f"{name}.bvh", made.resampled(25.0))
        else:
            made.save(root / "made" / f"{name}.npz")
    (root / "made" / "8_cut_0_1_1.npz").write_bytes(b"PK\x03\x04 cut off")
    prosody_motion(features, 1).save(root / "true" / "8_cut_0_1_1.npz")
    soundfile.write(root / "sound" / "8_cut_0_1_1.wav", sound, 16000)
    made.save(root / "made" / "9_alone_0_1_1.npz")
    torch.manual_seed(0)
    GestureFeatures("test", width=8, channels=16).save_pretrained(root / "extractor")
    return root


def arguments(root, out, *more):
    return [
        "gesture", str(root / "made"), "--reference", str(root / "true"), "--audio", str(root / "sound"),
        "--extractor", str(root / "extractor"), "--output", str(out), "--jobs", "1", *more,
    ]  # fmt: skip


def test_a_whole_evaluation(folders, tmp_path, capsys):
    assert main(arguments(folders, tmp_path, "--plots", "1")) == 0
    shown = capsys.readouterr().out
    table = json.loads((tmp_path / "table.json").read_text())
    # 1. Rows and cells.
    rows = table["rows"]
    assert list(rows) == ["generated", "generated, other audio", "ground truth", "ground truth, other audio"]
    fgd = next(name for name in rows["generated"] if name.startswith("FGD(test-"))
    assert rows["generated"][fgd]["value"] > 0 and fgd in shown
    assert "jerk" not in rows["generated, other audio"]
    mouth = [rows[row]["speech-mouth correlation"]["value"] for row in ("ground truth", "ground truth, other audio")]
    assert mouth[0] > mouth[1] + 0.1
    assert rows["generated"]["expression FD(window-moments)"]["value"] >= 0
    wind = rows["generated"]["WInD(window-moments)"]
    assert wind["value"] > 0 and wind["files"] == 2  # the .bvh has no face
    cell = rows["generated"]["jerk"]
    assert cell["files"] == cell["of"] == 3 and cell["interval"][0] <= cell["value"] <= cell["interval"][1]
    # 2. Every column says what it is, in all forms.
    for text in (shown, (tmp_path / "table.md").read_text()):
        for name in ("jerk", "BC talkshow", fgd, "expression FD(window-moments)"):
            assert text.count(f"{name}:") >= 1
        assert "bootstrap over files" in text
    # 3. What could not be measured is named, with a reason.
    assert set(table["broken"]) == {"8_cut_0_1_1", "9_alone_0_1_1"}
    assert "no ground truth and no audio" in table["broken"]["9_alone_0_1_1"]
    assert "whole" in table["broken"]["8_cut_0_1_1"] and "8_cut_0_1_1" in shown
    faces = {e["row"]: e["reasons"] for e in table["excluded"] if e["measure"] == "expression FD(window-moments)"}
    assert faces["generated"] == {"the motion has no face": ["0_anna_0_1_0"]}
    assert any("too few" in reason for reason in faces["ground truth"])
    semantic = [entry for entry in table["excluded"] if entry["measure"] == "SRGR beat_v1"]
    assert len(semantic[0]["reasons"]["no semantic scores"]) == 3
    assert any("25 fps beside 30 fps" in note for note in table["notes"])
    # 4. The other forms.
    assert (tmp_path / "table.md").read_text().startswith("| measure | unit | generated |")
    with open(tmp_path / "table.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["row"] for line in lines} == set(rows)
    assert len(list((tmp_path / "plots").glob("*.png"))) == 2
    # 5. Again: everything is kept, the table is the same, broken files are tried again.
    before = (tmp_path / "files" / "1_anna_0_1_1.json").stat().st_mtime_ns
    assert main(arguments(folders, tmp_path, "--plots", "0")) == 0
    assert (tmp_path / "files" / "1_anna_0_1_1.json").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == rows


def test_other_input_is_not_taken_for_kept(folders, tmp_path):
    jobs, *_ = plan(parse(arguments(folders, tmp_path)[1:]))
    job = next(job for job in jobs if job.name.startswith("0"))
    keys = {_key(job), _key(replace(job, reference=job.motion)), _key(replace(job, other_audio=job.audio))}
    keys |= {_key(replace(job, extractor=None)), _key(replace(job, semantic=job.audio))}
    state = job.motion.stat()
    os.utime(job.motion, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    keys |= {_key(job)}
    assert len(keys) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root, tmp: ["gesture", str(tmp)], "holds no .bvh"),
        (lambda root, tmp: ["gesture", str(tmp / "nothing")], "does not exist"),
        (lambda root, tmp: ["gesture", str(root / "made"), "--audio", str(root / "true")], "holds no .wav"),
        (lambda root, tmp: ["gesture", str(root / "made" / "8_cut_0_1_1.npz")], "none of 1 files could be measured"),
        (lambda root, tmp: [*arguments(root, tmp)[:-2], "--extractor", str(tmp)], "no GestureFeatures"),
        (lambda root, tmp: [*arguments(root, tmp), "--jobs", "0"], "--jobs must be at least 1"),
        (lambda root, tmp: ["gesture"], "required: generated"),
        (lambda root, tmp: [*arguments(root, tmp), "--expression", str(tmp / "no.pth")], "does not exist"),
        (lambda root, tmp: ["motion"], "gesture or video"),
    ],
)
def test_bad_input_is_one_line(folders, tmp_path, capsys, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    assert main(change(folders, tmp_path)) == 2
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]


def test_empty_reference_names_do_not_match(folders, tmp_path, capsys):
    (tmp_path / "list.txt").write_text(f"{folders / 'made' / '9_alone_0_1_1.npz'}\n")
    given = ["gesture", str(tmp_path / "list.txt"), "--reference", str(folders / "true"), "--output", str(tmp_path)]
    assert main(given) == 2
    assert "no motion has a partner" in capsys.readouterr().err


def test_a_table_without_values_is_refused():
    with pytest.raises(ValueError, match="no file could be measured"):
        build({}, None)


def test_means_are_weighted_and_partial_cells_say_so():
    results = {
        "a": {"generated": Values({"jerk": (1.0, 30.0)})},
        "b": {"generated": Values({"jerk": (4.0, 10.0)})},
        "c": {"generated": Values({}, {"jerk": "too short"})},
    }
    table = build(results, None)
    cell = table.cells["generated", "jerk"]
    assert cell.value == pytest.approx(1.75) and (cell.count, cell.files) == (2, 3)
    assert "(2/3)" in markdown(table) and "no jerk" in markdown(table) and "too short: c" in markdown(table)


def test_names():
    assert speaker_of("12_zhao_0_1_1") == "12" and speaker_of("103-1240-0000") == "103"
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert all(measure.definition for measure in MEASURES)


def test_beat2_files_are_read(tmp_path):
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "x.npz", poses=random.normal(0, 0.1, (40, 165)).astype(np.float32), trans=np.zeros((40, 3)),
        expressions=np.zeros((40, 100)), mocap_frame_rate=np.array(30),
    )  # fmt: skip
    motion = read_motion(tmp_path / "x.npz")
    assert len(motion) == 40 and motion.fps == 30 and len(motion.skeleton) == 75


def test_beats_face_lies_beside_its_bvh(tmp_path):
    from pose.motion import EXPRESSION_NAMES
    from pose.skeleton import Skeleton

    skeleton = Skeleton.home()
    rest = np.tile(np.eye(3, dtype=np.float32), (31, len(skeleton), 1, 1))
    path = tmp_path / "1_anna_0_1_1.bvh"
    write_bvh(path, Motion(30.0, skeleton, rest, np.zeros((31, 3), np.float32)))
    assert read_motion(path).expression is None
    frames = [{"weights": [k / 100] * 51, "time": k / 60} for k in range(62)]
    path.with_suffix(".json").write_text(json.dumps({"names": list(EXPRESSION_NAMES), "frames": frames}))
    face = read_motion(path).expression
    assert face.shape == (31, 51) and face[15] == pytest.approx(0.30, abs=0.011)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(ValueError, match="no whole face file"):
        read_motion(path)


def test_faces_by_saids_encoder(tmp_path):
    from infer.gesture_files import face_encoder
    from pose.metrics.extractors import BlendshapeEncoder
    from pose.metrics.face import expression_features, said_windows

    torch.manual_seed(0)
    tensors = {"encoder." + name: value for name, value in BlendshapeEncoder().state_dict().items()}
    torch.save(tensors, tmp_path / "vae.pth")
    encoder = face_encoder(tmp_path / "vae.pth")
    assert encoder.name.startswith("vae ")
    # More windows than are encoded at once, and a step that does not divide the rest.
    face = np.random.default_rng(0).random((120 + 300 * 3 + 2, 32))
    together = encoder.features(said_windows(face, 3))
    np.testing.assert_allclose(expression_features(face, encoder.features, 3), together, atol=1e-5)
    assert expression_features(face, step=3).shape == (301, 64)
    with pytest.raises(ValueError, match="less than a window"):
        expression_features(face[:100])


def test_what_is_wrong_with_one_file_stays_with_it(folders, tmp_path):
    """Another file's broken sound, a motion that stands still, a file of scores without scores: named, not fatal."""
    jobs, *_ = plan(parse(arguments(folders, tmp_path)[1:]))
    job = next(job for job in jobs if job.name.startswith("1"))
    motion = read_motion(job.motion)
    still = np.zeros(len(motion), int)
    held = replace(motion, rotations=motion.rotations[still], expression=motion.expression[still])
    held.save(tmp_path / "still.npz")
    soundfile.write(tmp_path / "short.wav", np.ones(100), 16000)
    (tmp_path / "scores.txt").write_text("these are no scores\n")
    job = replace(
        job, motion=tmp_path / "still.npz", other_audio=tmp_path / "short.wav", semantic=tmp_path / "scores.txt"
    )
    assert measure_file(job) == (job.name, "")
    rows, notes = read_result(job)
    assert set(rows) == {"generated", "ground truth"}
    made = rows["generated"]
    # 1. A constant has no diversity, and says so.
    assert made.values["L1div emage"][0] == 0 and any("generated motion is constant" in note for note in notes)
    # 2. It has no beats either, and that is no 0.
    beats = [name for name in AUDIO_MEASURES if name.startswith(("Beat", "BC"))]
    assert not set(beats) & set(made.values) and set(beats) <= set(made.reasons)
    # 3. The two other files.
    assert any("no other audio" in note and "short.wav" in note for note in notes)
    assert any("scores.txt holds no line" in note for note in notes) and "SRGR beat_v1" in made.reasons
