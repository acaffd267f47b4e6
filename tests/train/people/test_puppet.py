"""Home motion on the rig: every limb points where the home skeleton's does, whatever both rest poses are."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from pose.motion import EXPRESSION_NAMES, Motion, expression_index
from pose.rotations import axis_angle_to_matrix
from pose.skeleton import HOME_HEIGHT, Skeleton
from train.people.base import BaseMesh
from train.people.puppet import Puppet, gaze, skin, swing, twist_angle, unit

HOME = Skeleton.home()
# Bone, where its direction ends, the home joint and its child.
LIMBS = {
    "upperarm02.{0}": ("upperarm01.{0}", "lowerarm01.{0}", "{1}Arm", "{1}ForeArm"),
    "lowerarm02.{0}": ("lowerarm01.{0}", "wrist.{0}", "{1}ForeArm", "{1}Hand"),
    "finger2-1.{0}": ("finger2-1.{0}", "finger2-2.{0}", "{1}HandIndex1", "{1}HandIndex2"),
    "finger4-2.{0}": ("finger4-2.{0}", "finger4-3.{0}", "{1}HandRing2", "{1}HandRing3"),
    "finger5-1.{0}": ("finger5-1.{0}", "finger5-2.{0}", "{1}HandPinky1", "{1}HandPinky2"),
    "finger1-2.{0}": ("finger1-2.{0}", "finger1-3.{0}", "{1}HandThumb2", "{1}HandThumb3"),
}


@pytest.fixture(scope="module")
def puppet(made_up):
    return Puppet(BaseMesh(made_up))


def motion(rotations, root=(0.0, HOME_HEIGHT, 0.0), expression=None):
    frames = len(rotations)
    return Motion(25.0, HOME, rotations.astype(np.float32), np.tile(np.float32(root), (frames, 1)), expression)


def random_rotations(frames, size, seed=0):
    random = np.random.default_rng(seed)
    return axis_angle_to_matrix(random.normal(0, size, (frames, len(HOME), 3)))


@pytest.mark.parametrize(("side", "name"), [("L", "Left"), ("R", "Right")])
@pytest.mark.parametrize("size", [0.0, 0.4])
def test_limbs_point_as_at_home(puppet, side, name, size):
    moved = motion(random_rotations(5, size))
    places = HOME.forward_kinematics(moved.rotations, moved.root_position)[0]
    transforms = puppet.pose(moved)
    for start, end, joint, child in LIMBS.values():
        own = puppet.place(transforms, end.format(side)) - puppet.place(transforms, start.format(side))
        home = places[:, HOME.index(child.format(side, name))] - places[:, HOME.index(joint.format(side, name))]
        # The bones of an arm are not quite in line, and the upper one takes half of the twist.
        np.testing.assert_allclose(unit(own), unit(home), atol=1e-2, err_msg=start)


def test_palms_face_down_in_the_t_pose(puppet):
    transforms = puppet.pose(motion(random_rotations(1, 0.0)))
    for side, sign in (("L", 1.0), ("R", -1.0)):
        wrist, index, little = (
            puppet.place(transforms, f"{b}.{side}")[0] for b in ("wrist", "finger2-1", "finger5-1")
        )
        palm = -sign * unit(np.cross(index - wrist, little - wrist))
        assert palm[1] < -0.95


def test_twist_is_spread_over_the_forearm(puppet):
    """Turning the hand by a right angle turns the bones before it by growing shares of it."""
    rotations = random_rotations(1, 0.0)
    transforms = [puppet.pose(motion(rotations))[0]]
    rotations[:, HOME.index("LeftHand")] = axis_angle_to_matrix(np.array([np.pi / 2, 0, 0]))
    transforms.append(puppet.pose(motion(rotations))[0])
    angles = []
    for bone in ("upperarm02.L", "lowerarm01.L", "lowerarm02.L", "wrist.L"):
        before, after = (t[puppet.index[bone], :, :3] for t in transforms)
        angles.append(twist_angle((after @ before.T)[None], np.array([1.0, 0, 0]))[0])
    np.testing.assert_allclose(angles, np.pi / 2 * np.array([0, 0.25, 0.65, 1]), atol=1e-5)


def test_root_moves_with_the_size_of_the_body(puppet):
    still, moved = (puppet.pose(motion(random_rotations(1, 0.0), (x, HOME_HEIGHT, 0))) for x in (0.0, 10.0))
    np.testing.assert_allclose(moved[0, 0, :, 3] - still[0, 0, :, 3], (puppet.scale, 0, 0), atol=1e-6)


def test_another_skeleton_is_refused(puppet):
    other = Skeleton(("a", "b"), (-1, 0), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="home skeleton"):
        puppet.pose(
            Motion(25.0, other, np.tile(np.eye(3, dtype=np.float32), (1, 2, 1, 1)), np.zeros((1, 3), np.float32))
        )


def test_gaze_goes_where_the_coefficients_say():
    expression = np.zeros((4, len(EXPRESSION_NAMES)), np.float32)
    for frame, name in enumerate(("eyeLookOutLeft", "eyeLookInLeft", "eyeLookUpLeft", "eyeLookDownLeft")):
        expression[frame, expression_index(name)] = 1
    way = gaze(expression, "L") @ (0, 0, 1)
    assert way[0, 0] > 0.4 and way[1, 0] < -0.4  # outwards is to the person's left
    assert way[2, 1] > 0.3 and way[3, 1] < -0.3
    np.testing.assert_allclose(gaze(expression, "R"), np.tile(np.eye(3), (4, 1, 1)))


def test_swing_and_twist_make_the_whole():
    random = np.random.default_rng(3)
    axis = unit(random.normal(size=3))
    angles = random.uniform(-3, 3, 20)
    np.testing.assert_allclose(twist_angle(axis_angle_to_matrix(axis * angles[:, None]), axis), angles, atol=1e-6)
    start, end = unit(random.normal(size=(20, 3))), unit(random.normal(size=(20, 3)))
    turn = swing(start, end)
    np.testing.assert_allclose(np.einsum("fab,fb->fa", turn, start), end, atol=1e-6)
    np.testing.assert_allclose(twist_angle(turn, start), 0, atol=1e-6)


def test_skinning():
    """A point with two bones lies between where each would take it."""
    turn = np.concatenate([axis_angle_to_matrix(np.array([0, 0, np.pi / 2])), [[1], [0], [0]]], 1)
    transforms = np.stack([np.eye(3, 4), turn])
    points = np.array([[1.0, 0, 0], [1.0, 0, 0], [0.0, 2, 0]])
    weights = csr_matrix([[1, 0], [0.5, 0.5], [0, 1.0]])
    np.testing.assert_allclose(skin(points, weights, transforms), [[1, 0, 0], [1, 0.5, 0], [-1, 0, 0]], atol=1e-12)
