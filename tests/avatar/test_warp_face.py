"""The face warp on skimage's astronaut: identity, borders, lips, lids, gaze, confidence."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from avatar.warp.face import FaceField, FaceWarp
from pose.face_rig import FaceRig
from pose.keypoints import FACE_CONTOUR, LEFT_EYE_LOWER, LEFT_EYE_UPPER
from pose.motion import EXPRESSION_NAMES, expression_index

DATA = Path(__file__).parents[1] / "data" / "astronaut_face.npz"
IMAGE = np.ascontiguousarray(astronaut())


def mesh() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DATA) as file:
        return file["points"], file["depth"]


@pytest.fixture(scope="module")
def warp() -> FaceWarp:
    return FaceWarp(IMAGE, mesh()[0])


@pytest.fixture(scope="module")
def rig() -> FaceRig:
    return FaceRig(*mesh())


def posed(rig: FaceRig, **values: float) -> np.ndarray:
    expression = np.zeros((1, len(EXPRESSION_NAMES)), np.float32)
    for name, value in values.items():
        expression[0, expression_index(name)] = value
    return rig.points(expression)[0]


def both(name: str, value: float) -> dict[str, float]:
    return {f"{name}Left": value, f"{name}Right": value}


def drawn(field: FaceField, image: np.ndarray = IMAGE) -> np.ndarray:
    """The box of the picture, (h, w, 3) in [0, 1]."""
    x0, y0, x1, y1 = field.box
    x, y = np.meshgrid(np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32))
    picture = cv2.remap(image, x + field.displacement[..., 0], y + field.displacement[..., 1], cv2.INTER_LINEAR) / 255
    return picture * (1 - field.overlay[..., 3:]) + field.overlay[..., :3]


def at(field: FaceField, points: np.ndarray) -> np.ndarray:
    """The displacement at points (N, 2) of the picture."""
    where = (points - field.box[:2] - 0.5).astype(np.float32)[None]
    return cv2.remap(field.displacement, where[..., 0], where[..., 1], cv2.INTER_LINEAR)[0]


def test_the_photos_own_face_is_the_photo(warp) -> None:
    field = warp.field(mesh()[0])
    x0, y0, x1, y1 = field.box
    assert field.displacement.shape == (y1 - y0, x1 - x0, 2)
    assert not field.displacement.any() and not field.overlay.any()
    assert (field.confidence == 1).all()


def test_nearly_the_photos_face_is_nearly_the_photo(warp) -> None:
    """Alignment leaves noise of a tenth of a pixel: no line, no tooth may appear for it."""
    noise = np.random.default_rng(0).normal(0, 0.05, (478, 2)).astype(np.float32)
    field = warp.field(mesh()[0] + noise)
    x0, y0, x1, y1 = field.box
    assert np.abs(field.displacement).max() < 0.5
    assert np.abs(drawn(field) - IMAGE[y0:y1, x0:x1] / 255).mean() < 2 / 255
    assert np.abs(drawn(field) - IMAGE[y0:y1, x0:x1] / 255).max() < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_any_expression_stays_in_the_box(warp, rig, seed: int) -> None:
    values = np.random.default_rng(seed).random((1, 51)).astype(np.float32)
    field = warp.field(rig.points(values)[0])
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert not field.displacement[edge].any() and not field.overlay[edge].any()
    for array in (field.displacement, field.overlay, field.confidence):
        assert np.isfinite(array).all() and array.dtype == np.float32
    assert (field.overlay >= 0).all() and (field.overlay <= 1).all()
    assert (field.overlay[..., :3] <= field.overlay[..., 3:] + 1e-5).all()  # premultiplied
    assert (field.confidence >= 0).all() and (field.confidence <= 1).all()


def test_skin_goes_where_the_points_go(warp, rig) -> None:
    """At the contour's points the field leads back to the photo's points."""
    face = posed(rig, jawOpen=0.3, browInnerUp=0.7, mouthFunnel=0.3, **both("mouthSmile", 0.4))
    field = warp.field(face)
    skin = [index for index in FACE_CONTOUR[:36] if index not in (234, 454)]  # jaw, brows, nose
    error = face[skin] + at(field, face[skin]) - mesh()[0][skin]
    assert np.linalg.norm(error, axis=1).mean() < 0.35
    assert np.linalg.norm(error, axis=1).max() < 1.2


def test_open_mouth_is_dark_inside_and_not_trusted(warp, rig) -> None:
    face = posed(rig, jawOpen=0.8)
    field = warp.field(face)
    x, y = (0.25 * face[13] + 0.75 * face[14] - field.box[:2]).astype(int)
    assert field.overlay[y, x, 3] > 0.95 and field.confidence[y, x] < 0.05
    assert drawn(field)[y, x].mean() < 0.45  # tongue or cavity; the photo's teeth are at 0.85
    assert drawn(field)[y, x, 0] >= drawn(field)[y, x, 2]  # flesh, not blue


def test_upper_teeth_of_the_photo_stay_with_the_skull(warp, rig) -> None:
    face = posed(rig, jawOpen=0.5)
    field = warp.field(face)
    below = 0.75 * mesh()[0][13] + 0.25 * mesh()[0][14]
    x, y = (below - field.box[:2]).astype(int)
    assert np.abs(field.displacement[y, x]).max() < 0.6 and field.overlay[y, x, 3] < 0.1
    assert drawn(field)[y, x].mean() > 0.6


def test_closed_mouth_shows_no_teeth(warp, rig) -> None:
    def redness(face: np.ndarray) -> float:
        """Red minus green around the line between the lips: about 0.02 for teeth, 0.2 for lips."""
        field = warp.field(face)
        column, row = ((face[13] + face[14]) / 2 - field.box[:2]).astype(int)
        middle = drawn(field)[row - 1 : row + 2, column - 8 : column + 9]
        return float(np.median(middle[..., 0] - middle[..., 1]))

    assert redness(mesh()[0]) < 0.08
    assert redness(posed(rig)) > 0.12


def test_closed_lids_cover_the_iris(warp, rig) -> None:
    closed = warp.field(posed(rig, **both("eyeBlink", 1.0)))
    for iris in (468, 473):
        x, y = (mesh()[0][iris] - closed.box[:2]).astype(int)
        pupil = np.s_[y - 2 : y + 1, x - 1 : x + 2]
        assert drawn(warp.field(mesh()[0]))[pupil].mean() < 0.4
        assert drawn(closed)[pupil].mean() > 0.5  # the skin of the upper lid


def test_gaze_moves_the_iris(warp, rig) -> None:
    def centre(face: np.ndarray) -> float:
        """Mean column of the dark pixels between the left eye's corners."""
        field = warp.field(face)
        x0, y0 = (mesh()[0][[*LEFT_EYE_UPPER]].min(0) - field.box[:2]).astype(int)
        x1, y1 = (mesh()[0][[*LEFT_EYE_LOWER]].max(0) - field.box[:2]).astype(int)
        dark = np.clip(0.4 - drawn(field)[y0 + 3 : y1, x0 + 3 : x1 - 2].mean(-1), 0, None)
        return float((dark.sum(0) * np.arange(dark.shape[1])).sum() / dark.sum())

    left, ahead, right = (
        centre(posed(rig, **values)) for values in ({"eyeLookOutLeft": 0.8}, {}, {"eyeLookInLeft": 0.8})
    )
    assert left > ahead + 1 and ahead > right + 1


