"""Preparation from end to end: a raw folder with everything that goes wrong in one, twice, changed, killed, resumed.

The people are NASA's portrait of Eileen Collins, which comes with scikit-image, moved about.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import soundfile

from avatar.data.pixels import encode_video
from avatar.data.shards import ShardFolder
from avatar.video_io import find_ffmpeg
from pose.keypoints import FACE
from train.prepare import main, sections

ROOT = Path(__file__).resolve().parents[2]
# Small pictures and few mattes: what is tested is the way, not the beauty.
SETTINGS = [
    "crop.size=192", "scan.side=384", "detect.side=384", "detect.matte_every=13", "filter.face_px=20",
    "crop.most_enlarged=4", "split.val_names=[portrait]", "crop.identity_side=32", "shard_mb=1",
    "audio=configs/model_tiny.yaml", "vae=null",
]  # fmt: skip
FRAMES = 25  # the shortest clip


def swaying(frames, image, width=360):
    """The picture under a window that moves by a pixel a frame."""
    return np.stack([image[:width, k : k + width] for k in range(frames)])


@pytest.fixture(scope="module")
def raw(tmp_path_factory, babble):
    folder = tmp_path_factory.mktemp("raw")
    astronaut = cv2.resize(skimage.data.astronaut(), (400, 400), interpolation=cv2.INTER_AREA)
    person = encode_video(swaying(FRAMES, astronaut), 25.0)
    (folder / "person.mp4").write_bytes(person)
    soundfile.write(folder / "speech.wav", np.pad(babble(1.5), (0, 4000)), 16000)
    command = [find_ffmpeg(), "-v", "error", "-i", folder / "person.mp4", "-i", folder / "speech.wav", "-c:v", "copy"]
    (folder / "talks").mkdir()
    subprocess.run([*command, "-c:a", "aac", "-shortest", folder / "talks" / "speaker.mp4"], check=True)
    (folder / "person.mp4").rename(folder / "silent.mp4")
    two = np.concatenate([swaying(FRAMES, astronaut, 300), swaying(FRAMES, astronaut[:, ::-1], 300)], axis=2)
    (folder / "two.mp4").write_bytes(encode_video(two, 25.0))
    (folder / "nobody.mkv").write_bytes(encode_video(np.full((FRAMES, 64, 64, 3), 90, np.uint8), 25.0))
    (folder / "brief.mp4").write_bytes(encode_video(swaying(9, astronaut), 25.0))
    (folder / "empty.mp4").touch()
    (folder / "text.avi").write_text("hello")
    (folder / "cut.mp4").write_bytes((folder / "talks" / "speaker.mp4").read_bytes()[:20000])
    cv2.imwrite(str(folder / "portrait.jpg"), skimage.data.astronaut()[..., ::-1])
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


def prepare(raw, output, *changes):
    return main([str(raw), str(output), *SETTINGS, *changes])


def shards(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in (".tar", ".parquet")}


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "out"
    assert prepare(raw, output) == 0
    return output


def test_every_file_is_accounted_for(prepared):
    report = json.loads((prepared / "report.json").read_text())
    rows = {row["file"]: row for row in report["of each file"]}
    assert len(rows) == 10 and report["files"]["left aside by name"] == {".wav": 1}
    refused = {name: " ".join(row["refused"]) for name, row in rows.items() if not row["clips"]}
    for name, reason in {
        "two.mp4": "several people of similar size",
        "nobody.mkv": "no face",
        "brief.mp4": "too brief",
        "empty.mp4": "the file is empty",
        "text.avi": "not a video",
        "cut.mp4": "not a video|no frame can be decoded|damaged",
        "broken.png": "not an image|damaged",
    }.items():
        assert any(part in refused.pop(name) for part in reason.split("|")), name
    assert not refused, "the three good ones gave clips"
    assert rows["silent.mp4"]["without sound"] == ["silent: the file has no sound"]
    assert rows["talks/speaker.mp4"]["without sound"] == []
    assert report["splits"]["train"]["clips"] == 2 and report["splits"]["val"]["clips"] == 1
    assert report["networks"]["audio"].startswith("mel:")
    page = (prepared / "report.md").read_text()
    assert all(name in page for name in rows) and "| val | 1 | 1 |" in page
    assert cv2.imread(str(prepared / "contact_sheet.jpg")).shape[1] == 1600


def test_clips_are_what_they_say(prepared):
    folder = ShardFolder(prepared)
    clips = {row.source: folder.clip(number) for number, row in enumerate(folder.rows)}
    assert set(clips) == {"silent.mp4", "talks/speaker.mp4", "portrait.jpg"}
    clip = clips["talks/speaker.mp4"]
    assert len(clip) == FRAMES and clip.split == "train" and abs(np.prod(clip.size) / 192**2 - 1) < 0.15
    frames = clip.frames()
    crop = clip.meta["crop"]
    astronaut = cv2.resize(skimage.data.astronaut(), (400, 400), interpolation=cv2.INTER_AREA)
    for number in (0, FRAMES - 1):
        x, y = crop["x"] + number, crop["y"]
        true = astronaut[y : y + crop["height"], x : x + crop["width"]]
        true = cv2.resize(true, clip.size[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(frames[number].astype(float) - true).mean() < 4, "the crop that it says, and the frame"
    # The face is where the points say, and moves as the window did.
    nose = clip.points[:, FACE.start + 4]
    step = -clip.size[1] / crop["width"]
    assert abs(np.polyfit(np.arange(FRAMES), nose[:, 0], 1)[0] - step) < 0.15 and np.ptp(nose[:, 1]) < 3
    mattes = clip.mattes()
    x, y = nose[14].astype(int)
    assert mattes[14, y, x] > 240 and mattes[14, :8, :8].mean() < 100
    assert clip.crops(0).shape == (3, 32, 32, 3) and clip.crops(0)[0].std() > 20
    assert clip.confidence[:, FACE].min() > 0.5 and np.isfinite(clip.boxes[:, 0]).all()
    # Sound: the speech from the start of the pictures, states of every frame with their neighbours.
    waveform = clip.waveform()
    assert len(waveform) == FRAMES * 640 and clip.audio.shape == (FRAMES, 5, 4, 64) and waveform.std() > 0.02
    assert clip.meta["sound_before"] == 0 and clip.meta["networks"]["audio"].startswith("mel:")
    assert clips["silent.mp4"].audio is None and not clips["silent.mp4"].meta["sound"]
    assert np.array_equal(clips["silent.mp4"].points, clip.points), "the same pictures are looked at once"
    photo = clips["portrait.jpg"]
    assert len(photo) == 1 and photo.split == "val" and photo.mattes()[0].mean() > 20


def test_states_equal_those_of_inference(prepared):
    """What training caches is what the audio encoder computes of the clip's sound."""
    import torch

    from train.prepare_networks import load_audio

    folder = ShardFolder(prepared)
    clip = next(clip for clip in folder if clip.meta["sound"])
    encoder = load_audio(str(ROOT / "configs" / "model_tiny.yaml"))
    states = encoder.states(clip.waveform(context=True))[: len(clip)]
    window = clip.meta["audio_window"]
    found = torch.from_numpy(clip.audio_states[window : window + len(clip)].astype(np.float32))
    assert (found - states).abs().max() < 5e-3  # float16
    tokens = encoder(torch.from_numpy(np.ascontiguousarray(clip.audio[None], np.float32)))
    assert tokens.shape == (1, FRAMES, 4, encoder.config.audio_dim)


