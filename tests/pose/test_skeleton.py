"""The home skeleton's joints and the laws of forward kinematics."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose.skeleton import HOME_HEIGHT, Skeleton


def random_rotations(skeleton: Skeleton, frames: int) -> np.ndarray:
    return Rotation.random(frames * len(skeleton), random_state=2).as_matrix().reshape(frames, len(skeleton), 3, 3)


def test_home_is_beat() -> None:
    home = Skeleton.home()
    assert len(home) == 75
    assert home.names[:10] == (
        "Hips", "Spine", "Spine1", "Spine2", "Spine3", "Neck", "Neck1", "Head", "HeadEnd", "RightShoulder",
    )  # fmt: skip
    right = [name for name in home.names if name.startswith("RightHand")]
    assert [name.removeprefix("RightHand") for name in right] == [
        "", "Middle1", "Middle2", "Middle3", "Middle4", "Ring", "Ring1", "Ring2", "Ring3", "Ring4", "Pinky", "Pinky1",
        "Pinky2", "Pinky3", "Pinky4", "Index", "Index1", "Index2", "Index3", "Index4", "Thumb1", "Thumb2", "Thumb3",
        "Thumb4",
    ]  # fmt: skip
    assert home.index("LeftShoulder") == 36
    assert home.names[63:69] == (
        "RightUpLeg", "RightLeg", "RightFoot", "RightForeFoot", "RightToeBase", "RightToeBaseEnd",
    )  # fmt: skip


def test_home_rests_in_a_t_pose_of_human_size() -> None:
    home = Skeleton.home()
    positions, _ = home.forward_kinematics(home.rest_rotations(1), [[0, HOME_HEIGHT, 0]])
    at = dict(zip(home.names, positions[0], strict=True))
    assert at["LeftHand"][0] > at["LeftForeArm"][0] > at["LeftArm"][0] > 0  # the left arm along +x
    assert at["LeftHandThumb4"][2] > at["LeftHandPinky4"][2]  # palms down, thumbs forward
    assert at["LeftToeBaseEnd"][2] > at["LeftFoot"][2]  # facing +z
    assert 165 < at["HeadEnd"][1] < 180 and abs(at["LeftToeBaseEnd"][1]) < 4
    mirrored = {name.replace("Left", "Right"): at[name] * [-1, 1, 1] for name in home.names if "Left" in name}
    for name, position in mirrored.items():
        np.testing.assert_allclose(at[name], position, atol=1e-9)


def test_kinematics_keeps_bone_lengths_and_turns_children_with_parents() -> None:
    home = Skeleton.home()
    local = random_rotations(home, 5)
    root = np.random.default_rng(0).normal(size=(5, 3))
    positions, world = home.forward_kinematics(local, root)
    parents = np.array(home.parents[1:])
    lengths = np.linalg.norm(positions[:, 1:] - positions[:, parents], axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(np.linalg.norm(home.offsets[1:], axis=-1), lengths.shape))
    np.testing.assert_allclose(home.local_rotations(world), local, atol=1e-9)

    # Turning the root by R turns everything about the root by R.
    turn = Rotation.from_euler("y", 40, degrees=True).as_matrix()
    turned = local.copy()
    turned[:, 0] = turn @ turned[:, 0]
    again, _ = home.forward_kinematics(turned, root)
    np.testing.assert_allclose(again - root[:, None], (positions - root[:, None]) @ turn.T, atol=1e-9)


def test_translations_replace_offsets() -> None:
    home = Skeleton.home()
    rest = home.rest_rotations(2)
    plain, _ = home.forward_kinematics(rest, np.zeros((2, 3)))
    slid, _ = home.forward_kinematics(rest, np.zeros((2, 3)), np.tile(home.offsets * 2, (2, 1, 1)))
    np.testing.assert_allclose(slid, plain * 2, atol=1e-9)


def test_faulty_skeletons_are_refused() -> None:
    offsets = np.zeros((2, 3))
    with pytest.raises(ValueError, match="parents must come first"):
        Skeleton(("a", "b"), (-1, 1), offsets)
    with pytest.raises(ValueError, match="occur twice: a"):
        Skeleton(("a", "a"), (-1, 0), offsets)
    with pytest.raises(ValueError, match="root"):
        Skeleton(("a", "b"), (0, 0), offsets)
    with pytest.raises(ValueError, match="offsets"):
        Skeleton(("a", "b"), (-1, 0), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="unknown joint 'Tail'"):
        Skeleton.home().index("Tail")
    with pytest.raises(ValueError, match="rotations must be"):
        Skeleton.home().global_rotations(np.zeros((4, 3, 3, 3)))
