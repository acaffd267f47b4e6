"""Pose vectors: widths as published, exact inverses, statistics that do not explode, faults only under "released"."""

import numpy as np
import pytest
import torch

from pose.motion import EXPRESSION_NAMES, Motion
from pose.representations.beat import MatrixVectors
from pose.representations.directions import EXPRESSIVE_BONES, TED_BONES, DirectionVectors
from pose.representations.joints import BEAT_JOINTS, HOME_JOINTS, JointVectors, SmplxVectors
from pose.representations.vectors import with_derivatives
from pose.representations.zeroeggs import RootSpaceVectors
from pose.rotations import axis_angle_to_matrix
from pose.skeleton import Skeleton

FRAMES = 40


def random_motion(fps: float = 30.0, joints=HOME_JOINTS, angle: float = 0.5, seed: int = 0) -> Motion:
    """Smooth random motion of the named joints, walking about, with a face."""
    random = np.random.default_rng(seed)
    time = np.linspace(0, 3, FRAMES)[:, None, None]
    skeleton = Skeleton.home()
    waves = np.sin(time * random.uniform(0.5, 3, (len(joints), 3)) + random.uniform(0, 6, (len(joints), 3)))
    rotations = skeleton.rest_rotations(FRAMES)
    rotations[:, [skeleton.index(name) for name in joints]] = axis_angle_to_matrix(waves * angle / np.sqrt(3))
    root = np.cumsum(random.normal(size=(FRAMES, 3)), 0) + [0, 93, 0]
    face = random.uniform(size=(FRAMES, len(EXPRESSION_NAMES)))
    return Motion(fps, skeleton, rotations, root.astype(np.float32), face.astype(np.float32))


def difference(a: Motion, b: Motion) -> float:
    return max(float(np.abs(a.rotations - b.rotations).max()), float(np.abs(a.root_position - b.root_position).max()))


WIDTHS = [
    (RootSpaceVectors(), 1141),
    (MatrixVectors(derivatives=False), 684),
    (MatrixVectors(), 2052),
    (MatrixVectors(expression=True), 2205),
    (DirectionVectors(), 27),
    (DirectionVectors(hands=True), 126),
    (JointVectors.beat_euler(), 141),
    (JointVectors.beat_axis_angle(expression=True), 192),
    (JointVectors(), 453),
    (SmplxVectors(), 165),
]


@pytest.mark.parametrize(("vectors", "width"), WIDTHS, ids=lambda v: str(v) if isinstance(v, int) else "")
def test_widths_are_the_published_ones(vectors, width):
    raw = vectors.raw(random_motion(vectors.config.fps))
    assert vectors.dim == width and raw.shape == (FRAMES, width)


@pytest.mark.parametrize(
    "vectors",
    [
        RootSpaceVectors(expression=True),
        MatrixVectors(expression=True),
        JointVectors(expression=True),
        JointVectors(notation="axis_angle"),
        JointVectors(notation="euler", derivatives=True),
    ],
    ids=("1141", "2205", "sixd", "axis-angle", "euler"),
)
def test_whole_motion_comes_back(vectors):
    motion = random_motion(vectors.config.fps)
    assert difference(vectors.motion(vectors.raw(motion)), motion) < 1e-5
    vectors.fit([vectors.raw(motion)])
    back = vectors.decode(vectors.encode(motion))
    assert difference(back, motion) < 2e-5  # float32 of centimetres
    if vectors.config.expression:
        np.testing.assert_allclose(back.expression, motion.expression, atol=1e-5)


@pytest.mark.parametrize("vectors", [JointVectors.beat_euler(), JointVectors.beat_axis_angle()])
def test_beat_141_comes_back_on_its_joints(vectors):
    motion = random_motion(15.0, BEAT_JOINTS)
    back = vectors.motion(vectors.raw(motion))
    np.testing.assert_allclose(back.rotations, motion.rotations, atol=1e-5)
    assert len(BEAT_JOINTS) == 47 and "Head" not in BEAT_JOINTS


def test_smplx_there_and_back():
    """165 to motion to 165, but for jaw and eyes; a rotation of the same global orientation keeps its place."""
    random = np.random.default_rng(1)
    raw = random.normal(size=(FRAMES, 165)) * 0.3
    raw[:, 66:75] = 0
    vectors = SmplxVectors()
    np.testing.assert_allclose(vectors.raw(vectors.motion(raw)), raw, atol=1e-5)


