"""HKC, HKV, keypoint distances and what should stay still, on arrays whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from avatar.metrics.keypoint_measures import hand_confidence, hand_variance, keypoint_distance
from avatar.metrics.stability import background_change, flicker, identity_drift
from pose.keypoints import COUNT, LEFT_HAND, RIGHT_HAND, Keypoints

RNG = np.random.default_rng(2)


def person(frames=20, size=(400, 300)):
    """A still person, sure everywhere, shoulders 100 pixels apart."""
    points = np.repeat(RNG.uniform(50, 250, (1, COUNT, 2)), frames, axis=0).astype(np.float32)
    points[:, 5], points[:, 6] = (200, 150), (100, 150)
    return Keypoints(points, np.ones((frames, COUNT), np.float32), size, 25.0)


def moved(keypoints, shift, part=slice(0, COUNT)):
    points = keypoints.points.copy()
    points[:, part] += np.asarray(shift, np.float32)
    return replace(keypoints, points=points)


def test_hand_confidence_counts_lost_hands_or_not():
    keypoints = person()
    confidence = keypoints.confidence.copy()
    confidence[:, LEFT_HAND], confidence[:, RIGHT_HAND] = 0.8, 0.0
    half = replace(keypoints, confidence=confidence)
    assert hand_confidence(keypoints) == pytest.approx(1)
    assert hand_confidence(half) == pytest.approx(0.4) and hand_confidence(half, "seen") == pytest.approx(0.8)
    assert hand_confidence(half, "in_view") == pytest.approx(0.4)
    points = half.points.copy()
    points[:, 10] = (100, 500)  # the right wrist is below the picture
    cut = replace(half, points=points)
    assert hand_confidence(cut, "in_view") == pytest.approx(0.8) and hand_confidence(cut) == pytest.approx(0.4)
    spoiled = replace(half, confidence=confidence * 0)
    assert hand_confidence(spoiled) == 0
    with pytest.raises(ValueError, match="no hand was found"):
        hand_confidence(spoiled, "seen")
    points = points.copy()
    points[:, 9] = (100, 500)
    with pytest.raises(ValueError, match="in the picture"):
        hand_confidence(replace(spoiled, points=points))
    with pytest.raises(ValueError, match="variant"):
        hand_confidence(half, "best")


def test_hand_variance_of_a_known_motion():
    keypoints = person(100)
    assert hand_variance(keypoints) == pytest.approx(0, abs=1e-6)
    wave = np.zeros((100, 1, 2))
    wave[::2, 0, 0] = 6  # x alternates between 0 and 6: variance 9, y still
    waving = moved(keypoints, wave, slice(LEFT_HAND.start, RIGHT_HAND.stop))
    assert hand_variance(waving) == pytest.approx(4.5, rel=1e-4)
    assert hand_variance(waving, "shoulders") == pytest.approx(4.5 / 100**2, rel=1e-4)
    larger = waving.resized((800, 600))
    assert hand_variance(larger) == pytest.approx(18, rel=1e-4)
    assert hand_variance(larger, "shoulders") == pytest.approx(4.5 / 100**2, rel=1e-4)


def test_hand_variance_needs_two_frames_of_a_hand():
    keypoints = person(3)
    confidence = keypoints.confidence.copy()
    confidence[1:, LEFT_HAND.start : RIGHT_HAND.stop] = 0
    with pytest.raises(ValueError, match="two frames"):
        hand_variance(replace(keypoints, confidence=confidence))


def test_keypoint_distance():
    wanted = person()
    assert keypoint_distance(wanted, wanted).mean == 0
    found = moved(wanted, (3, 4))
    for group in ("all", "body", "hands", "face"):
        assert keypoint_distance(found, wanted, group=group).mean == pytest.approx(5, rel=1e-4)
    assert keypoint_distance(found, wanted, "shoulders").mean == pytest.approx(0.05, rel=1e-4)
    confidence = found.confidence.copy()
    confidence[:10, LEFT_HAND.start : RIGHT_HAND.stop] = 0
    lost = keypoint_distance(replace(found, confidence=confidence), wanted, group="hands")
    assert lost.missed == pytest.approx(0.5) and lost.points == 10 * 42 and lost.mean == pytest.approx(5, rel=1e-4)
    blind = keypoint_distance(replace(found, confidence=confidence * 0), wanted)
    assert blind.missed == 1 and np.isnan(blind.mean)
    with pytest.raises(ValueError, match="none of the wanted"):
        blind.mean_or_error()
    outside = moved(wanted, (1000, 0))
    with pytest.raises(ValueError, match="inside the picture"):
        keypoint_distance(outside, outside)
    with pytest.raises(ValueError, match="resized"):
        keypoint_distance(found, wanted.resized((800, 600)))
    with pytest.raises(ValueError, match="frames"):
        keypoint_distance(found[:3], wanted)


def test_flicker():
    alternating = np.zeros((10, 8, 8, 3), np.uint8)
    alternating[::2] = 12
    assert flicker(alternating) == pytest.approx(12) and len(flicker(alternating)) == 8
    fading = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8) * 5
    assert flicker(fading) == pytest.approx(0)
    still = np.zeros((8, 8), bool)
    still[0] = True
    alternating[:, 1:] = 0
    assert flicker(alternating, still) == pytest.approx(12) and flicker(alternating) == pytest.approx(12 / 8)
    with pytest.raises(ValueError, match="still"):
        flicker(alternating, ~np.ones((8, 8), bool))
    with pytest.raises(ValueError, match="three frames"):
        flicker(alternating[:2])


def test_background_change_looks_only_beside_the_person():
    video = np.zeros((3, 8, 8, 3), np.uint8)
    video[1, :4], video[2] = 200, 7
    people = np.zeros((3, 8, 8), bool)
    people[:, :4] = True
    assert background_change(video, video[0], people).tolist() == [0, 0, 7]
    people[2] = True
    assert np.isnan(background_change(video, video[0], people)[2])
    with pytest.raises(ValueError, match="do not fit"):
        background_change(video, video[0, :4], people)


def test_identity_drift():
    fps, frames = 5.0, 700
    first, last = RNG.normal(size=(2, 32))
    path = np.linspace(0, 1, frames)[:, None]
    steady = first + 0.1 * RNG.normal(size=(frames, 32))
    drifting = (1 - path) * first + path * last
    assert identity_drift(steady, fps) < 0.01 < 0.3 < identity_drift(drifting, fps)
    steady[::3] = np.nan
    assert identity_drift(steady, fps) < 0.01
    with pytest.raises(ValueError, match="do not fit"):
        identity_drift(steady[:500], fps)
    assert identity_drift(steady[:500], fps, window_s=20) < 0.01
    steady[:300] = np.nan
    with pytest.raises(ValueError, match="no face"):
        identity_drift(steady, fps)
