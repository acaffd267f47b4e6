"""What of an arm a hand hides, and what of the person colours alone would leave outside of the matte."""

import cv2
import numpy as np

from avatar.warp.body import read_body
from avatar.warp.fill import fill_limb, fill_texture
from avatar.warp.matte import refine_matte
from avatar.warp.prior import GeometricPrior
from pose.keypoints import COUNT, FINGERS, LEFT_HAND, Keypoints

SIZE = 256
SKIN, SHIRT, WALL = (205, 165, 135), (60, 70, 160), (90, 120, 100)


def hand_before_the_elbow():
    """A figure whose left hand is held before its own elbow: image, keypoints, depth, matte."""
    image, matte = np.full((SIZE, SIZE, 3), WALL, np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    points, confidence = np.zeros((COUNT, 2), np.float32), np.zeros(COUNT, np.float32)
    points[[0, 5, 6, 11, 12]] = (120, 40), (165, 100), (75, 100), (150, 230), (90, 230)
    points[7], points[9] = (185, 165), (190, 172)
    points[LEFT_HAND.start] = points[9]
    for n, finger in enumerate(FINGERS):  # fist-sized, across the arm and over all that is below the sleeve
        for k, index in enumerate(finger):
            points[LEFT_HAND.start + index] = points[9] + np.array([-26 + 11 * n, -6 - 7 * k])
    confidence[[0, 5, 6, 7, 9, 11, 12]] = 1
    confidence[LEFT_HAND] = 1

    def draw(a, b, thick, colour):
        ends = [tuple(int(v) for v in p) for p in (a, b)]
        cv2.line(image, ends[0], ends[1], colour, thick)
        cv2.line(matte, ends[0], ends[1], 255, thick)

    for canvas, colour in ((image, SHIRT), (matte, 255)):
        cv2.fillConvexPoly(canvas, np.array([(165, 92), (75, 92), (80, SIZE), (160, SIZE)]), colour)
    for canvas, colour in ((image, SKIN), (matte, 255)):
        cv2.ellipse(canvas, (120, 40), (24, 32), 0, 0, 360, colour, -1)
    draw((120, 60), (120, 95), 24, SKIN)
    draw(points[5], (179, 146), 22, SHIRT)  # the sleeve ends where the hand begins
    for finger in FINGERS:
        for i, j in zip((0, *finger), finger, strict=False):
            draw(points[LEFT_HAND.start + i], points[LEFT_HAND.start + j], 13, SKIN)
    keypoints = Keypoints(points[None], confidence[None], (SIZE, SIZE))
    return image, keypoints, np.zeros(COUNT, np.float32), matte.astype(np.float32) / 255


def test_arm_goes_on_to_the_elbow_under_a_hand_held_before_it():
    image, reference, depth, matte = hand_before_the_elbow()
    upper = GeometricPrior(image, reference, depth, matte).layers.front[0].texture
    shoulder, elbow = reference.points[0, 5], reference.points[0, 7]
    for along in (0.5, 0.8, 0.9, 1.0):  # of these the photo shows the first alone
        x, y = (shoulder + along * (elbow - shoulder)).astype(int)
        red, green, blue, coverage, sure = upper[:, y, x]
        assert coverage > 0.9
        assert np.abs(np.array([red, green, blue]) / coverage * 255 - SHIRT).max() < 12
        assert sure == (0 if along > 0.5 else coverage)  # what is guessed is admitted


def test_limbs_are_filled_from_beside_before_from_along():
    """A slanted arm: dark sleeve, light skin below it; its left half is to be filled and its hem must go across."""
    y, x = np.mgrid[:160, :160].astype(np.float32)
    start, end = np.array([60.0, 10.0]), np.array([90.0, 150.0])
    bone = (end - start) / np.linalg.norm(end - start)
    along, across = (x - 60) * bone[0] + (y - 10) * bone[1], (x - 60) * -bone[1] + (y - 10) * bone[0]
    limb = (np.abs(across) < 16) & (along > 0) & (along < 140)
    image = np.where(along[..., None] < 60, 0.2, np.where(along[..., None] < 140, 0.8, 0.5)).astype(np.float32)
    image = np.repeat(image, 3, -1)
    known = limb & ((across < -6) | (along < 45))
    hole = limb & ~known & (np.abs(along - 60) > 6)

    def error(filled):
        return float(np.abs(filled - image)[hole].mean())

    given = np.where(known[..., None], image, 0)
    assert error(fill_limb(given, known, limb, start, end)) < 0.03
    assert error(fill_limb(given, known, limb, start, end)) < error(fill_texture(given, known, limb))


def test_hair_in_the_colour_of_the_wall_stays_with_the_person():
    image, reference, depth, matte = hand_before_the_elbow()
    crown = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(crown, (120, 40), (24, 32), 0, 200, 340, (1,), 9)  # a rim of light hair
    crown &= (matte > 0.5).astype(np.uint8)
    image[crown > 0] = WALL
    refined = refine_matte(image, matte, read_body(reference, depth))
    inside = cv2.erode((matte > 0.5).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert refined[(crown > 0) & inside].mean() > 0.6
