"""The whole command on the real CC0 data at a small size; skipped without it."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avatar.data.shards import ShardFolder
from pose.keypoints import FACE
from pose.motion import EXPRESSION_NAMES, expression_index
from train.render import find_speech, main

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def speech(tmp_path_factory, babble):
    folder = tmp_path_factory.mktemp("voices")
    soundfile.write(folder / "a.wav", babble(2.0), 16000)
    return folder


@pytest.fixture(scope="module")
def rendered(real, opengl, speech, tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    arguments = ["--people", "2", "--seconds", "0.08", "--speech", str(speech), "size=[128,128]", "val_every=2"]
    arguments += ["audio=null", "identity_side=32", "oversample=1"]
    assert main([str(real), str(folder), *arguments]) == 0
    return folder, arguments


def test_clips_are_whole(rendered):
    clips = ShardFolder(rendered[0])
    assert [row.split for row in clips.rows] == ["train", "val"]
    for number in range(2):
        clip = clips.clip(number)
        assert len(clip) == 2 and clip.size == (128, 128) and len(clip.waveform()) == 2 * 640
        frames, mattes = clip.frames(), clip.mattes()
        assert 0.15 < (mattes > 128).mean() < 0.75
        # Points of the face lie on the person; the person differs from what is around.
        x, y = clip.points[0, FACE][:468].T.astype(int)
        assert (mattes[0][y, x] > 200).mean() > 0.98
        assert (clip.confidence[0, FACE] == 1).mean() > 0.6
        nose, ear = clip.depth[0, FACE.start + 4], clip.depth[0, FACE.start + 234]
        assert nose < ear
        assert frames.std() > 20 and np.isfinite(clip.boxes[:, 0]).all()
        known = clip.extra["depth_map"].astype(float)
        assert known.shape == (2, 16, 16) and 1.5 < np.median(known[known > 0]) < 6  # metres
        assert (known[0] > 0).mean() == pytest.approx((mattes[0] > 128).mean(), abs=0.06)
        assert clip.crops(0).shape == (3, 32, 32, 3)


def test_the_same_command_goes_on_and_repeats(rendered, real, tmp_path):
    """What is there is not rendered again; a fresh folder gets the same bytes."""
    folder, arguments = rendered
    before = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    began = time.monotonic()
    assert main([str(real), str(folder), *arguments]) == 0
    assert time.monotonic() - began < 3
    assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == before
    one = [*arguments]
    one[1] = "1"
    assert main([str(real), str(tmp_path), *one]) == 0
    assert (tmp_path / "train-000000.tar").read_bytes() == before["train-000000.tar"]


def test_faces_do_what_coefficients_say(real):
    """Distances of lips and lids on a neutral body, from the points of the face mesh."""
    from train.people.figure import Figure
    from train.people.labels import Labeller
    from train.people.looks import draw_look

    figure = Figure(real, draw_look(np.random.default_rng(3)))
    labeller = Labeller(figure)
    rest = np.tile(np.eye(3, 4), (len(figure.puppet.order), 1, 1))

    def face(**amounts):
        expression = np.zeros(len(EXPRESSION_NAMES), np.float32)
        for name, amount in amounts.items():
            expression[expression_index(name)] = amount
        return labeller.points(rest, expression)[FACE]

    def gap(points, a, b):
        return np.linalg.norm(points[a] - points[b])

    neutral, opened = face(), face(jawOpen=0.7)
    assert gap(opened, 13, 14) > gap(neutral, 13, 14) + 0.08
    assert gap(face(jawOpen=0.7, mouthClose=0.7), 13, 14) < 0.5 * gap(opened, 13, 14)
    assert opened[152, 1] < neutral[152, 1] - 0.05  # the chin
    assert gap(face(mouthPucker=0.8), 61, 291) < 0.85 * gap(neutral, 61, 291)
    smile = face(mouthSmileLeft=0.8)
    assert smile[291, 1] > neutral[291, 1] + 0.02 and gap(smile, 61, 61) == 0
    assert abs(smile[61] - neutral[61]).max() < 0.02  # the right corner stays
    assert gap(face(eyeBlinkRight=1.0), 159, 145) < 0.3 * gap(neutral, 159, 145)
    assert abs(gap(face(eyeBlinkRight=1.0), 386, 374) - gap(neutral, 386, 374)) < 0.01
    assert face(browInnerUp=1.0)[107, 1] > neutral[107, 1] + 0.02


def test_wrong_input_is_one_line(tmp_path, speech, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ([str(tmp_path), str(tmp_path / "o"), "--speech", str(speech)], "no makehuman/data/3dobjs/base.obj under"),
        ([str(tmp_path), str(tmp_path / "o"), "--speech", str(speech), "--people", "0"], "people must be at least 1"),
        ([str(tmp_path), str(tmp_path / "o"), "--speech", str(speech), "peple=3"], "did you mean people"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    with pytest.raises(ValueError, match="holds no speech"):
        find_speech(tmp_path / "empty")
    with pytest.raises(ValueError, match="no such folder"):
        find_speech(tmp_path / "none")
    assert not (tmp_path / "o").exists()


def test_recordings_that_cannot_be_read_are_named(real, opengl, tmp_path, capsys):
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices/bad.wav").write_text("no sound")
    arguments = [str(real), str(tmp_path / "o"), "--speech", str(tmp_path / "voices"), "--people", "1", "audio=null"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "nobody could be rendered; person 0: " in error and "bad.wav" in error and "Traceback" not in error


def test_help_is_quick():
    began = time.monotonic()
    done = subprocess.run([sys.executable, str(ROOT / "train/render.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--people" in done.stdout and time.monotonic() - began < 5
