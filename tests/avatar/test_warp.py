"""The geometric prior on a drawn figure and on the astronaut: rest, stillness, batches, absent parts, odd shapes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from drawn_figure import driven, figure

from avatar.warp.mesh import Mesh, grid_cells, rasterise
from avatar.warp.prior import GeometricPrior
from pose.keypoints import COUNT, FACE, LEFT_HAND, RIGHT_HAND, Keypoints


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(1 / max(np.mean((a - b) ** 2), 1e-12)))


@pytest.fixture(scope="module")
def prior():
    image, reference, depth, matte = figure(256, 256)
    return image, reference, GeometricPrior(image, reference, depth, matte)


def test_rest_is_the_photo_with_full_confidence(prior):
    image, reference, warp = prior
    result = warp.render(reference)
    frame = result.frames[0].permute(1, 2, 0).numpy()
    inside = warp.layers.matte > 0.5
    assert psnr(frame[inside], image[inside] / 255) > 38
    assert torch.equal(result.confidence, torch.ones(1, 1, 256, 256))
    outside = warp.layers.matte == 0
    np.testing.assert_allclose(frame[outside], image[outside] / np.float32(255), atol=1e-4)


def test_background_far_from_the_person_never_changes(prior):
    image, reference, warp = prior
    result = warp.render(driven(reference, 8))
    changed = (result.frames - torch.from_numpy(image).permute(2, 0, 1) / 255).abs().amax((0, 1)) > 1e-5
    far = np.ones((256, 256), np.uint8)
    keypoints = driven(reference, 8).points
    reach = np.concatenate([keypoints[:, 5:13].reshape(-1, 2), keypoints[:, 23:65].reshape(-1, 2)])
    x0, y0 = reach.min(0) - 30
    x1 = reach[:, 0].max() + 30
    far[int(max(y0, 0)) :, int(max(x0, 0)) : int(x1)] = 0
    far[cv2.dilate((warp.layers.matte > 0).astype(np.uint8), np.ones((41, 41), np.uint8)) > 0] = 0
    assert far.sum() > 3000
    assert not changed.numpy()[far > 0].any()


def test_moving_arms_uncovers_guesses_and_says_so(prior):
    _, reference, warp = prior
    result = warp.render(driven(reference, 3))
    assert float(result.confidence[0].min()) == 1
    assert float(result.confidence[2].min()) < 0.05
    trunk = result.confidence[2, 0, 175:185, 122:134]
    assert float(trunk.min()) > 0.9
    for tensor in (result.frames, result.confidence):
        assert tensor.dtype == torch.float32 and float(tensor.min()) >= 0 and float(tensor.max()) <= 1


def test_layers_one_over_the_other_are_the_frames(prior):
    _, reference, warp = prior
    keypoints = driven(reference, 3)
    rendered, pieces = warp.render_layers(keypoints)
    layers = {piece.name: piece for piece in pieces}
    arms = [f"{side} {part}" for part in ("upper arm", "forearm and hand") for side in ("left", "right")]
    assert list(layers)[:2] == ["background", "trunk and head"] and sorted(list(layers)[2:]) == sorted(arms)
    frames = torch.zeros(3, 3, 256, 256)
    for piece in pieces:
        assert piece.colour.shape == frames.shape and piece.coverage.shape == piece.sure.shape == (3, 1, 256, 256)
        assert (piece.sure <= piece.coverage + 1e-5).all()
        frames = piece.colour + (1 - piece.coverage) * frames
    torch.testing.assert_close(frames.clamp(0, 1), rendered.frames, atol=2e-3, rtol=0)
    plain = warp.render(keypoints)
    torch.testing.assert_close(rendered.frames, plain.frames)
    torch.testing.assert_close(rendered.confidence, plain.confidence)
    hidden = layers["trunk and head"].coverage * layers["left forearm and hand"].coverage
    assert float(hidden.max()) > 0.9  # what an arm covers of the trunk is there all the same


def test_hands_follow_their_keypoints(prior):
    """A skin-coloured hand leaves its place and arrives where the keypoints say."""
    image, reference, warp = prior
    keypoints = driven(reference, 3)
    frame = (warp.render(keypoints).frames[2].permute(1, 2, 0).numpy() * 255).astype(int)
    skin = np.abs(frame - (205, 165, 135)).sum(-1) < 60
    for part in (LEFT_HAND, RIGHT_HAND):
        x, y = np.round(keypoints.points[2, part][9]).astype(int)
        assert skin[y - 2 : y + 2, x - 2 : x + 2].mean() > 0.5


def test_same_input_same_bytes_and_batch_equals_single(prior):
    _, reference, warp = prior
    keypoints = driven(reference, 6)
    first, second = warp.render(keypoints), warp.render(keypoints)
    assert torch.equal(first.frames, second.frames) and torch.equal(first.confidence, second.confidence)
    image, reference, depth, matte = figure(256, 256)
    again = GeometricPrior(image, reference, depth, matte).render(keypoints)
    assert torch.equal(first.frames, again.frames)
    single = torch.cat([warp.render(keypoints[f : f + 1]).frames for f in range(6)])
    torch.testing.assert_close(first.frames, single, atol=1e-6, rtol=0)


def test_motion_is_continuous(prior):
    """A hundredth of the motion moves the picture by about a hundredth: no jump when leaving rest."""
    _, reference, warp = prior
    small = warp.render(driven(reference, 3, 0.01)).frames
    assert float((small[2] - small[0]).abs().mean()) < 0.004


@pytest.mark.parametrize(
    ("size", "hands", "elbows"), [((320, 192), True, True), ((192, 256), False, True), ((192, 192), True, False)]
)
def test_other_shapes_and_absent_parts(size, hands, elbows):
    image, reference, depth, matte = figure(*size, hands=hands, elbows=elbows)
    warp = GeometricPrior(image, reference, depth, matte)
    assert bool(warp.body.arms) == elbows
    result = warp.render(driven(reference, 3))
    assert result.frames.shape == (3, 3, *size) and result.confidence.shape == (3, 1, *size)
    inside = warp.layers.matte > 0.5
    assert psnr(result.frames[0].permute(1, 2, 0).numpy()[inside], image[inside] / 255) > 36
    assert bool(torch.isfinite(result.frames).all())


def test_points_unknown_while_driving_stay_with_their_parent(prior):
    _, reference, warp = prior
    keypoints = driven(reference, 2)
    keypoints.confidence[1, 7:] = 0
    keypoints.points[1, 7:] = 0
    result = warp.render(keypoints)
    assert bool(torch.isfinite(result.frames).all())
    rest = warp.render(reference).frames[0]
    assert float((result.frames[1] - rest).abs().mean()) < 0.01


@pytest.fixture(scope="module")
def astronaut():
    """The portrait with its stored face mesh; shoulders placed by eye, no arms."""
    image = skimage.data.astronaut()
    with np.load(Path(__file__).parents[1] / "data" / "astronaut_face.npz") as file:
        face = file["points"].astype(np.float32)
    points, confidence = np.zeros((1, COUNT, 2), np.float32), np.zeros((1, COUNT), np.float32)
    points[0, FACE], confidence[0, FACE] = face, 1
    matte = np.zeros((512, 512), np.uint8)
    cv2.ellipse(matte, (224, 90), (75, 85), 0, 0, 360, 255, -1)
    cv2.fillConvexPoly(matte, np.array([(150, 170), (300, 170), (370, 512), (20, 512), (40, 250)], np.int32), 255)
    return (
        image,
        Keypoints(points, confidence, (512, 512)),
        np.zeros(COUNT, np.float32),
        matte.astype(np.float32) / 255,
    )


def test_face_without_shoulders(astronaut):
    image, reference, depth, matte = astronaut
    warp = GeometricPrior(image, reference, depth, matte)
    points = np.repeat(reference.points, 2, 0)
    points[1, FACE] += [5, 0]
    result = warp.render(Keypoints(points, np.repeat(reference.confidence, 2, 0), (512, 512)))
    photo = torch.from_numpy(image).permute(2, 0, 1) / 255
    assert float((result.frames[0] - photo).abs().mean()) < 1 / 255
    x, y = np.round(points[0, FACE.start + 10]).astype(int)  # forehead
    moved, rest = result.frames[1][:, y - 8 : y + 8, x - 15 + 5 : x + 15 + 5], photo[:, y - 8 : y + 8, x - 15 : x + 15]
    assert float((moved - rest).abs().mean()) < 3 / 255
    # the trunk has no bone of its own and stays
    assert float((result.frames[1][:, 400:, 150:250] - photo[:, 400:, 150:250]).abs().max()) < 2 / 255


def test_wrong_input_is_refused():
    image, reference, depth, matte = figure(192, 192)
    with pytest.raises(ValueError, match="uint8"):
        GeometricPrior(image.astype(np.float32), reference, depth, matte)
    with pytest.raises(ValueError, match="multiples of 64"):
        GeometricPrior(image[:100], reference, depth, matte[:100])
    with pytest.raises(ValueError, match="differ in size"):
        GeometricPrior(image, reference, depth, matte[:, :128])
    with pytest.raises(ValueError, match="empty"):
        GeometricPrior(image, reference, depth, np.zeros_like(matte))
    warp = GeometricPrior(image, reference, depth, matte)
    with pytest.raises(ValueError, match="resized"):
        warp.render(reference.resized((256, 256)))


def test_soundness_of_a_frame_is_its_own():
    vertices, triangles = grid_cells(np.ones((32, 32), bool), 8, 0)
    mesh = Mesh(vertices, vertices, triangles, np.ones((len(vertices), 1), np.float32))
    moved = np.stack([vertices, vertices + 3]).astype(np.float64)
    faith = np.stack([np.full(len(vertices), 0.2), np.ones(len(vertices))])
    both, alone = rasterise(mesh, moved, faith, (48, 48)), rasterise(mesh, moved[1:], faith[1:], (48, 48))
    assert both is not None and alone is not None
    x0, y0 = (alone.box[n] - both.box[n] for n in (0, 1))
    height, width = alone.hit.shape[1:]
    view = (1, slice(y0, y0 + height), slice(x0, x0 + width))
    np.testing.assert_allclose(both.sound[view][alone.hit[0]], alone.sound[0][alone.hit[0]], atol=1e-6)
    assert alone.sound[0][alone.hit[0]].min() > 0.99  # not lowered at the edge either
