"""Boxes, masks, heat maps and clarity measure what their names say, on keypoints and pictures made for it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from avatar import conditions
from pose.keypoints import COUNT, FACE, LEFT_HAND, RIGHT_HAND, Keypoints

SIZE = (256, 192)  # H W


def person(frames: int = 1, seed: int = 0) -> Keypoints:
    """A schematic half body: shoulders 60 px apart, hands as 30 px discs of points, the left one lower."""
    random = np.random.default_rng(seed)
    points = np.full((frames, COUNT, 2), 96.0, np.float32)
    points[:, 5], points[:, 6] = (126, 120), (66, 120)
    points[:, 11], points[:, 12] = (116, 210), (76, 210)
    points[:, LEFT_HAND] = (140, 200) + random.uniform(-15, 15, (21, 2))
    points[:, RIGHT_HAND] = (50, 180) + random.uniform(-15, 15, (21, 2))
    points[:, FACE] = (96, 70) + random.uniform(-25, 25, (478, 2))
    return Keypoints(points, np.ones((frames, COUNT), np.float32), SIZE)


def without(keypoints: Keypoints, part) -> Keypoints:
    confidence = keypoints.confidence.copy()
    confidence[:, part] = 0
    return replace(keypoints, confidence=confidence)


def test_movement_box_holds_the_chest_of_every_frame():
    moving = person(5)
    moving.points[:, :23] += np.arange(5, dtype=np.float32)[:, None, None] * 4
    tight = conditions.movement_box(moving, enlarge=1.0)
    np.testing.assert_allclose(tight, [66, 120, 126 + 16, 150 + 16])
    wide = conditions.movement_box(moving, enlarge=1.5)
    np.testing.assert_allclose(wide[:2] + wide[2:], tight[:2] + tight[2:])
    np.testing.assert_allclose(wide[2:] - wide[:2], 1.5 * (tight[2:] - tight[:2]))


def test_movement_box_guesses_hips_that_are_not_in_view():
    box = conditions.movement_box(without(person(), slice(11, 13)), enlarge=1.0)
    assert 140 < box[3] < 160


def test_box_map_has_the_area_of_the_box():
    box = np.array([10.25, 20.0, 50.5, 60.75], np.float32)
    drawn = conditions.box_map(box, SIZE)
    assert drawn.shape == SIZE and drawn.max() == 1
    np.testing.assert_allclose(drawn.sum(), 40.25 * 40.75, rtol=1e-5)
    pose = conditions.pose_map("box", None, 3, SIZE, box)
    assert pose.shape == (3, 3, *SIZE) and (pose[1, 2] == drawn).all()


def test_region_masks_cover_their_points_and_little_more():
    keypoints = person(2)
    for region, part in (("face", FACE), ("hands", LEFT_HAND), ("hands", RIGHT_HAND)):
        mask = conditions.region_mask(keypoints, region, (32, 24))
        cells = (keypoints.points[0, part] / 8).astype(int)
        if region == "hands":
            assert (mask[0, cells[:, 1], cells[:, 0]] > 0).all()
        assert mask.shape == (2, 32, 24) and 0.01 < mask.mean() < 0.2
    assert conditions.region_mask(without(keypoints, LEFT_HAND), "hands", (32, 24)).mean() < mask.mean()


def test_mask_keeps_its_area_at_every_grid():
    sums = [conditions.region_mask(person(), "hands", (256 // s, 192 // s)).sum() * s * s for s in (4, 8, 16, 32)]
    np.testing.assert_allclose(sums, sums[0], rtol=1e-4)


def test_absent_parts_have_no_box():
    keypoints = without(person(2), LEFT_HAND)
    boxes = conditions.region_boxes(keypoints, "hands")
    assert np.isnan(boxes[:, 0]).all() and np.isfinite(boxes[:, 1]).all()


def test_heatmaps_peak_at_the_joints():
    keypoints = without(person(2), RIGHT_HAND)
    keypoints.points[1, LEFT_HAND.start] = (-5, 100)
    maps, weights = conditions.hand_heatmaps(keypoints, (64, 48))
    assert maps.shape == (2, 42, 64, 48) and weights.shape == (2, 42)
    assert (weights[0, :21] == 1).all() and (weights[:, 21:] == 0).all() and weights[1, 0] == 0
    row, column = np.unravel_index(maps[0, 3].argmax(), (64, 48))
    np.testing.assert_allclose((column * 4 + 2, row * 4 + 2), keypoints.points[0, LEFT_HAND][3], atol=2.01)


def test_a_blurred_hand_is_less_clear():
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    scores = [
        conditions.hand_clarity(cv2.GaussianBlur(image, (0, 0), s)[None], person())[0] for s in (0.3, 1.0, 2.0, 4.0)
    ]
    assert (np.diff(scores, axis=0) < 0).all()
    one = conditions.hand_clarity(image[None], without(person(), LEFT_HAND))[0]
    assert np.isnan(one[0]) and np.isfinite(one[1])
    assert conditions.standardised(np.array([2.0, 99.0], np.float32)).tolist() == [0.0, 3.0]


def test_square_crop_centres_and_keeps_scale():
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:60, 30:50] = 255
    crop = conditions.square_crop(image, np.array([30, 40, 50, 60], np.float32), 20)
    assert (crop == 255).all()
    wider = conditions.square_crop(image, np.array([20, 30, 60, 70], np.float32), 80)
    np.testing.assert_allclose((wider[..., 0] / 255).mean(), 0.25, atol=0.01)


def test_kinds_are_drawn_with_their_shares():
    random = np.random.default_rng(0)
    drawn = [conditions.sample_kind(random) for _ in range(500)]
    assert 0.6 < drawn.count("box") / 500 < 0.8 and set(drawn) == set(conditions.KINDS)


def test_hand_template_fits_the_photo_and_goes_forth_and_back():
    template, photo = person(4), person(1)
    template.points[:] = template.points * 2 + np.arange(4, dtype=np.float32)[:, None, None]
    template = replace(template, size=(512, 384))
    parts = conditions.hand_template(template, photo)
    played = Keypoints.concatenated([next(parts) for _ in range(3)])
    assert played.size == SIZE and len(played) == 10
    np.testing.assert_allclose(played.points[0], photo.points[0], atol=1e-3)
    moved = played.points[:, LEFT_HAND, 0].mean(1) - played.points[0, LEFT_HAND, 0].mean()
    np.testing.assert_allclose(moved * 2, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3], atol=1e-3)
    with pytest.raises(ValueError, match="photo's shoulders are not in view"):
        next(conditions.hand_template(template, without(photo, slice(5, 7))))


def test_no_condition_is_black():
    assert not conditions.pose_map("none", None, 2, SIZE, None).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conditions.pose_map("legs", None, 1, SIZE, None), "unknown condition kind 'legs'; use one of box"),
        (lambda: conditions.pose_map("box", None, 1, SIZE, None), "needs a movement box"),
        (lambda: conditions.pose_map("body", None, 1, SIZE, None), "needs keypoints"),
        (lambda: conditions.pose_map("body", person(), 1, (64, 64), None), "Keypoints.resized"),
        (lambda: conditions.movement_box(without(person(), slice(5, 7))), "use condition kind 'none'"),
        (lambda: conditions.region_boxes(person(), "feet"), "unknown region 'feet'"),
        (lambda: conditions.hand_clarity(np.zeros((1, 8, 8, 3), np.uint8), person()), "images must be"),
        (lambda: conditions.sample_kind(np.random.default_rng(0), {"box": -1}), "shares"),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
