"""Values between frames: what is exact, what is smooth, and what is refused."""

import numpy as np
import pytest

from pose.interpolation import between, rotations_between
from pose.rotations import axis_angle_to_matrix


def test_polynomials_up_to_degree_4_are_exact_away_from_the_ends() -> None:
    frames, places = np.arange(12.0), np.linspace(2, 9, 57)
    for degree in range(5):
        np.testing.assert_allclose(between((frames - 5) ** degree, places), (places - 5) ** degree, atol=1e-9)
    straight = np.stack([2 - frames, 3 * frames], -1)  # lines are exact up to the ends
    np.testing.assert_allclose(between(straight, np.array([0.3, 10.6])), [[1.7, 0.9], [-8.6, 31.8]], atol=1e-9)
    values = np.random.default_rng(0).normal(size=(7, 2, 3))
    np.testing.assert_allclose(between(values, np.arange(7.0)), values, atol=1e-12)


def test_speed_and_acceleration_do_not_jump_at_frames() -> None:
    values = np.random.default_rng(1).normal(size=20)
    step = 1e-3
    for frame in (1, 5, 10, 18):
        near = between(values, frame + step * np.arange(-6, 7))
        for order, size in ((1, 2.0), (2, 10.0)):
            change = np.diff(near, n=order) / step**order
            assert np.abs(np.diff(change)).max() < 60 * size * step, (frame, order)


def test_short_and_empty() -> None:
    np.testing.assert_allclose(between(np.array([3.0]), np.zeros(2)), [3, 3])
    np.testing.assert_allclose(between(np.array([1.0, 2.0]), np.array([0, 0.25, 1])), [1, 1.25, 2])
    assert between(np.zeros((4, 2)), np.zeros(0)).shape == (0, 2)
    with pytest.raises(ValueError, match="from 0 to 3"):
        between(np.zeros(4), np.array([3.5]))


def test_a_steady_turn_passes_half_a_turn_and_more() -> None:
    """Several whole turns: the sign of quaternions and the wrap of angles do not show."""
    angles = np.arange(40) * 0.5
    turned = axis_angle_to_matrix(angles[:, None, None] * np.array([0.6, 0.0, 0.8]))
    places = np.linspace(3, 36, 100)
    wanted = axis_angle_to_matrix((0.5 * places)[:, None, None] * np.array([0.6, 0.0, 0.8]))
    np.testing.assert_allclose(rotations_between(turned, places), wanted, atol=1e-4)