def test_directions_are_unit_and_come_back():
    # Rigid palms, as the data has them; and a face looking ahead.
    rigid = [name for name in HOME_JOINTS if not name.endswith(("HandRing", "HandPinky", "HandIndex"))]
    motion = random_motion(15.0, rigid, angle=0.6)
    for hands in (False, True):
        vectors = DirectionVectors(hands=hands)
        raw = vectors.raw(motion)
        assert np.allclose(np.linalg.norm(raw.reshape(FRAMES, -1, 3), axis=-1), 1)
        np.testing.assert_allclose(vectors.raw(vectors.motion(raw)), raw, atol=1e-5)
    assert len(TED_BONES) == 9 and len(EXPRESSIVE_BONES) == 42


def test_arms_show_where_the_directions_point():
    """A left arm asked straight up is straight up: sides and axes are right."""
    vectors = DirectionVectors()
    raw = vectors.raw(random_motion(15.0, joints=("Head",), angle=0.0)).reshape(FRAMES, 9, 3)
    raw[:, 4:6] = [0.0, 1.0, 0.0]
    motion = vectors.motion(raw.reshape(FRAMES, -1))
    positions = motion.positions()
    arm, hand = (positions[:, motion.skeleton.index(name)] for name in ("LeftArm", "LeftHand"))
    np.testing.assert_allclose(hand - arm, np.tile([0, 53.5, 0], (FRAMES, 1)), atol=1e-3)


def test_still_channels_do_not_explode():
    motion = random_motion(30.0, joints=("Head",))
    safe, released = MatrixVectors(), MatrixVectors(fidelity="released")
    for vectors in (safe, released):
        vectors.fit([vectors.raw(motion)])
    assert float(safe.deviation.min()) == pytest.approx(0.01)
    assert float(released.deviation.min()) < 2e-6


def test_statistics_are_those_of_all_frames():
    clips = [JointVectors().raw(random_motion(seed=k)) for k in range(3)]
    vectors = JointVectors(deviation_floor=0.0)
    vectors.fit(clips)
    whole = np.concatenate(clips)
    np.testing.assert_allclose(vectors.mean.numpy(), whole.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(vectors.deviation.numpy(), whole.std(0), rtol=1e-4, atol=1e-6)


def test_released_root_wraps():
    motion = random_motion()
    root = motion.root_position.copy()
    root[:, 0] += 360
    far = Motion(30.0, motion.skeleton, motion.rotations, root, motion.expression)
    released = MatrixVectors(fidelity="released")
    np.testing.assert_allclose(released.raw(far)[:, :684], released.raw(motion)[:, :684], atol=1e-4)
    assert np.abs(MatrixVectors().raw(far) - MatrixVectors().raw(motion)).max() > 300


def test_derivatives_start_at_zero():
    values = np.arange(12.0).reshape(4, 3) ** 2
    full = with_derivatives(values)
    assert np.all(full[0, 3:] == 0)
    np.testing.assert_allclose(np.cumsum(full[:, 3:6], 0), values - values[0])
    np.testing.assert_allclose(np.cumsum(full[:, 6:], 0), full[:, 3:6])


def test_saving_keeps_statistics(tmp_path):
    vectors = JointVectors(fps=20.0, joints=("Head", "LeftArm"), expression=True)
    vectors.fit([vectors.raw(random_motion(20.0))])
    vectors.save_pretrained(tmp_path)
    loaded = JointVectors.from_pretrained(tmp_path)
    assert loaded.config.fps == 20.0 and tuple(loaded.config.joints) == ("Head", "LeftArm")
    assert torch.equal(loaded.mean, vectors.mean) and torch.equal(loaded.deviation, vectors.deviation)


def test_faults_are_named():
    motion = random_motion()
    with pytest.raises(ValueError, match="20 fps and the motion at 30"):
        RootSpaceVectors().raw(motion)
    with pytest.raises(ValueError, match="no expression"):
        JointVectors(expression=True).raw(Motion(30.0, motion.skeleton, motion.rotations, motion.root_position))
    with pytest.raises(ValueError, match="NoSuchJoint"):
        JointVectors(joints=("NoSuchJoint",))
    with pytest.raises(ValueError, match=r"\(F, 165\)"):
        SmplxVectors().motion(np.zeros((3, 141)))
    small = Skeleton(("Hips", "Spine"), (-1, 0), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="lacks .*Spine1"):
        JointVectors().raw(Motion(30.0, small, small.rest_rotations(2), np.zeros((2, 3), np.float32)))
