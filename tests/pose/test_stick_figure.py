"""The stick figure: shape, where things stand, a face that moves."""

import numpy as np

from pose.motion import Motion, expression_index
from pose.skeleton import HOME_HEIGHT, Skeleton
from pose.stick_figure import LEFT, RIGHT, draw_figure, figure_aim


def resting(frames=2, face=True):
    home = Skeleton.home()
    root = np.tile(np.array([0, HOME_HEIGHT, 0], np.float32), (frames, 1))
    expression = np.zeros((frames, 51), np.float32) if face else None
    return Motion(25.0, home, home.rest_rotations(frames), root, expression)


def columns_of(picture, colour):
    """Columns of the pixels whose hue is the colour's."""
    pixels = picture.astype(float)
    bright = pixels.max(-1, keepdims=True).clip(1)
    near = np.abs(pixels / bright - np.array(colour) / max(colour)).max(-1) < 0.05
    return np.flatnonzero((near & (bright[..., 0] > 60)).any(0))


def test_left_arm_is_on_the_right_of_the_picture():
    picture = draw_figure(resting())[0]
    assert picture.shape == (384, 384, 3) and picture.dtype == np.uint8
    assert columns_of(picture, LEFT).min() > 180 and columns_of(picture, RIGHT).max() < 204


def test_face_and_pieces():
    motion = resting()
    still = draw_figure(motion)
    assert np.array_equal(still[0], still[1])
    motion.expression[1, expression_index("jawOpen")] = 1.0
    opened = draw_figure(motion)
    rows, columns = np.nonzero((opened[0] != opened[1]).any(-1))
    assert len(rows) and 170 < columns.mean() < 214 and rows.max() < 0.4 * 384
    aim = figure_aim(motion)
    assert np.array_equal(draw_figure(motion[1:], aim=aim)[0], opened[1])
    assert draw_figure(resting(face=False), 128, "label").shape == (2, 128, 128, 3)