def stamps(folder):
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_the_second_run_does_nothing(raw, prepared):
    before, began = stamps(prepared), time.monotonic()
    assert prepare(raw, prepared) == 0
    assert stamps(prepared) == before
    assert time.monotonic() - began < 5


def test_a_changed_setting_makes_again_what_depends_on_it(raw, prepared, tmp_path):
    import shutil

    output = tmp_path / "out"
    shutil.copytree(prepared, output)

    def new_results(*changes):
        before = stamps(output / "work")
        assert prepare(raw, output, *changes) == 0
        return {path.parts[0] for path in stamps(output / "work") if path not in before}

    assert new_results("vae=configs/model_tiny.yaml") == {"latents", "track"}
    folder = ShardFolder(output)
    assert all(clip.latents.shape == (len(clip), 4, *(s // 8 for s in clip.size)) for clip in folder)
    assert all(row.latents for row in folder.rows)
    assert new_results("filter.face_px=21") == {"track"}
    assert new_results("crop.identity_side=16") == {"render", "track"}
    assert new_results("sound.need=true") == {"track"}
    report = json.loads((output / "report.json").read_text())
    assert report["refused"]["silent"]["times"] == 2 and len(ShardFolder(output)) == 1
    assert prepare(raw, output) == 0 and shards(output) == shards(prepared), "back again: the same bytes"


def test_killed_and_resumed_gives_the_same_shards(raw, prepared, tmp_path):
    command = [sys.executable, str(ROOT / "train" / "prepare.py"), str(raw), str(tmp_path), *SETTINGS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, cwd=tmp_path, env=environment)
    while not list(tmp_path.glob("work/detect/*/*.npz")) and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL and not (tmp_path / "manifest.parquet").exists()
    done = set(stamps(tmp_path / "work"))
    assert prepare(raw, tmp_path) == 0
    assert shards(tmp_path) == shards(prepared)
    left = {p for p in done if ".part" in p.name}
    assert not {p for p in left if (tmp_path / "work" / p).exists()}, "what the killed process left is gone"


@pytest.mark.parametrize(
    "folders, message",
    [
        (("missing", "out"), "no such folder"),
        (("nothing", "out"), "no video or photo in"),
        (("raw", "file"), "is a file; name a folder"),
        (("raw", "raw"), "the same folder"),
    ],
)
def test_wrong_folders_are_refused_in_one_line(folders, message, tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.mp4").touch()
    (tmp_path / "file").touch()
    assert main([str(tmp_path / folders[0]), str(tmp_path / folders[1])]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_wrong_settings_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "a.mp4").touch()
    for change, message in (
        ("filter.face=3", "did you mean filter.face_px"),
        ("crop.clip_frames=[10,50]", "within 25 to 125"),
        ("audio=nowhere.yaml", "no such model description"),
        ("vae=nowhere", "holds no autoencoder"),
        ("split.by=colour", "file or folder"),
    ):
        assert main([str(tmp_path), str(tmp_path / "out"), "audio=null", "--processes", "1", "vae=null", change]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1, change


def test_long_files_are_cut_into_parts():
    assert (
        sections(10.0, 60.0) == [(0.0, 10.0)] and sections(61.0, 60.0) == [(0.0, 61.0)] and sections(0, 60) == [(0, 0)]
    )
    assert sections(63.5, 60.0) == [(0.0, 60.0), (60.0, 3.5)]
    parts = sections(3 * 3600.0, 60.0)
    assert len(parts) == 180 and sum(length for _, length in parts) == 3 * 3600
