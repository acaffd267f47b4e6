"""The evaluation of videos: names, intervals, tables, and one whole run with a broken file that is taken up again."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from avatar.video_io import VideoWriter
from infer.evaluate_video import companions, gather, main, make_jobs, other_sound, parse, remarks
from infer.saved_scores import Job, Scores, Settings, array
from infer.spool import Spool
from infer.video_plots import ENVELOPE_HZ, envelope
from infer.video_report import Row, markdown, summary, terminal, write
from infer.video_scores import declared, first_seconds, mouth_opening
from pose.keypoints import COUNT, FACE, Keypoints

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FRAMES = 46


def touch(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_are_named_by_their_place(tmp_path):
    for name in ("a/1.mp4", "a/2.MOV", "b/1.mkv", "notes.txt", ".hidden/3.mp4"):
        touch(tmp_path / "made" / name)
    assert list(gather(tmp_path / "made", (".mp4", ".mov", ".mkv"))) == ["a/1", "a/2", "b/1"]
    listing = touch(tmp_path / "list.txt", "# two of them\nmade/a/1.mp4\n\nmade/a/2.MOV\n")
    assert list(gather(listing, (".mp4",))) == ["1", "2"]
    with pytest.raises(ValueError, match="nothing in"):
        gather(tmp_path / "made", (".avi",))
    with pytest.raises(ValueError, match="several files named a/1"):
        touch(tmp_path / "made/a/1.avi")
        gather(tmp_path / "made", (".mp4", ".avi"))
    with pytest.raises(ValueError, match="check the path"):
        gather(tmp_path / "none", (".mp4",))


def test_companions_are_found_by_name(tmp_path):
    touch(tmp_path / "photos/a.png")
    assert companions(tmp_path / "photos", (".png",), ["a", "b"], "photo") == {"a": tmp_path / "photos/a.png"}
    one = companions(tmp_path / "photos/a.png", (".png",), ["a", "b"], "photo")
    assert set(one) == {"a", "b"}
    with pytest.raises(ValueError, match="named like a video"):
        companions(tmp_path / "photos", (".png",), ["c"], "photo")
    assert companions(None, (".png",), ["c"], "photo") == {}


def test_systems_with_one_name_are_told_apart(tmp_path):
    for folder in ("x/made", "y/made"):
        touch(tmp_path / folder / "a.mp4")
    jobs = make_jobs(parse([str(tmp_path / "x/made"), str(tmp_path / "y/made")]))
    assert len({job.system for job in jobs}) == 2


def test_key_follows_files_and_settings(tmp_path):
    job = Job("made", "a", touch(tmp_path / "a.mp4"))
    key = job.key(Settings())
    assert key == job.key(Settings(device="cuda")) != job.key(Settings(every=2))
    touch(tmp_path / "a.mp4", "changed")
    assert job.key(Settings()) != key


def test_bootstrap_interval():
    values = np.random.default_rng(1).normal(5, 2, 400)
    cell = summary(values)
    assert cell.low < cell.mean < cell.high and cell.mean == pytest.approx(values.mean())
    assert cell.high - cell.low == pytest.approx(4 * 2 / 20, rel=0.15)
    assert summary(values) == cell
    assert summary(np.array([3.0])).low is None and summary(np.array([np.inf, 1.0])).mean == np.inf
    with pytest.raises(ValueError, match="numbers"):
        summary(np.zeros(0))


def test_tables_name_weights_exclusions_and_broken_files(tmp_path):
    made = Row("made", files={"a": {"hkc": 0.9, "lpips": 0.1}, "b": {"hkc": 0.7}})
    made.excluded = {"a": {}, "b": {"lpips": "no true video of this name"}}
    made.broken = {"c": "c.mp4 is not a video"}
    made.whole = {"fid": 12.5}
    rows = [made, Row("made, wrong audio"), Row("ground truth", files={"a": {"hkc": 1.0, "psnr": float("inf")}})]
    names = {"lpips": "alex#12345678"}
    for text in (markdown(rows, names, ["the detector"]), terminal(rows, names, ["the detector"])):
        assert "LPIPS [alex#12345678] ↓" in text and "0.100 (n=1)" in text and "0.800 [0.700, 0.900]" in text
        assert "the detector" in text and "12.50" in text and "wrong audio" not in text
        assert "c.mp4 is not a video" in text and "without LPIPS: 1 of 2 (b): no true video" in text
    write(tmp_path, rows, names, ["the detector"], {})
    document = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert document["rows"][0]["cells"]["hkc"]["count"] == 2 and document["rows"][2]["files"]["a"]["psnr"] == "inf"
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert {line["metric"] for line in lines if line["row"] == "made"} == {"fid", "lpips", "hkc"}
    assert len(list(csv.DictReader((tmp_path / "files.csv").open()))) == 3


def test_the_wrong_sound_is_another_recording(tmp_path):
    rng = np.random.default_rng(0)
    same = rng.random(50).astype(np.float32)
    stems = {}
    for name, loudness in (("a", same), ("b", same), ("c", rng.random(40).astype(np.float32)), ("d", None)):
        stems[name] = tmp_path / name
        Scores(arrays={} if loudness is None else {"loudness": loudness}).save(stems[name])
    assert other_sound("a", stems) == stems["c"] and other_sound("c", stems) == stems["a"]
    assert other_sound("a", {"a": stems["a"], "b": stems["b"]}) == stems["a"]
    assert array(stems["d"], "loudness") is None


def test_mouth_opening_knows_lost_faces():
    points = np.random.default_rng(0).random((3, COUNT, 2)).astype(np.float32)
    confidence = np.ones((3, COUNT), np.float32)
    confidence[1, FACE] = 0
    assert np.isnan(mouth_opening(Keypoints(points, confidence, (9, 9), 25.0))).tolist() == [False, True, False]


def test_remarks_tell_what_numbers_hide():
    facts = {"frames": 20, "seconds": 0.8, "no face, frames": 5, "declared fps": 12.0, "declared duration": 2.5}
    told = remarks(facts | {"frames equal to the true video's": 3}, {"frames": 50}, 25.0)
    for part in (
        "12 frames a second",
        "0.8 of the 2.5 s",
        "no face in 5 of 20",
        "beside 50 of the true",
        "3 compared",
    ):
        assert any(part in line for line in told), part
    whole = {"frames": 50, "seconds": 2.0, "no face, frames": 50, "declared fps": 25.0, "declared duration": 2.04}
    assert remarks(whole, {"frames": 51}, 25.0) == [] == remarks(whole, None, 25.0)
    row = Row("made", files={"a": {"hkc": 1.0}}, notes={"a": ["12 frames a second, read at 25"]})
    assert "- made: a: 12 frames a second" in terminal([row], {}, []) + markdown([row], {}, [])


def test_a_cut_file_is_told_by_what_it_declares(videos):
    whole = videos / "made/a.mp4"
    assert declared(whole)["declared fps"] == 25 and declared(whole)["declared duration"] == pytest.approx(
        1.84, abs=0.1
    )
    assert declared(videos / "made/b.mp4") == {}


def test_rows_are_kept_on_disk():
    spool, rows = Spool(3, 2), np.random.default_rng(0).random((50, 3, 2)).astype(np.float32)
    assert spool.rows().shape == (0, 3, 2)
    for row in rows:
        spool.add(row)
    kept = spool.rows()
    assert len(spool) == 50 and isinstance(kept, np.memmap) and (kept == rows).all()
    del spool
    assert (kept == rows).all()  # the file lives as long as its rows
    with pytest.raises(ValueError, match="a row must be"):
        Spool(3).add(np.zeros(4))


def test_only_the_start_of_the_sound_is_read():
    left = iter([np.ones(16000, np.float32)] * 5)
    assert len(first_seconds(left, 1.5)) == 24000 and len(list(left)) == 3
    assert len(first_seconds(iter([np.ones(100, np.float32)]), 60.0)) == 100


def test_envelope():
    wave = np.sin(np.arange(16000)).astype(np.float32)
    assert envelope(wave).shape == (2, ENVELOPE_HZ) and envelope(wave)[1].min() > 0.9


def test_bad_input_is_one_line(tmp_path, capsys):
    touch(tmp_path / "made/a.mp4")
    for argv in (
        ["--out", "x"],
        [str(tmp_path / "none")],
        [str(tmp_path / "made"), "--every", "0"],
        [str(tmp_path / "made"), "--arcface", str(tmp_path / "none.onnx")],
        [str(tmp_path / "made"), "--real", str(tmp_path / "made/none")],
    ):
        assert main([*argv, *([] if "--out" in argv else ["--out", str(tmp_path / "out")])]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A true video, one made of it with noise, a broken one, and the keypoints that drove it."""
    import cv2

    from pose.detect import PersonDetector
    from pose.images import load_image

    folder = tmp_path_factory.mktemp("videos")
    photo = cv2.resize(load_image(EXAMPLES / "presenter.png"), (320, 320), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    for kind, deviation in (("real", 0), ("made", 12)):
        (folder / kind).mkdir()
        with VideoWriter(folder / kind / "a.mp4", (320, 320), 25.0, FRAMES, EXAMPLES / "speech.wav") as writer:
            for number in range(FRAMES):
                frame = np.roll(photo, number // 4, axis=1) + rng.normal(size=photo.shape) * deviation
                writer.write(np.clip(frame, 0, 255).astype(np.uint8))
    touch(folder / "made/b.mp4", "this is not a video")
    with PersonDetector() as detector:
        keypoints = detector.image(photo, matte=False).keypoints
    shift = (np.arange(FRAMES) // 4)[:, None, None] * np.array([1, 0])
    points = (keypoints.points + shift).astype(np.float32)
    (folder / "driving").mkdir()
    confidence = np.repeat(keypoints.confidence, FRAMES, axis=0)
    Keypoints(points, confidence, keypoints.size, 25.0).save(folder / "driving/a.npz")
    return folder


def test_whole_run(videos, capsys):
    out = videos / "report"
    argv = [str(videos / "made"), "--real", str(videos / "real"), "--driving", str(videos / "driving")]
    argv += ["--out", str(out), "--jobs", "2", "--plots", "1"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "MediaPipe" in text and "DWPose" in text and "ground truth" in text
    assert "made: 1 files, 1 broken" in text and "broken: made: b:" in text and "not a video" in text
    document = json.loads((out / "results.json").read_text())
    made, _, truth, _ = document["rows"]
    values = made["files"]["a"]
    assert 20 < values["psnr"] < 32 and 0.2 < values["ssim"] < 0.95 and values["ms_ssim"] > values["ssim"]
    assert values["akd"] < 6 and values["kpe_body"] < 0.1 and values["kpe_face"] < 0.05
    assert values["flicker"] > 2 > truth["files"]["a"]["flicker"]
    assert 0.5 < values["hkc"] <= 1 and "psnr" not in truth["files"]["a"]
    assert (out / "table.md").is_file() and (out / "table.csv").is_file() and (out / "files.csv").is_file()
    assert any((out / "plots").glob("worst_ssim_made.png")) and any((out / "plots").glob("mouth_made_a.png"))

    stamps = {p: p.stat().st_mtime_ns for p in (out / ".scores").iterdir()}
    assert main([*argv, "--plots", "0"]) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / ".scores").iterdir()} == stamps
    assert json.loads((out / "results.json").read_text())["rows"] == document["rows"]


def test_nothing_measurable_is_an_error(tmp_path, capsys):
    listing = touch(tmp_path / "list.txt", "gone.mp4\n")
    assert main([str(listing), "--out", str(tmp_path / "report")]) == 2
    assert "no video could be measured" in capsys.readouterr().err
