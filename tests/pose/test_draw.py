"""Pose maps: strokes where the points are, faded by confidence, the same at every size."""

import numpy as np
import pytest
import torch

from pose.draw import draw_all, draw_body, draw_hands, draw_keypoints, draw_over
from pose.keypoints import COUNT, FACE, FACE_CONTOUR, LEFT_HAND, Keypoints


@pytest.fixture
def person():
    """Two frames of a stick figure at 256 x 256; the second is moved by 10 pixels to the right."""
    points = np.full((2, COUNT, 2), (128, 45), np.float32)
    points[:, 5], points[:, 6], points[:, 7], points[:, 9] = (160, 100), (96, 100), (190, 150), (170, 200)
    points[:, LEFT_HAND] = np.stack([170 + np.arange(21) * 2, 200 + np.arange(21)], axis=1)
    turn = np.linspace(0, 2 * np.pi, 68)
    points[:, [FACE.start + i for i in FACE_CONTOUR]] = np.stack([128 + 25 * np.sin(turn), 50 + 25 * np.cos(turn)], 1)
    points[1, :, 0] += 10
    confidence = np.zeros((2, COUNT), np.float32)
    confidence[:, [5, 6, 7, 9]] = 1
    confidence[:, LEFT_HAND] = 1
    confidence[:, FACE] = 1
    return Keypoints(points, confidence, (256, 256))


def test_shapes_and_range(person):
    maps = draw_keypoints(person)
    assert maps.shape == (2, 3, 256, 256) and maps.dtype == torch.float32
    assert maps.min() == 0 and 0.9 < maps.max() <= 1
    assert draw_keypoints(person, (128, 192)).shape == (2, 3, 128, 192)
    assert np.array_equal((maps * 255).byte().permute(0, 2, 3, 1).numpy(), draw_all(person))


def test_strokes_lie_on_the_points_and_nowhere_else(person):
    picture = draw_all(person)[0].max(axis=2)
    for index in (5, 6, 7, 9, LEFT_HAND.start + 8, FACE.start + FACE_CONTOUR[3]):
        x, y = (person.points[0, index] - 0.5).round().astype(int)
        assert picture[y, x] > 40
    assert picture[230:, :120].max() == 0 and picture[120:180, 100:140].max() == 0


def test_parts(person):
    everything, body, hands = draw_all(person), draw_body(person), draw_hands(person)
    assert body[:, :80].max() == 0 and everything[:, :80].max() > 200, "draw_body leaves the face out"
    assert hands[:, :150].max() == 0 and hands[:, 190:].max() > 100


def test_moving_points_move_the_drawing(person):
    first, second = draw_all(person)
    assert np.array_equal(first[:, :-10], second[:, 10:])


def test_confidence_fades_and_hides(person):
    brightness = []
    for value in (1.0, 0.6, 0.5, 0.4, 0.3, 0.0):
        confidence = np.where(person.confidence > 0, np.float32(value), 0).astype(np.float32)
        brightness.append(float(draw_all(Keypoints(person.points, confidence, person.size)).mean()))
    assert brightness[0] == brightness[1] > brightness[2] > brightness[3] > brightness[4] == brightness[5] == 0


def test_drawing_small_looks_like_drawing_large_and_reducing(person):
    large = draw_all(person, (1024, 1024))[0].astype(float).reshape(128, 8, 128, 8, 3).mean(axis=(1, 3))
    assert np.abs(large - draw_all(person, (128, 128))[0]).mean() < 6


def test_half_a_pixel_shows(person):
    shifted = Keypoints(person.points + np.float32(0.5), person.confidence, person.size)
    assert not np.array_equal(draw_all(person), draw_all(shifted))


def test_points_far_outside_do_no_harm(person):
    points = person.points.copy()
    points[:, 9] = (1e9, -1e9)
    points[:, LEFT_HAND] = -1e7
    assert draw_all(Keypoints(points, person.confidence, person.size)).max() == 255


def test_over_a_picture_of_another_size(person):
    picture = np.full((512, 512, 3), 200, np.uint8)
    over = draw_over(picture, person)
    assert over.shape == picture.shape and over.dtype == np.uint8 and (over[500, 10] == 140).all()
