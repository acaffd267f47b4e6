"""Detection on the public-domain astronaut, changed in ways whose effect on the keypoints is known."""

import subprocess
import sys
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
import skimage.data

from pose.detect import PersonDetector, load_image, video_keypoints
from pose.keypoints import FACE, FACE_OVAL, HANDS

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos" / "halfbody_synthetic"
HANDS_OUT_OF_FRAME = {"man_0252": {"left", "right"}, "man_0415": {"left", "right"}, "refimag_test": {"right"}}


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def detector():
    with PersonDetector() as found:
        yield found


@pytest.fixture(scope="module")
def reference(detector, astronaut):
    return detector.image(astronaut)


def face_error(detection, expected):
    """Mean distance of the face points from where they should be, in shoulder widths of the reference."""
    return float(np.linalg.norm(detection.keypoints.points[0, FACE] - expected, axis=1).mean())


def test_astronaut(reference, astronaut):
    keypoints = reference.keypoints
    points, confidence = keypoints.points[0], keypoints.confidence[0]
    assert keypoints.points.shape == (1, 543, 2) and keypoints.size == (512, 512) and reference.people == 1
    assert confidence[FACE].min() > 0.9 and confidence[[5, 6]].min() > 0.9
    assert 180 < points[FACE, 0].mean() < 260 and 90 < points[FACE, 1].mean() < 150
    assert points[1, 0] > points[2, 0] and points[5, 0] > points[6, 0], "left is the person's own left"
    assert confidence[[18, 21]].max() == 0, "MediaPipe has no small toe"
    assert confidence[[13, 14, 15, 16]].max() < 0.3, "knees and feet are out of the frame"
    for part in HANDS.values():
        assert confidence[part].max() == 0 and np.isfinite(points[part]).all()
    assert np.isnan(reference.hand_world).all() and np.isfinite(reference.world).all()
    assert reference.depth.shape == (1, 543) and np.isfinite(reference.depth).all()
    nose, ears = reference.depth[0, FACE.start + 4], reference.depth[0, [FACE.start + 234, FACE.start + 454]]
    assert nose < ears.min(), "depth grows away from the camera"


def test_matte_covers_the_face_and_leaves_the_corners(reference):
    matte = reference.matte[0]
    assert matte.shape == (512, 512) and matte.dtype == np.float32 and matte.min() >= 0 and matte.max() <= 1
    hull = reference.keypoints.points[0, [FACE.start + i for i in FACE_OVAL]].astype(np.int32)
    inside = cv2.fillConvexPoly(np.zeros((512, 512), np.uint8), cv2.convexHull(hull), 1) > 0
    assert matte[inside].mean() > 0.98
    assert matte[:150, -60:].mean() < 0.05 and 0.3 < matte.mean() < 0.6


def test_same_picture_same_numbers(detector, reference, astronaut):
    detector.image(np.ascontiguousarray(astronaut[:, ::-1]))
    again = detector.image(astronaut)
    for name in ("depth", "world", "matte"):
        assert np.array_equal(getattr(again, name), getattr(reference, name))
    assert np.array_equal(again.keypoints.points, reference.keypoints.points)


@pytest.mark.parametrize("side", [96, 256, 2160])
def test_resizing_scales_the_keypoints(detector, reference, astronaut, side):
    how = cv2.INTER_AREA if side < 512 else cv2.INTER_LINEAR
    found = detector.image(cv2.resize(astronaut, (side, side), interpolation=how))
    assert found.keypoints.size == (side, side) and found.matte.shape == (1, side, side)
    error = face_error(found, reference.keypoints.points[0, FACE] * side / 512) / found.keypoints.shoulder_width()[0]
    assert error < (0.03 if side < 256 else 0.015)


def test_smallest_size(detector, astronaut):
    found = detector.image(cv2.resize(astronaut, (64, 64), interpolation=cv2.INTER_AREA))
    assert found.keypoints.confidence[0, FACE].min() > 0.5


def test_margins_shift_the_keypoints(detector, reference, astronaut):
    wide = cv2.copyMakeBorder(astronaut, 40, 0, 300, 120, cv2.BORDER_CONSTANT, value=(120, 120, 120))
    expected = reference.keypoints.points[0, FACE] + np.array([300, 40])
    assert face_error(detector.image(wide), expected) / reference.keypoints.shoulder_width()[0] < 0.015


def test_mirroring_swaps_the_sides(detector, reference, astronaut):
    mirrored = detector.image(np.ascontiguousarray(astronaut[:, ::-1])).keypoints
    width = reference.keypoints.shoulder_width()[0]
    for left, right in ((1, 2), (5, 6), (7, 8)):
        expected = reference.keypoints.points[0, left] * [-1, 1] + [512, 0]
        assert np.linalg.norm(mirrored.points[0, right] - expected) / width < 0.12


