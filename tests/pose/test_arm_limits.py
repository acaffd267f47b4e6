"""Limits and inverse kinematics of arms in a picture."""

import numpy as np
import pytest

from pose.arm_limits import ELBOW_TURN, SHOULDER_TURN, fit_picture, soft_limit, two_bone

UNIT = 100.0
ARMS = np.array(
    [[[50.0, 0, 0], [60, 78, 5], [90, 110, -40]], [[-50.0, 0, 0], [-55, 80, 0], [-60, 85, -70]]]
)  # the right forearm points at the camera


def test_soft_limit_leaves_small_values_and_bounds_large_ones() -> None:
    value = np.linspace(-10, 10, 2001)
    result = soft_limit(value, -2.0, 0.5)
    assert (np.diff(result) >= 0).all() and result.min() >= -2 and result.max() <= 0.5
    np.testing.assert_allclose(result[995:1006], value[995:1006], atol=2e-4)


def test_two_bones_keep_their_lengths_and_reach_what_can_be_reached() -> None:
    random = np.random.default_rng(0)
    shoulder, wrist, hint = random.normal(0, 40, (3, 500, 3))
    upper, fore = np.full(500, 28.0), np.full(500, 25.0)
    elbow, reached = two_bone(shoulder, wrist, hint, upper, fore)
    np.testing.assert_allclose(np.linalg.norm(elbow - shoulder, axis=-1), upper)
    np.testing.assert_allclose(np.linalg.norm(reached - elbow, axis=-1), fore)
    distance = np.linalg.norm(wrist - shoulder, axis=-1)
    possible = (distance > 6) & (distance < 53)
    np.testing.assert_allclose(reached[possible], wrist[possible])


def test_the_photos_own_arms_come_back() -> None:
    shoulder, elbow, wrist = (ARMS[None, :, k, :2] for k in range(3))
    pose = fit_picture(shoulder, ARMS, elbow, wrist, UNIT)
    np.testing.assert_allclose(pose.elbow, elbow, atol=1e-9)
    np.testing.assert_allclose(pose.wrist, wrist, atol=1e-9)
    np.testing.assert_allclose(pose.turn, 0, atol=1e-9)


def test_near_targets_are_met_and_far_ones_bounded() -> None:
    shoulder, elbow, wrist = (np.repeat(ARMS[None, :, k, :2], 64, 0) for k in range(3))
    angle = np.linspace(0, 2 * np.pi, 64)[:, None, None]
    around = np.concatenate([np.cos(angle), np.sin(angle)], -1)
    near = fit_picture(shoulder, ARMS, elbow, wrist + 5 * around, UNIT)
    assert np.linalg.norm(near.wrist - wrist - 5 * around, axis=-1).max() < 3.5
    far = fit_picture(shoulder, ARMS, elbow, wrist + 300 * around, UNIT)
    assert np.abs(far.turn).max() < SHOULDER_TURN + ELBOW_TURN[1]
    photo, shown = (np.linalg.norm(w - e, axis=-1) for w, e in ((wrist, elbow), (far.wrist, far.elbow)))
    assert (shown / photo).min() > 0.5 and (shown / photo).max() < 1.35


def test_a_target_that_moves_steadily_is_followed_steadily() -> None:
    """Straight through the elbow, where a forearm has no direction: no jump."""
    shoulder, elbow, wrist = (np.repeat(ARMS[None, :, k, :2], 400, 0) for k in range(3))
    way = np.linspace(0, 2, 400)[:, None, None]
    result = fit_picture(shoulder, ARMS, elbow, wrist + way * (elbow - wrist), UNIT).wrist
    steps = np.linalg.norm(np.diff(result, axis=0), axis=-1)
    target = np.linalg.norm(wrist[0] - elbow[0], axis=-1) * 2 / 399
    assert (steps.max(0) < 4 * target + 0.2).all()


@pytest.mark.parametrize("frames", [1, 7])
def test_frames_do_not_know_of_each_other(frames: int) -> None:
    random = np.random.default_rng(1)
    shoulder, elbow, wrist = (
        np.repeat(ARMS[None, :, k, :2], 10, 0) + random.normal(0, 9, (10, 2, 2)) for k in range(3)
    )
    whole = fit_picture(shoulder, ARMS, elbow, wrist, UNIT)
    part = fit_picture(shoulder[:frames], ARMS, elbow[:frames], wrist[:frames], UNIT)
    np.testing.assert_array_equal(part.wrist, whole.wrist[:frames])
