"""The face rig on the mesh of skimage's astronaut, an open smile, as detected on the 512 x 512 photo."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose.face_rig import FaceRig, lip_opening
from pose.face_shapes import IRISES, LIDS, LOWER_LIP, UPPER_LIP
from pose.keypoints import FACE_OVAL
from pose.motion import EXPRESSION_NAMES, expression_index

DATA = Path(__file__).parents[1] / "data" / "astronaut_face.npz"


@pytest.fixture(scope="module")
def photo() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DATA) as file:
        return file["points"], file["depth"]


@pytest.fixture(scope="module")
def rig(photo) -> FaceRig:
    return FaceRig(*photo)


def expression(frames: int = 1, **values: float | np.ndarray) -> np.ndarray:
    out = np.zeros((frames, len(EXPRESSION_NAMES)), np.float32)
    for name, value in values.items():
        out[:, expression_index(name)] = value
    return out


def both(name: str, value: float) -> dict[str, float]:
    return {f"{name}Left": value, f"{name}Right": value}


def gap_mm(rig: FaceRig, points: np.ndarray) -> np.ndarray:
    """Opening of the inner lips in mm at each of the 11 places along the mouth, (F, 11)."""
    return np.linalg.norm(points[:, UPPER_LIP[0]] - points[:, LOWER_LIP[0]], axis=-1) / rig.mm


def test_no_departure_is_the_photo_exactly(rig, photo) -> None:
    random = np.random.default_rng(0).random((3, 51)).astype(np.float32)
    points = rig.points(random, np.tile(np.eye(3), (3, 1, 1)), np.array([0.0, 0.0, 1.0]))
    assert points.dtype == np.float32 and points.shape == (3, 478, 2)
    np.testing.assert_array_equal(points[0], photo[0])
    np.testing.assert_array_equal(points[1], photo[0])
    assert np.abs(points[2] - photo[0]).max() > 1
    np.testing.assert_array_equal(rig.points(head_rotation=np.eye(3)[None])[0], photo[0])


def test_departure_is_a_straight_way(rig, photo) -> None:
    values = expression(3, jawOpen=0.5, **both("eyeBlink", 0.7))
    points = rig.points(values, departure=np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(points[1], (points[0] + points[2]) / 2, atol=1e-3)


def test_zero_closes_the_open_mouth_of_the_photo(rig, photo) -> None:
    assert lip_opening(photo[0][None])[0] * 88 > 8  # the astronaut laughs
    assert gap_mm(rig, rig.points(expression())).max() < 0.6
    pressed = rig.points(expression(**both("mouthPress", 1.0), mouthRollLower=0.5))
    assert gap_mm(rig, pressed).max() < 0.6
    assert np.linalg.norm(pressed[0, 0] - pressed[0, 17]) < 0.8 * np.linalg.norm(
        rig.points(expression())[0, 0] - rig.points(expression())[0, 17]
    )


def test_jaw_opens_the_lips_linearly(rig) -> None:
    opened = np.linspace(0, 1, 21)
    points = rig.points(expression(21, jawOpen=opened))
    opening = lip_opening(points) * 88
    assert (np.diff(opening) > 0).all()
    assert np.corrcoef(opened, opening)[0, 1] > 0.999
    assert 20 < opening[-1] < 35
    chin = (points[:, 152] - points[0, 152]) / rig.mm
    assert 14 < chin[-1, 1] < 26 and abs(chin[-1, 0]) < 3
    assert np.abs(points[-1, 4] - points[0, 4]).max() / rig.mm < 1.0  # the tip of the nose
    assert np.abs(points[-1, 33] - points[0, 33]).max() / rig.mm < 0.5


def test_close_undoes_the_jaw_but_not_the_chin(rig) -> None:
    points = rig.points(np.concatenate([expression(), expression(jawOpen=0.4, mouthClose=0.4)]))
    assert lip_opening(points)[1] * 88 < 1.0
    assert (points[1, 152] - points[0, 152])[1] / rig.mm > 5


def test_lips_never_cross(rig) -> None:
    values = np.random.default_rng(1).random((200, 51)).astype(np.float32)
    points = rig.points(values)
    down = points[:, 152] - points[:, 10]
    down /= np.linalg.norm(down, axis=-1, keepdims=True)
    gap = np.einsum("fnd,fd->fn", points[:, LOWER_LIP[0]] - points[:, UPPER_LIP[0]], down)
    assert gap.min() / rig.mm > -0.6


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_blink_closes_one_eye_fully(rig, side: str) -> None:
    other = "Right" if side == "Left" else "Left"
    points = rig.points(np.concatenate([expression(), expression(**{f"eyeBlink{side}": 1.0})]))

    def gap(eye: str) -> np.ndarray:
        upper, lower = (list(lid) for lid in LIDS[eye])
        return np.linalg.norm(points[:, upper] - points[:, lower], axis=-1).max(axis=-1)

    assert gap(side)[1] < 1e-3 < gap(side)[0]
    np.testing.assert_allclose(gap(other)[1], gap(other)[0], atol=1e-4)


# Each with a point, and the direction (x to the person's left, y up) in which it must go by at least so many mm.
WAYS = [
    ("mouthSmileLeft", 291, (1, 1), 6), ("mouthSmileRight", 61, (-1, 1), 6), ("mouthFrownLeft", 291, (0, -1), 4),
    ("mouthPucker", 291, (-1, 0), 6), ("mouthPucker", 61, (1, 0), 6), ("mouthFunnel", 17, (0, -1), 3),
    ("mouthStretchRight", 61, (-1, 0), 4), ("mouthDimpleLeft", 291, (1, 0), 3), ("mouthLeft", 13, (1, 0), 5),
    ("mouthRight", 13, (-1, 0), 5), ("mouthUpperUpLeft", 270, (0, 1), 4), ("mouthLowerDownRight", 181, (0, -1), 4),
    ("mouthRollLower", 17, (0, 1), 2), ("mouthRollUpper", 0, (0, -1), 2), ("mouthShrugLower", 17, (0, 1), 2),
    ("mouthShrugUpper", 0, (0, 1), 2), ("jawLeft", 152, (1, 0), 5), ("jawRight", 152, (-1, 0), 5),
    ("browInnerUp", 66, (0, 1), 4), ("browInnerUp", 296, (0, 1), 4), ("browDownLeft", 285, (0, -1), 3),
    ("browOuterUpRight", 70, (0, 1), 4), ("browOuterUpLeft", 300, (0, 1), 4), ("cheekSquintLeft", 280, (0, 1), 2),
    ("cheekPuff", 207, (-1, 0), 2), ("noseSneerRight", 48, (0, 1), 2), ("eyeWideLeft", 386, (0, 1), 1),
    ("eyeSquintRight", 159, (0, -1), 1), ("eyeLookOutLeft", 473, (1, 0), 4), ("eyeLookInLeft", 473, (-1, 0), 4),
    ("eyeLookUpRight", 468, (0, 1), 3), ("eyeLookDownRight", 468, (0, -1), 3),
]  # fmt: skip


@pytest.mark.parametrize(("name", "point", "way", "least"), WAYS)
def test_coefficients_move_the_right_way(rig, name: str, point: int, way: tuple[int, int], least: float) -> None:
    shift = (rig.points(expression(**{name: 1.0})) - rig.points(expression()))[0]
    across, up = rig.axes[:2, :2] * (1, -1)
    direction = way[0] * across + way[1] * up
    assert shift[point] @ direction / np.linalg.norm(direction) / rig.mm > least
    assert np.linalg.norm(shift, axis=1).max() / rig.mm < 32  # nothing flies away


def test_every_coefficient_shows(rig) -> None:
    shifts = rig.points(np.eye(51, dtype=np.float32)) - rig.points(expression())
    largest = dict(zip(EXPRESSION_NAMES, np.linalg.norm(shifts, axis=-1).max(axis=1) / rig.mm, strict=True))
    assert largest.pop("mouthClose") == 0  # acts against an open jaw only
    assert largest.pop("jawForward") > 0.3  # goes towards the camera
    assert min(largest.values()) > 2


def test_gaze_moves_the_irises_alone(rig) -> None:
    shift = (rig.points(expression(eyeLookOutLeft=1.0)) - rig.points(expression()))[0]
    moving = np.flatnonzero(np.linalg.norm(shift, axis=1) > 1e-3)
    assert set(moving) == set(IRISES["Left"])


def test_shapes_follow_a_rolled_face(photo, rig) -> None:
    """Turning the photo turns every move with it."""
    turn = Rotation.from_euler("z", 70, degrees=True).as_matrix()[:2, :2]
    rolled = FaceRig((photo[0] @ turn.T).astype(np.float32), photo[1])
    values = np.random.default_rng(2).random((4, 51)).astype(np.float32)
    np.testing.assert_allclose(rolled.points(values), rig.points(values) @ turn.T, atol=2e-2)


def test_head_turns_with_parallax(photo, rig) -> None:
    def turned(axis: str, degrees: float) -> np.ndarray:
        matrix = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()[None].astype(np.float32)
        return (rig.points(head_rotation=matrix)[0] - photo[0]) / rig.mm

    to_left = turned("y", 10)  # the nose goes to the person's left, +x, further than the ears
    assert to_left[4, 0] > to_left[454, 0] + 5 > to_left[234, 0]
    down = turned("x", 10)  # a nod: y points down in the image
    assert down[4, 1] > 5
    np.testing.assert_allclose(turned("y", 5) / 5, turned("y", 1), atol=0.05)
    tilted = rig.points(head_rotation=Rotation.from_euler("z", 8, degrees=True).as_matrix()[None])[0]
    lengths = [np.linalg.norm(face[10] - face[152]) for face in (photo[0], tilted)]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)  # a tilt is rigid


def test_neighbours_move_together(rig) -> None:
    """The face's outline stays smooth under every coefficient: no point jumps against the next."""
    shifts = rig.points(np.eye(51, dtype=np.float32)) - rig.points(expression())
    oval = shifts[:, list(FACE_OVAL)] / rig.mm
    step = np.linalg.norm(np.diff(oval, axis=1), axis=-1)
    assert step.max() < 6


def test_bad_input_is_named(photo, rig) -> None:
    points, depth = photo
    with pytest.raises(ValueError, match=r"\(478, 2\)"):
        FaceRig(points[:468], depth)
    with pytest.raises(ValueError, match="finite"):
        FaceRig(points * np.nan, depth)
    with pytest.raises(ValueError, match="expression must be"):
        rig.points(np.zeros((3, 52), np.float32))
    with pytest.raises(ValueError, match="departure must be"):
        rig.points(expression(3), departure=np.zeros(2))
    with pytest.raises(ValueError, match="give an expression"):
        rig.points()
