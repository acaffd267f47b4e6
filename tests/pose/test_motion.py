"""Motion: files, slices, resampling."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from pose.metrics.smoothness import jerk
from pose.motion import EXPRESSION_NAMES, Motion, expression_index
from pose.skeleton import Skeleton


@pytest.fixture
def motion() -> Motion:
    """40 frames at 30 fps of smooth random rotations with a face."""
    home, random = Skeleton.home(), np.random.default_rng(5)
    vectors = np.cumsum(random.normal(0, 0.05, (40, 75, 3)), 0)
    rotations = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(40, 75, 3, 3)
    root = np.cumsum(random.normal(0, 0.1, (40, 3)), 0)
    face = random.random((40, 51))
    return Motion(30.0, home, rotations.astype(np.float32), root.astype(np.float32), face.astype(np.float32))


def test_expression_names_are_arkit_without_the_tongue() -> None:
    assert len(EXPRESSION_NAMES) == len(set(EXPRESSION_NAMES)) == 51
    assert list(EXPRESSION_NAMES) == sorted(EXPRESSION_NAMES)
    assert EXPRESSION_NAMES[0] == "browDownLeft" and EXPRESSION_NAMES[-1] == "noseSneerRight"
    assert EXPRESSION_NAMES[expression_index("jawOpen")] == "jawOpen"
    with pytest.raises(ValueError, match="tongueOut"):
        expression_index("tongueOut")


def test_save_and_load_are_exact(motion: Motion, tmp_path: Path) -> None:
    motion.save(tmp_path / "a.npz")
    again = Motion.load(tmp_path / "a.npz")
    assert again.fps == 30 and again.skeleton == motion.skeleton
    assert set(again.skeleton.end_sites) == set(motion.skeleton.end_sites)
    for name in ("rotations", "root_position", "expression"):
        np.testing.assert_array_equal(getattr(again, name), getattr(motion, name))
    assert again.translations is None

    slid = Motion(30.0, motion.skeleton, motion.rotations, motion.root_position, None, motion.rotations[..., 0])
    slid.save(tmp_path / "b.npz")
    assert Motion.load(tmp_path / "b.npz").expression is None
    np.testing.assert_array_equal(Motion.load(tmp_path / "b.npz").translations, slid.translations)


def test_other_files_are_refused(motion: Motion, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(ValueError, match="not a motion file"):
        Motion.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="lacks end_names"):
        Motion.load(tmp_path / "other.npz")
    motion.save(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a motion file"):
        Motion.load(tmp_path / "cut.npz")


def test_slices_and_concatenation(motion: Motion) -> None:
    parts = [motion[:7], motion[7:20], motion[20:]]
    assert [len(part) for part in parts] == [7, 13, 20]
    whole = Motion.concatenated(parts)
    np.testing.assert_array_equal(whole.rotations, motion.rotations)
    np.testing.assert_array_equal(whole.expression, motion.expression)
    with pytest.raises(ValueError, match="fps"):
        Motion.concatenated([motion, motion.resampled(25)])
    with pytest.raises(ValueError, match="at least one"):
        Motion.concatenated([])


@pytest.mark.parametrize("fps", [15.0, 25.0, 60.0])
def test_resampling_follows_smooth_motion_in_time(fps: float) -> None:
    """Against the same swaying motion made at the other rate; straight lines miss it by forty times as much."""

    def swaying(rate: float, frames: int) -> Motion:
        time = np.arange(frames) / rate
        turns = 0.8 * np.sin(2.5 * time[:, None, None] + np.linspace(0, 3, 225).reshape(75, 3))
        rotations = Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(frames, 75, 3, 3)
        root = np.stack([np.sin(time), 93 + np.cos(3 * time), time], -1)
        face = 0.5 + 0.5 * np.sin(time[:, None] * np.linspace(0, 3, 51))
        return Motion(rate, Skeleton.home(), *(v.astype(np.float32) for v in (rotations, root, face)))

    motion = swaying(30.0, 40)
    result = motion.resampled(fps)
    times = np.arange(len(result)) / fps
    assert times[-1] <= 39 / 30 + 1e-9 and times[-1] + 1 / fps > 39 / 30
    wanted = swaying(fps, len(result))
    inside = (times >= 2 / 30) & (times <= 37 / 30)
    np.testing.assert_allclose(result.rotations[inside], wanted.rotations[inside], atol=2e-5)
    np.testing.assert_allclose(result.rotations, wanted.rotations, atol=3e-3)  # straight lines beyond the ends
    np.testing.assert_allclose(result.root_position[inside], wanted.root_position[inside], atol=2e-5)
    np.testing.assert_allclose(result.expression[inside], wanted.expression[inside], atol=2e-5)
    slerped = Slerp(np.arange(40) / 30, Rotation.from_matrix(motion.rotations[:, 5]))(np.minimum(times, 39 / 30))
    if fps != 15.0:
        assert np.abs(slerped.as_matrix() - wanted.rotations[:, 5])[inside].max() > 4e-4


def test_half_rates_do_not_jerk_when_doubled() -> None:
    time = np.arange(150) / 15.0
    turns = 0.5 * np.sin(4.0 * time)[:, None, None] * np.linspace(0.2, 1, 225).reshape(75, 3)
    rotations = Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(150, 75, 3, 3).astype(np.float32)
    motion = Motion(15.0, Skeleton.home(), rotations, np.zeros((150, 3), np.float32))
    slow, fast = jerk(motion.positions(), 15.0), jerk(motion.resampled(30.0).positions(), 30.0)
    assert slow < fast < 1.1 * slow  # straight lines: four times


def test_resampling_up_and_back_returns_the_motion(motion: Motion) -> None:
    again = motion.resampled(120).resampled(30)
    assert len(again) == len(motion)
    np.testing.assert_allclose(again.rotations, motion.rotations, atol=1e-5)
    assert len(motion[:1].resampled(25)) == 1


def test_wrong_arrays_are_refused(motion: Motion) -> None:
    with pytest.raises(ValueError, match=r"rotations must be \(3, 75, 3, 3\)"):
        Motion(25, motion.skeleton, np.zeros((3, 74, 3, 3), np.float32), np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match=r"root_position must be \(40, 3\)"):
        Motion(25, motion.skeleton, motion.rotations, np.zeros((39, 3), np.float32))
    broken = motion.root_position.copy()
    broken[4, 1] = np.nan
    with pytest.raises(ValueError, match="NaN .* frame 4"):
        Motion(25, motion.skeleton, motion.rotations, broken)
    with pytest.raises(ValueError, match="fps"):
        motion.resampled(0)
