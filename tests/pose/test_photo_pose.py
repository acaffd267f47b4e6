"""The photo's pose as motion: read again, its arms are where the photo has them."""

from dataclasses import replace

import numpy as np
import pytest

from pose.body_signals import MotionReader
from pose.motion import Motion
from pose.photo_body import PhotoBody
from pose.photo_pose import photo_motion
from pose.rotations import axis_angle_to_matrix
from pose.skeleton import HOME_HEIGHT, Skeleton


def body(reach=(1.0, 1.0)):
    """Elbows beside the trunk, hands in front, the right one raised; bones of the home skeleton's proportion."""
    joints = np.zeros((2, 3, 3))
    joints[:, 0] = [[90, 0, 0], [-90, 0, 0]]
    joints[:, 1] = joints[:, 0] + np.array([[20, 130, -30], [-40, 120, -50]])
    joints[:, 2] = joints[:, 1] + np.array([[-60, 10, -90], [10, -100, -60]])
    bones = np.linalg.norm(np.diff(joints, axis=1), axis=-1, keepdims=True)
    joints[:, 1:] = joints[:, :1] + np.cumsum(np.diff(joints, axis=1) / bones * [[[28.0], [25.0]]] * 5, axis=1)
    return PhotoBody(180.0, 0.0, joints, np.array(reach), np.zeros((2, 2, 2)), (None, None), False, np.zeros(2))


def rest(yaw=0.0, lean=0.0) -> Motion:
    skeleton = Skeleton.home()
    rotations = skeleton.rest_rotations(3).astype(np.float32)
    rotations[:, 0] = axis_angle_to_matrix([0.0, yaw, 0.0])
    rotations[:, skeleton.index("Spine1")] = axis_angle_to_matrix([lean, 0.0, 0.0])
    return Motion(20.0, skeleton, rotations, np.tile([0.0, HOME_HEIGHT, 0.0], (3, 1)).astype(np.float32))


@pytest.mark.parametrize("yaw,lean", [(0.0, 0.0), (2.5, 0.0), (0.4, 0.3)])
def test_arms_are_where_the_photo_has_them(yaw, lean):
    pose = photo_motion(body(), rest(yaw, lean))
    signals = MotionReader().read(pose)
    assert len(pose) == 1
    for part, column in ((signals.elbow, 0), (signals.wrist, 1)):
        wanted = body().arms[:, column]
        np.testing.assert_allclose(part[0], wanted, atol=0.02)  # bones differ in proportion by a little
    identity = pose.rotations @ np.swapaxes(pose.rotations, -1, -2)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-5)


def test_what_the_photo_does_not_show_rests():
    made, before = photo_motion(body(reach=(0.1, 1.0)), rest()), rest()
    left = [made.skeleton.index(f"Left{part}") for part in ("Shoulder", "Arm", "ForeArm", "Hand")]
    np.testing.assert_array_equal(made.rotations[0, left], before.rotations[0, left])
    right = made.skeleton.index("RightForeArm")
    assert not np.allclose(made.rotations[0, right], before.rotations[0, right])
    unknown = replace(before, skeleton=replace(before.skeleton, names=tuple(f"b{k}" for k in range(75)), end_sites={}))
    with pytest.raises(ValueError, match="unknown skeleton"):
        photo_motion(body(), unknown)
