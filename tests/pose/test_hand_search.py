"""Regions around hands, and which of the hands seen are this person's left and right."""

import numpy as np
import pytest

from pose.hand_search import Hand, assign, distinct, hand_region, region_around, same_hand, wrist_regions

# An open right hand seen from its back, wrist at the origin, fingers up; length about 1.
OPEN = np.array(
    [[0, 0], [0.2, -0.1], [0.32, -0.25], [0.4, -0.37], [0.46, -0.47], [0.13, -0.48], [0.16, -0.65], [0.17, -0.77],
     [0.18, -0.87], [0.02, -0.5], [0.03, -0.7], [0.03, -0.83], [0.03, -0.95], [-0.09, -0.47], [-0.1, -0.65],
     [-0.11, -0.77], [-0.12, -0.87], [-0.19, -0.4], [-0.22, -0.53], [-0.24, -0.62], [-0.26, -0.7]], np.float32,
)  # fmt: skip


def hand(x, y, size=100.0, right=0.99, score=0.95, mirrored=False):
    points = np.zeros((21, 3), np.float32)
    points[:, :2] = OPEN * [-size if mirrored else size, size] + [x, y]
    return Hand(points, np.zeros((21, 3), np.float32), score, right)


WRISTS = {"left": np.array([400.0, 300.0]), "right": np.array([100.0, 300.0])}


def test_regions_hold_the_hand_at_any_angle():
    for angle in np.linspace(-3, 3, 7):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        region = hand_region((OPEN @ turn * 80 + [200, 150]).astype(np.float32))
        assert abs(np.angle(np.exp(1j * (region.angle - angle)))) < 0.15, "fingers point up in the region"
        inside = (OPEN @ turn * 80 + [200, 150] - [region.x, region.y]) @ turn.T
        assert np.abs(inside).max() < region.size / 2 < 100


def test_region_scales_and_shifts():
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float32)
    assert region_around(square, 0.0, 2.0) == (5, 5, 20, 0)
    assert region_around(square, 0.0, 2.0, 0.1) == pytest.approx((5, 4, 20, 0))


def test_wrist_regions_point_along_the_hand_or_the_forearm():
    elbow, wrist = np.array([0.0, 0.0]), np.array([100.0, 0.0])
    for knuckles in (np.array([140.0, 0.0]), wrist):
        regions = wrist_regions(elbow, wrist, knuckles, 200.0)
        assert regions[0].angle == pytest.approx(np.pi / 2) and regions[0].x > 100 and regions[0].y == 0
        assert len({r.size for r in regions}) == 3


def test_each_hand_goes_to_its_wrist_once():
    left, right = hand(405, 300, right=0.02, mirrored=True), hand(95, 300)
    found = assign([right, left, hand(97, 301, score=0.9)], WRISTS, 200.0)
    assert found["left"] is left and found["right"] is right and len(found) == 2
    assert list(assign([right], WRISTS, 200.0)) == ["right"]
    assert assign([], WRISTS, 200.0) == {}


def test_one_hand_is_never_both():
    near = {"left": np.array([260.0, 300.0]), "right": np.array([240.0, 300.0])}
    found = assign([hand(250, 300), hand(252, 301, right=0.5)], near, 200.0)
    assert list(found) == ["right"]


def test_folded_hands_stay_two():
    """Fingers on fingers, palms apart: as in folded hands."""
    left, right = hand(330, 300, right=0.05, mirrored=True), hand(250, 300)
    assert not same_hand(left, right)
    near = {"left": np.array([330.0, 300.0]), "right": np.array([250.0, 300.0])}
    assert set(assign([left, right], near, 200.0)) == {"left", "right"}


def test_far_or_impossible_hands_are_refused():
    assert assign([hand(95, 700)], WRISTS, 200.0) == {}, "nowhere near a wrist"
    assert assign([hand(100, 300, size=400)], WRISTS, 200.0) == {}, "a giant's"
    assert assign([hand(100, 300, size=15)], WRISTS, 200.0) == {}, "a doll's"


def test_crossed_arms_follow_the_wrists():
    crossed = {"left": WRISTS["right"], "right": WRISTS["left"]}
    left, right = hand(100, 300, right=0.05, mirrored=True), hand(400, 300)
    found = assign([left, right], crossed, 200.0)
    assert found["left"] is left and found["right"] is right


def test_distinct_keeps_the_best_of_each():
    best, other = hand(100, 300, score=0.99), hand(400, 300)
    kept = distinct([hand(102, 300, score=0.7), best, other])
    assert len(kept) == 2 and kept[0] is best and kept[1] is other
