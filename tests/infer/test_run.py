"""The command, end to end on small inputs, and every input it has to refuse."""

import subprocess
import sys
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest
import soundfile
from skimage import data

from infer.run import main
from pose.keypoints import Keypoints
from pose.motion import Motion

ROOT = Path(__file__).resolve().parents[2]
SPEECH = ROOT / "examples" / "speech.wav"
PRESENTER = ROOT / "examples" / "presenter.png"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A portrait, a recording of a second at 44.1 kHz stereo, and things that are neither."""
    folder = tmp_path_factory.mktemp("inputs")
    imageio.imwrite(folder / "portrait.png", data.astronaut())
    speech, rate = soundfile.read(SPEECH)
    soundfile.write(folder / "speech.wav", speech[:rate], rate)
    soundfile.write(folder / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "empty.wav", np.zeros(0), 16000)
    broken = speech[:rate].astype(np.float32)
    broken[100] = np.nan
    soundfile.write(folder / "nan.wav", broken, rate, subtype="FLOAT")
    imageio.imwrite(folder / "landscape.png", cv2.resize(data.rocket()[:200], (256, 256)))
    imageio.imwrite(folder / "tiny.png", np.zeros((10, 10, 3), np.uint8))
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.txt").write_text("neither a picture nor a sound")
    return folder


def frames_of(path):
    return imageio.imread(path)


def run_ok(*arguments):
    """Runs the command, by geometry alone unless a model is named: that is what most tests here are of."""
    model = () if "--model" in arguments else ("--model", "none")
    assert main([str(argument) for argument in (*arguments, *model)]) == 0


def test_portrait_to_video_with_everything_beside_it(inputs, tmp_path):
    video, motion, points = tmp_path / "talk.mp4", tmp_path / "talk.npz", tmp_path / "points.npz"
    common = ("--image", inputs / "portrait.png", "--size", 256)
    run_ok(*common, "--audio", inputs / "speech.wav", "--output", video, "--motion-out", motion, "--keypoints-out",
           points, "--preview")  # fmt: skip
    assert frames_of(video).shape == (25, 256, 256, 3)
    assert len(Motion.load(motion)) == len(Keypoints.load(points)) == 25
    assert imageio.imread(tmp_path / "talk.png").ndim == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["points.npz", "talk.mp4", "talk.npz", "talk.png"]

    # The written motion, read again, makes the same frames; so does the same seed.
    run_ok(*common, "--audio", inputs / "speech.wav", "--output", tmp_path / "again", "--motion-in", motion)
    run_ok(*common, "--audio", inputs / "speech.wav", "--output", tmp_path / "seed")
    for name in ("000000.png", "000017.png", "000024.png"):
        again, seed = imageio.imread(tmp_path / "again" / name), imageio.imread(tmp_path / "seed" / name)
        assert np.abs(again.astype(int) - seed).max() <= 2  # the file keeps rotations as float32

    # The video drives the portrait again.
    run_ok(*common, "--audio", inputs / "speech.wav", "--output", tmp_path / "driven.mp4", "--driving", video)
    assert len(frames_of(tmp_path / "driven.mp4")) == 25


def test_same_seed_same_bytes_another_seed_another_video(inputs, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run_ok("--image", inputs / "portrait.png", "--audio", inputs / "speech.wav", "--size", 256, "--seed", seed,
               "--output", tmp_path / name)  # fmt: skip
    a, b, c = ([path.read_bytes() for path in sorted((tmp_path / name).glob("*.png"))] for name in "abc")
    assert a == b and a != c


def test_half_body_example_at_an_odd_size(tmp_path, inputs):
    output = ("--output", tmp_path / "x.webm", "--motion-out", tmp_path / "x.bvh")
    run_ok("--image", PRESENTER, "--audio", inputs / "speech.wav", "--size", "321x259", *output)
    assert frames_of(tmp_path / "x.webm").shape == (25, 260, 322, 3)


def test_silence_is_legal_and_quiet(inputs, tmp_path):
    run_ok("--image", inputs / "portrait.png", "--audio", inputs / "silence.wav", "--size", 256, "--output",
           tmp_path / "still", "--fps", 12.5)  # fmt: skip
    assert len(list((tmp_path / "still").glob("*.png"))) == 13


def test_dry_run_writes_nothing(inputs, tmp_path, capsys):
    run_ok("--image", inputs / "portrait.png", "--audio", SPEECH, "--output", tmp_path / "x.mp4", "--dry-run")
    said = capsys.readouterr().out
    assert "512x512" in said and "200 frames" in said and "segment" in said and " s on two CPU cores" in said
    assert not list(tmp_path.iterdir())


REFUSED = {
    "no such image": {"--image": "absent.png"},
    "not an image": {"--image": "text.txt"},
    "is empty": {"--image": "zero.png"},
    "only 10 x 10": {"--image": "tiny.png"},
    "no person": {"--image": "landscape.png"},
    "no such audio": {"--audio": "absent.wav"},
    "text.txt": {"--audio": "text.txt"},
    "holds no sound": {"--audio": "empty.wav"},
    "NaN": {"--audio": "nan.wav"},
    "does not exist": {"--output": "absent/talk.mp4"},
    "cannot write .xyz": {"--output": "talk.xyz"},
    "--size": {"--size": "3"},
    "--fps": {"--fps": "1000"},
    "invalid int value": {"--seed": "many"},
    "no such file": {"--motion-in": "absent.bvh"},
    "reads .bvh and .npz": {"--motion-in": "text.txt"},
    "not a video": {"--driving": "text.txt"},
    "--device": {"--device": "toaster"},
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused_in_one_line_with_nothing_written(words, inputs, tmp_path, capfd):
    given = {"--image": "portrait.png", "--audio": "speech.wav", "--output": "talk.mp4"} | REFUSED[words]
    places = {"--image": inputs, "--audio": inputs, "--output": tmp_path, "--motion-in": inputs, "--driving": inputs}
    arguments = [str(part) for key, value in given.items() for part in (key, places.get(key, Path()) / value)]
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == "" and words in err and err.count("\n") == 1 and err.startswith("run.py: ")
    assert not list(tmp_path.iterdir())


def test_motion_of_another_length_or_skeleton_is_refused(inputs, tmp_path, capfd):
    from pose.skeleton import Skeleton

    home = Skeleton.home()
    still = np.broadcast_to(np.eye(3, dtype=np.float32), (100, len(home), 3, 3)).copy()
    Motion(25.0, home, still, np.zeros((100, 3), np.float32)).save(tmp_path / "long.npz")
    other = Skeleton(("a", "b"), (-1, 0), np.zeros((2, 3), np.float32))
    Motion(25.0, other, still[:25, :2], np.zeros((25, 3), np.float32)).save(tmp_path / "other.npz")
    for name, words in (("long.npz", "100 frames (4.00 s) and the speech needs 25"), ("other.npz", "skeleton")):
        arguments = [
            "--image",
            inputs / "portrait.png",
            "--audio",
            inputs / "speech.wav",
            "--motion-in",
            tmp_path / name,
        ]
        assert main([str(part) for part in (*arguments, "--output", tmp_path / "x.mp4")]) == 2
        err = capfd.readouterr().err
        assert words in err and err.count("\n") == 1
    assert not (tmp_path / "x.mp4").exists()


def test_unwritable_folder_and_missing_ffmpeg(inputs, tmp_path):
    command = [sys.executable, ROOT / "infer" / "run.py", "--image", inputs / "portrait.png", "--audio", SPEECH]
    run = subprocess.run([*command, "--output", "/proc/talk.mp4"], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 2 and "not writable" in run.stderr and run.stderr.count("\n") == 1
    nowhere = {"IMAGEIO_FFMPEG_EXE": str(tmp_path / "nowhere"), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=nowhere)
    assert run.returncode == 2 and "ffmpeg was not found" in run.stderr and run.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_model_run_that_was_stopped_goes_on_to_the_same_bytes(inputs, tmp_path, monkeypatch, capfd):
    import torch

    import infer.run
    from avatar.build import load_pipeline
    from avatar.video_io import VideoWriter

    torch.manual_seed(0)
    load_pipeline(ROOT / "configs" / "model_tiny.yaml").save_pretrained(tmp_path / "model")
    monkeypatch.setattr(infer.run, "MODEL_SEGMENT_FRAMES", 15)
    given = ["--image", inputs / "portrait.png", "--audio", inputs / "speech.wav", "--size", 128]
    given += ["--model", tmp_path / "model", "--strength", 0.5, "--steps", 1]
    run_ok(*given, "--output", tmp_path / "whole.mp4")
    write = VideoWriter.write

    def stopped(self, frame):
        if self.written == 22:
            raise KeyboardInterrupt
        write(self, frame)

    (tmp_path / "out").mkdir()
    again = [str(word) for word in (*given, "--output", tmp_path / "out" / "whole.mp4")]
    with monkeypatch.context() as patch:
        patch.setattr(VideoWriter, "write", stopped)
        assert main(again) == 130
    assert not (tmp_path / "out" / "whole.mp4").exists()
    capfd.readouterr()
    assert main(again) == 0
    assert "going on from frame 15" in capfd.readouterr().err
    assert (tmp_path / "out" / "whole.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole.mp4"]