def test_stretching_costs_confidence(warp, rig) -> None:
    """Skin that is pulled out, as above a closed eye, is trusted less than skin at rest."""
    field = warp.field(posed(rig, **both("eyeBlink", 1.0)))
    above = (mesh()[0][386] + mesh()[0][374]) / 2 - field.box[:2]
    x, y = above.astype(int)
    forehead = (mesh()[0][151] - field.box[:2]).astype(int)
    assert field.confidence[y - 2 : y + 2, x].min() < 0.8
    assert field.confidence[forehead[1], forehead[0]] > 0.95


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_small_and_large_faces(scale: float) -> None:
    points, depth = (part * scale for part in mesh())
    image = cv2.resize(IMAGE, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    warp, rig = FaceWarp(image, points), FaceRig(points, depth)
    assert not warp.field(points).displacement.any()
    face = posed(rig, jawOpen=0.7, **both("eyeBlink", 0.5))
    field = warp.field(face)
    x, y = (0.25 * face[13] + 0.75 * face[14] - field.box[:2]).astype(int)
    assert drawn(field, image)[y, x].mean() < 0.5
    assert np.linalg.norm(face[152] + at(field, face[[152]])[0] - points[152]) < 0.1 * rig.mm * 10


def test_turned_photo_and_face_at_the_border() -> None:
    """A face lying on its side, and one cut by the frame, still work: the box stays in the image, edges stay put."""
    points, depth = mesh()
    side = np.ascontiguousarray(np.rot90(IMAGE, -1))
    lying = np.stack([512 - points[:, 1], points[:, 0]], axis=1)
    cut = np.ascontiguousarray(IMAGE[:, 190:])
    for image, face in ((side, lying), (cut, points - np.float32([190, 0]))):
        rig, warp = FaceRig(face.astype(np.float32), depth), FaceWarp(image, face.astype(np.float32))
        moved = posed(rig, jawOpen=0.6, eyeLookOutLeft=0.6, **both("eyeBlink", 0.4))
        field = warp.field(moved)
        x0, y0, x1, y1 = field.box
        assert x0 >= 0 and y0 >= 0 and x1 <= image.shape[1] and y1 <= image.shape[0]
        assert np.isfinite(field.displacement).all() and not field.displacement[[0, -1]].any()


def test_the_same_face_gives_the_same_field(rig) -> None:
    face = posed(rig, jawOpen=0.4, eyeLookUpLeft=0.5)
    first, second = FaceWarp(IMAGE, mesh()[0]).field(face), FaceWarp(IMAGE, mesh()[0]).field(face)
    np.testing.assert_array_equal(first.displacement, second.displacement)
    np.testing.assert_array_equal(first.overlay, second.overlay)


def test_wrong_points_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(478, 2\)"):
        FaceWarp(IMAGE, np.zeros((468, 2), np.float32))
