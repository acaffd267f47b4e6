"""BVH files: round trips, positions computed by another program, and files with faults."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose.bvh import read_bvh, write_bvh
from pose.motion import Motion
from pose.skeleton import Skeleton

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

SMALL = """HIERARCHY
ROOT hip
{
  OFFSET 0 1 0
  CHANNELS 6 Zposition Xposition Yposition Zrotation Xrotation Yrotation
  JOINT left arm
  {
    OFFSET 10 0 0
    CHANNELS 3 Yrotation Zrotation Xrotation
    End Site
    {
      OFFSET 5 0 0
    }
  }
  JOINT slide
  {
    OFFSET 0 4 0
    CHANNELS 2 Yposition Xrotation
    End Site
    {
      OFFSET 0 1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
3 1 2 0 0 0 0 0 0 4 0
3 1 2 90 0 0 0 90 0 6 90
"""


def shared_files(*patterns: str) -> list[Path]:
    files = sorted(file for pattern in patterns for file in SHARED.glob(pattern))
    if not files:
        pytest.skip("the development recordings are not here (../shared/data beside the repository)")
    return files


def random_home_motion(frames: int) -> Motion:
    home, random = Skeleton.home(), np.random.default_rng(1)
    rotations = Rotation.random(frames * 75, random_state=4).as_matrix().reshape(frames, 75, 3, 3)
    return Motion(25.0, home, rotations.astype(np.float32), random.normal(0, 50, (frames, 3)).astype(np.float32))


def test_channels_apply_from_left_to_right_and_positions_replace_offsets(tmp_path: Path) -> None:
    (tmp_path / "small.bvh").write_text(SMALL)
    motion = read_bvh(tmp_path / "small.bvh")
    assert motion.fps == 30 and motion.skeleton.names == ("hip", "left arm", "slide")
    np.testing.assert_allclose(motion.root_position, [[1, 2, 3]] * 2)
    positions = motion.positions()
    np.testing.assert_allclose(positions[0], [[1, 2, 3], [11, 2, 3], [1, 6, 3]], atol=1e-6)
    np.testing.assert_allclose(positions[1], [[1, 2, 3], [1, 12, 3], [-5, 2, 3]], atol=1e-6)  # a quarter turn about z
    np.testing.assert_allclose(motion.skeleton.end_sites["left arm"], [5, 0, 0])


def test_home_motion_has_the_form_of_beat(tmp_path: Path) -> None:
    motion = random_home_motion(12)
    write_bvh(tmp_path / "home.bvh", motion)
    lines = (tmp_path / "home.bvh").read_text().splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("Frame Time")) + 1
    assert header == 431 and len(lines) == 431 + 12
    assert all(len(line.split()) == 228 for line in lines[header:])
    again = read_bvh(tmp_path / "home.bvh")
    assert again.fps == 25 and again.skeleton == motion.skeleton and again.translations is None
    assert again.skeleton.parents == motion.skeleton.parents
    # Six decimals of a degree are 9e-9 radians: what is left is the float32 of the matrices.
    np.testing.assert_allclose(again.rotations, motion.rotations, atol=4e-7)
    np.testing.assert_allclose(again.root_position, motion.root_position, atol=5e-6)
    np.testing.assert_allclose(again.positions(), motion.positions(), atol=1e-4)


@pytest.mark.parametrize("order", ["XYZ", "ZXY", "ZYX", "YXZ"])
def test_writing_twice_gives_the_same_text(tmp_path: Path, order: str) -> None:
    write_bvh(tmp_path / "a.bvh", random_home_motion(3), order)
    first = read_bvh(tmp_path / "a.bvh")
    write_bvh(tmp_path / "b.bvh", first, order)
    np.testing.assert_allclose(read_bvh(tmp_path / "b.bvh").rotations, first.rotations, atol=4e-7)


def test_sliding_joints_survive(tmp_path: Path) -> None:
    (tmp_path / "small.bvh").write_text(SMALL)
    motion = read_bvh(tmp_path / "small.bvh")
    write_bvh(tmp_path / "again.bvh", motion)
    again = read_bvh(tmp_path / "again.bvh")
    assert again.translations is not None
    np.testing.assert_allclose(again.positions(), motion.positions(), atol=1e-5)
    assert again.skeleton == motion.skeleton


def test_positions_agree_with_another_program() -> None:
    recording = shared_files("other/bvh_known_positions/source/*.bvh")[0]
    motion = read_bvh(recording)
    positions, world = motion.skeleton.forward_kinematics(motion.rotations, motion.root_position)
    ours = dict(zip(motion.skeleton.names, positions.swapaxes(0, 1), strict=True))
    for name, offset in motion.skeleton.end_sites.items():
        ours[f"{name}_End"] = ours[name] + world[:, motion.skeleton.index(name)] @ offset
    table = recording.parent.parent / "csv" / f"{recording.stem}_pos.csv"
    with table.open() as file:
        rows = list(csv.reader(file))
    theirs = np.array([[float(value) for value in row] for row in rows[1:]])
    assert len(theirs) == len(motion)
    for column, title in enumerate(rows[0][1:], 1):
        joint, _, axis = title.rpartition(".")
        difference = np.abs(theirs[:, column] - ours[joint][:, "xyz".index(axis)]).max()
        assert difference < 1e-4, f"{title} differs by {difference} cm"


def test_recordings_survive_writing(tmp_path: Path) -> None:
    for file in shared_files("motion/*/*.bvh", "other/bvh_known_positions/**/*.bvh"):
        motion = read_bvh(file)
        write_bvh(tmp_path / "again.bvh", motion)
        again = read_bvh(tmp_path / "again.bvh")
        assert len(again) == len(motion) and again.fps == motion.fps
        assert again.skeleton == motion.skeleton and again.skeleton.parents == motion.skeleton.parents
        assert np.abs(again.rotations - motion.rotations).max() < 4e-7, file.name
        assert np.abs(again.positions() - motion.positions()).max() < 1e-4, file.name
        for name, offset in motion.skeleton.end_sites.items():
            np.testing.assert_allclose(again.skeleton.end_sites[name], offset, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Frames: 2", "Frames: 3", "header says 3 frames, the file holds 2"),
        ("3 1 2 90 0 0 0 90 0 6 90\n", "3 1 2 90 0\n", "frame 1 holds 5 values, the channels are 11"),
        ("3 1 2 90", "3 1 nan 90", "frame 1, channel 2 is nan"),
        ("3 1 2 90", "3 1 two 90", "not a number"),
        ("Frame Time: 0.0333333", "Frame Time: 0", "Frame Time must be positive"),
        ("Frames: 2\nFrame Time: 0.0333333\n", "", "after MOTION come"),
        ("MOTION", "", "must hold HIERARCHY and MOTION"),
        ("Xrotation Yrotation\n  JOINT", "Xrotation Xrotation\n  JOINT", "joint hip has channels"),
        ("CHANNELS 2 Yposition Xrotation", "CHANNELS 2 Yposition Wrotation", "joint slide has channels"),
        ("OFFSET 10 0 0", "OFFSET 10 0", "OFFSET needs 3 numbers"),
        ("}\nMOTION", "MOTION", "braces do not close"),
        ("}\nMOTION", "}\nROOT two\n{\n}\nMOTION", "one ROOT"),
        ("JOINT slide", "JOINT left arm", "occur twice: left arm"),
    ],
)
def test_faulty_files_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    (tmp_path / "faulty.bvh").write_text(SMALL.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_bvh(tmp_path / "faulty.bvh")


def test_a_file_cut_off_anywhere_is_refused_or_read_in_part(tmp_path: Path) -> None:
    cut = tmp_path / "cut.bvh"
    for length in range(0, len(SMALL) - 4, 7):
        cut.write_text(SMALL[:length])
        with pytest.raises(ValueError, match="."):
            read_bvh(cut)
    cut.write_text(SMALL[:-10])
    assert len(read_bvh(cut, strict=False)) == 1
    cut.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="not a whole BVH"):
        read_bvh(cut)
