"""The photo's hand under turns, tilts and bends."""

import numpy as np
import pytest

from pose.hand_shape import CURL, LONGER, PALM_TURN, WRIST_BEND, HandShape, picture_turn
from pose.keypoints import FINGERS
from pose.photo_body import PhotoHand
from pose.rotations import axis_angle_to_matrix


def left_hand() -> np.ndarray:
    """An open left hand in mid air (21, 3), fingers up, palm to the camera, px."""
    points = np.zeros((21, 3))
    for finger, (x, length) in enumerate(((26, 30), (12, 44), (2, 48), (-8, 45), (-17, 36))):
        base = np.array([x * (0.8 if finger else 0.6), -50.0 if finger else -15.0, 0.0])
        for joint in range(4):
            points[1 + 4 * finger + joint] = base + np.array([x * 0.3, -1.0 * length, -3.0]) * joint / 3
    return points + [7.0, -4.0, 0.0]


@pytest.fixture
def shape() -> HandShape:
    return HandShape(PhotoHand(left_hand()), 0)


def test_nothing_asked_is_the_photo(shape: HandShape) -> None:
    zero = np.zeros(4)
    points = shape.points(zero, np.zeros((4, 2)), np.zeros((4, 5, 3)))
    np.testing.assert_allclose(points, np.repeat(left_hand()[None, :, :2], 4, 0), atol=1e-9)


def test_a_turn_is_rigid(shape: HandShape) -> None:
    points = shape.points(np.array([0.0, 0.7]), np.zeros((2, 2)), np.zeros((2, 5, 3)))
    rotation = axis_angle_to_matrix([0, 0, 0.7])[:2, :2]
    np.testing.assert_allclose(points[1], left_hand()[:, :2] @ rotation.T, atol=1e-9)


def test_no_tilt_or_bend_stretches_a_finger(shape: HandShape) -> None:
    random = np.random.default_rng(0)
    points = shape.points(random.normal(size=300), random.normal(0, 2, (300, 2)), random.normal(0, 2, (300, 5, 3)))
    photo = left_hand()[:, :2]
    for finger in FINGERS:
        for a, b in zip((0, *finger[:3]), finger, strict=True):
            before = np.linalg.norm(photo[a] - photo[b])
            after = np.linalg.norm(points[:, a] - points[:, b], axis=-1)
            assert after.max() < before * (1 + LONGER) + 0.03 * 130
    # A hand in full view may tilt, but never to its edge.
    breadth = np.linalg.norm(points[:, 5] - points[:, 17], axis=-1) / np.linalg.norm(photo[5] - photo[17])
    length = np.linalg.norm(points[:, 9] - points[:, 0], axis=-1) / np.linalg.norm(photo[9] - photo[0])
    assert breadth.min() > 0.6 and length.min() > 0.6


def test_bending_brings_fingertips_nearer_and_is_bounded(shape: HandShape) -> None:
    bend = np.zeros((2, 5, 3))
    bend[1, 1:] = 5.0
    open_hand, bent = shape.points(np.zeros(2), np.zeros((2, 2)), bend)
    for finger in FINGERS[1:]:
        reach = [np.linalg.norm(hand[finger[3]] - hand[finger[0]]) for hand in (open_hand, bent)]
        assert np.cos(CURL + 0.2) * reach[0] < reach[1] < reach[0]


def test_turns_are_split_into_what_a_picture_shows_and_tilts() -> None:
    forearm = np.zeros(3)
    rotation = axis_angle_to_matrix([[0, 0, 0.2], [0.3, 0, 0], [0, -0.3, 0]])
    turn, tilt = picture_turn(rotation, forearm)
    np.testing.assert_allclose(turn, [0.2, 0, 0], atol=0.02)
    np.testing.assert_allclose(tilt, [[0, 0], [0.3, 0], [0, -0.3]], atol=0.02)


def test_any_turn_is_bounded_and_a_full_one_passes_without_a_jump() -> None:
    angle = np.linspace(0, 2 * np.pi, 721)
    for axis in np.random.default_rng(2).normal(size=(20, 3)):
        axis /= np.linalg.norm(axis)
        turn, tilt = picture_turn(axis_angle_to_matrix(angle[:, None] * axis), np.full(721, 0.3))
        assert np.abs(turn - 0.3).max() <= WRIST_BEND
        assert np.linalg.norm(tilt, axis=-1).max() <= 1 + 1e-9 and PALM_TURN < 1
        assert np.abs(np.diff(turn)).max() < 0.06
        # Half a degree a step; the swing's axis turns fastest where its size is nothing.
        assert np.linalg.norm(np.diff(tilt, axis=0), axis=-1).max() < 0.2