def test_the_largest_of_several_people(detector, reference, astronaut):
    small = cv2.copyMakeBorder(cv2.resize(astronaut, (300, 300)), 212, 0, 0, 0, cv2.BORDER_REPLICATE)
    for order, shift in (((astronaut, small), 0), ((small, astronaut), 300)):
        found = detector.image(np.concatenate(order, axis=1))
        assert found.people == 2
        boxes = detector.faces(np.concatenate(order, axis=1))
        assert boxes.shape == (2, 4) and np.ptp(boxes[0, ::2]) > 1.3 * np.ptp(boxes[1, ::2]), "the largest first"
        expected = reference.keypoints.points[0, FACE] + np.array([shift, 0])
        assert face_error(found, expected) / reference.keypoints.shoulder_width()[0] < 0.02
        assert abs(found.keypoints.points[0, 5, 0] - reference.keypoints.points[0, 5, 0] - shift) < 40


def test_a_person_far_away(detector, astronaut):
    far = cv2.copyMakeBorder(
        cv2.resize(astronaut, (150, 150)), 300, 250, 600, 350, cv2.BORDER_CONSTANT, value=[90] * 3
    )
    found = detector.image(far).keypoints
    assert np.all(np.abs(found.points[0, FACE].mean(axis=0) - [600 + 66, 300 + 36]) < 8)


@pytest.mark.parametrize("quarter, degrees", [(1, 90), (2, 180), (3, 90)])
def test_a_photo_on_its_side_is_named(detector, astronaut, quarter, degrees):
    with pytest.raises(ValueError, match=f"turned by {degrees} degrees; rotate"):
        detector.image(np.ascontiguousarray(np.rot90(astronaut, quarter)))


def test_nobody(detector):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    for picture in (noise, np.full((200, 200, 3), 128, np.uint8), skimage.data.rocket()):
        with pytest.raises(ValueError, match="no person found; give a photo") as error:
            detector.image(picture)
        assert "\n" not in str(error.value)


def test_the_back_of_a_head(detector, reference, astronaut):
    oval = reference.keypoints.points[0, [FACE.start + i for i in FACE_OVAL]]
    oval = oval.mean(axis=0) + (oval - oval.mean(axis=0)) * 1.15
    turned = cv2.fillConvexPoly(astronaut.copy(), cv2.convexHull(oval.astype(np.int32)), (110, 70, 45))
    with pytest.raises(ValueError, match="no face found .*; give a photo with the face"):
        detector.image(turned)
    with pytest.raises(ValueError, match="no face found"):
        detector.image(skimage.data.chelsea())  # a cat


def test_wrong_arrays_and_wrong_use_are_refused(detector, astronaut):
    with pytest.raises(ValueError, match="uint8"):
        detector.image(astronaut.astype(np.float32))
    with pytest.raises(ValueError, match="tracking=True"):
        next(detector.video([astronaut], 25))


def write_video(path, frames, fps):
    height, width = frames[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=fps, quality=9)
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def test_video_follows_the_person_at_the_asked_rate(tmp_path, astronaut):
    shifts = np.arange(30)  # 2 pixels a frame of 50 a second
    frames = [astronaut[0:384, 2 * (29 - k) : 2 * (29 - k) + 384] for k in shifts]
    write_video(tmp_path / "a.mp4", frames, 50)
    chunks = list(video_keypoints(tmp_path / "a.mp4", fps=25, chunk=6))
    assert [len(c) for c in chunks] == [6, 6, 3] and chunks[0].fps == 25 and chunks[0].size == (384, 384)
    nose = np.concatenate([c.points[:, FACE.start + 4, 0] for c in chunks])
    assert np.allclose(np.diff(nose), 4, atol=1.5) and abs(nose[-1] - nose[0] - 56) < 3
    assert min(c.confidence[:, FACE].min() for c in chunks) > 0.9


def test_video_without_a_person(tmp_path):
    write_video(tmp_path / "a.mp4", [np.full((128, 128, 3), 90, np.uint8)] * 5, 25)
    with pytest.raises(ValueError, match="no person found"):
        list(video_keypoints(tmp_path / "a.mp4"))


def test_the_models_do_not_chatter(tmp_path, astronaut):
    """MediaPipe logs from C++ threads; a user must not see it. A fresh process, for it logs at start-up."""
    cv2.imwrite(str(tmp_path / "a.png"), astronaut[..., ::-1])
    code = "import sys; from pose.detect import *\nwith PersonDetector() as d: d.image(load_image(sys.argv[1]))"
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], cwd=root, capture_output=True, text=True, check=True
    )
    assert ran.stderr == "" and ran.stdout == ""


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="development photos are not here")
@pytest.mark.parametrize("name", ["man_0025", "man_0252", "natural_bk_openhand_0315", "refimag_test", "woman_0287"])
def test_every_visible_hand_is_found(detector, name):
    found = detector.image(load_image(PHOTOS / f"{name}.jpg"))
    confidence = found.keypoints.confidence[0]
    seen = {side for side, part in HANDS.items() if confidence[part].min() > 0.5}
    assert seen == {"left", "right"} - HANDS_OUT_OF_FRAME.get(name, set())
    for number, side in enumerate(HANDS):
        assert np.isfinite(found.hand_world[0, number]).all() == (side in seen)
    if len(seen) == 2:
        left, right = (found.keypoints.points[0, part].mean(axis=0) for part in HANDS.values())
        assert np.linalg.norm(left - right) > 0.05 * found.keypoints.shoulder_width()[0]
