"""The gesture command's pieces: streams of motion at another rate, choices of styles, what is refused."""

import numpy as np
import pytest

from infer.gesture import main, parse_choice, resampled_stream
from pose.motion import Motion
from pose.rotations import axis_angle_to_matrix
from pose.skeleton import Skeleton


def swaying(frames: int, fps: float) -> Motion:
    time = np.arange(frames) / fps
    turns = 0.6 * np.sin(time[:, None, None] * np.linspace(1, 3, 225).reshape(75, 3))
    root = np.stack([time, np.full(frames, 93.0), -time], -1).astype(np.float32)
    face = np.abs(np.sin(time[:, None] * np.linspace(0, 3, 51))).astype(np.float32)
    return Motion(fps, Skeleton.home(), axis_angle_to_matrix(turns).astype(np.float32), root, face)


@pytest.mark.parametrize("fps,target", [(15, 25), (20, 25), (30, 25), (25, 25), (15, 60), (30, 10)])
@pytest.mark.parametrize("sizes", [(100,), (1, 2, 3, 94), (33, 33, 34), (1,) * 100])
def test_stream_at_another_rate_is_the_whole_resampled(fps, target, sizes):
    motion = swaying(100, float(fps))
    cuts = np.cumsum((0, *sizes))
    pieces = [motion[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    made = Motion.concatenated(list(resampled_stream(pieces, float(target))))
    whole = motion.resampled(float(target))
    assert made.fps == target and len(made) == len(whole)
    np.testing.assert_allclose(made.rotations, whole.rotations, atol=1e-5)
    np.testing.assert_allclose(made.root_position, whole.root_position, atol=1e-4)
    np.testing.assert_allclose(made.expression, whole.expression, atol=1e-5)


def test_choices():
    assert parse_choice("happy=1.5, sad", "--style") == {"happy": 1.5, "sad": 1.0}
    assert parse_choice(None, "--style") is None
    with pytest.raises(ValueError, match="--style takes"):
        parse_choice("happy=much", "--style")


@pytest.mark.parametrize(
    "changes,message",
    [
        (["--output", "a.avi"], "--output writes"),
        (["--output", "missing/a.bvh"], "does not exist"),
        (["--style", "a=b"], "--style takes"),
        (["--audio", "missing.wav"], "no such audio file"),
        ([], "no such model"),
    ],
)
def test_what_is_refused_is_one_line(tmp_path, monkeypatch, capsys, changes, message):
    import soundfile

    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", 0.1 * np.sin(np.arange(16000) / 20), 16000)
    given = ["--model", "missing", "--audio", "a.wav", "--output", "a.bvh", *changes]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
