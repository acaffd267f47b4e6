"""Stray hair: what stands out from the head goes with it before a calm background, and only there."""

import cv2
import numpy as np
import pytest
from drawn_figure import figure

from avatar.warp.body import read_body
from avatar.warp.hair import stray_hair
from avatar.warp.matte import refine_matte
from avatar.warp.prior import GeometricPrior
from pose.keypoints import Keypoints

SIDE = 512


@pytest.fixture(scope="module")
def plain():
    image, reference, depth, matte = figure(SIDE, SIDE)
    body = read_body(reference, depth)
    image = image.copy()
    image[matte < 0.5] = (150, 170, 160)
    return image, reference, depth, matte, body


def strands(image, body, long: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture with three strands out of the head, `long` shoulder widths beyond it; and where they are."""
    out, where = image.copy(), np.zeros(image.shape[:2], np.uint8)
    x, y = body.head_centre
    top = np.flatnonzero((np.abs(image[:, int(x)].astype(int) - image[2, 2]).max(-1)) > 20)[0]
    reach = y - top
    for angle in (-0.5, 0.0, 0.6):
        way = np.array([np.sin(angle), -np.cos(angle)])
        a, b = (np.array([x, y]) + way * far for far in (reach * 0.9, reach + long * body.unit))
        for canvas, colour in ((out, (245, 245, 250)), (where, (255,))):
            cv2.line(canvas, a.round().astype(int).tolist(), b.round().astype(int).tolist(), colour, 2, cv2.LINE_AA)
    return out, where


def beyond(where: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """Strands that the matte lacks."""
    return (where > 200) & (cv2.dilate(matte, np.ones((5, 5))) < 0.02)


def test_strands_before_a_calm_wall_are_hair_and_move_with_the_head(plain):
    image, reference, depth, matte, body = plain
    photo, where = strands(image, body, 0.08)
    fine = refine_matte(photo, matte, body)
    there = beyond(where, fine)
    assert there.sum() > 50
    hair = stray_hair(photo, fine, body)
    assert hair[there].mean() > 0.8
    assert (hair[(where == 0) & (matte < 0.02)] > 0.1).mean() < 0.002

    moved = np.repeat(reference.points, 2, 0)
    moved[1] += np.array([12, 4], np.float32)
    driving = Keypoints(moved, np.repeat(reference.confidence, 2, 0), reference.size)
    frames = GeometricPrior(photo, reference, depth, matte).render(driving).frames.permute(0, 2, 3, 1).numpy() * 255
    wall = np.array(image[2, 2], np.float32)
    new = np.roll(there, (4, 12), (0, 1))
    assert np.abs(frames[0][there] - photo[there]).mean() < 4  # at rest it is the photo
    assert np.abs(frames[1][there & ~cv2.dilate(new.astype(np.uint8), np.ones((5, 5))).astype(bool)] - wall).mean() < 8
    assert np.abs(frames[1][new] - wall).mean() > 40


def test_a_busy_background_holds_no_hair(plain):
    image, _, _, matte, body = plain
    photo, _ = strands(image, body, 0.15)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    noise[matte > 0.5] = photo[matte > 0.5]
    assert stray_hair(noise, refine_matte(noise, matte, body), body).max() == 0


def test_a_cable_that_goes_on_stays_in_the_background(plain):
    image, _, _, matte, body = plain
    photo, where = strands(image, body, 0.6)
    fine = refine_matte(photo, matte, body)
    assert stray_hair(photo, fine, body)[beyond(where, fine)].mean() < 0.15  # its foot may


def test_a_plain_photo_has_none(plain):
    image, _, _, matte, body = plain
    fine = refine_matte(image, matte, body)
    assert stray_hair(image, fine, body)[matte < 0.02].max() < 0.1
