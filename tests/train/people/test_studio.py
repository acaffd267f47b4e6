"""Cameras, face attachments, backdrops, looks, speech cuts: without assets or OpenGL."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pose.keypoints import COUNT, HANDS, LIPS_INNER_LOWER, LIPS_INNER_UPPER
from pose.motion import Motion
from pose.skeleton import Skeleton
from train.people.backdrops import draw_backdrop
from train.people.face_mesh import SURFACE, attachments, mirrored, nearest_on
from train.people.looks import draw_look, linear
from train.people.performance import PeopleConfig, cut_speech, split_of, with_hands, with_turned_arms
from train.people.raster import Camera, box_camera

CAMERA = Camera((0.0, 5.0, 34.0), (0.0, 5.0, 0.0), 8.0, (64, 128))


def test_camera():
    """The span is the picture's height at the target; x points right, y down; depth values give distances back."""
    points = np.array([(0, 5, 0), (0, 9, 0), (8, 5, 0), (0, 1, 0), (1, 6, 4)], float)
    flat, away = CAMERA.project(points)
    np.testing.assert_allclose(flat[:4], [(64, 32), (64, 0), (128, 32), (64, 64)], atol=1e-9)
    np.testing.assert_allclose(away, [34, 34, 34, 34, 30])
    seen = np.concatenate([points, np.ones((5, 1))], 1) @ (CAMERA.projection() @ CAMERA.view()).T
    depth = (seen[:, 2] / seen[:, 3] + 1) / 2
    np.testing.assert_allclose(CAMERA.distances(depth), away, rtol=1e-5)
    assert np.isinf(CAMERA.distances(np.ones(1, np.float32))).all()


def test_box_camera_holds_the_box():
    low, high = np.array([-2.0, -1, 0]), np.array([3.0, 4, 1])
    corners = np.array(
        [[(low, high)[a][0], (low, high)[b][1], (low, high)[c][2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    )
    matrix = box_camera(np.array([0.0, 0.6, 0.8]), low, high)
    seen = corners @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.abs(seen).max() <= 1 + 1e-9
    nearer = matrix[:3, :3] @ (0.0, 0.6, 0.8)
    assert nearer[2] < 0  # what is nearer to the light has less depth


def test_hands_come_into_the_picture():
    world = np.zeros((3, COUNT, 3))
    world[..., 1] = 6
    for part, x in zip(HANDS.values(), (9.0, -5.0), strict=True):
        world[:, part] = (x, 2.5, 0)
    wider = with_hands(CAMERA, world)
    flat, _ = wider.project(world[:, HANDS["left"]])
    assert CAMERA.project(world[:, HANDS["left"]])[0][..., 0].max() > 128 > flat[..., 0].max()
    assert with_hands(CAMERA, np.where(np.arange(3) == 0, 0.1 * world, world)) == replace(CAMERA)


def test_nearest_place_on_triangles():
    triangles = np.array([[(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(5, 5, 5), (6, 5, 5), (5, 6, 5)]], float)
    chosen, shares = nearest_on(np.array([(0.2, 0.3, 1.0), (2, -1, 0), (1, 1, 0), (5.1, 5.1, 9)]), triangles)
    assert chosen.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(shares[:3], [(0.5, 0.2, 0.3), (0, 1, 0), (0, 0.5, 0.5)], atol=1e-12)
    np.testing.assert_allclose(
        mirrored(np.array([(1.0, 2, 3), (-1.2, 2, 3), (0.1, 5, 5)])), [(1.1, 2, 3), (-1.1, 2, 3), (0, 5, 5)]
    )


def test_stored_face_mesh():
    vertices, shares = attachments()
    assert vertices.shape == shares.shape == (SURFACE, 3)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    assert (shares > -1e-5).all() and vertices.min() >= 0
    # The two lips touch at rest and must not share places, or they could not open.
    upper, lower = (set(vertices[list(rim[2:-2])].ravel()) for rim in (LIPS_INNER_UPPER, LIPS_INNER_LOWER))
    assert not upper & lower


def test_looks_vary_and_repeat():
    looks = [draw_look(np.random.default_rng(seed)) for seed in range(60)]
    assert looks[7] == draw_look(np.random.default_rng(7))
    assert len({look.outfit for look in looks}) >= 8 and len({look.hair for look in looks}) >= 5
    assert set(Counter(look.units for look in looks)) == {"caucasian", "asian", "african"}
    light = [np.mean(look.skin) for look in looks]
    assert min(light) < 0.08 and max(light) > 0.5
    for look in looks:
        macro = [v for name, v in look.targets.items() if name.startswith("macrodetails/universal")]
        assert sum(macro) == pytest.approx(1, abs=0.1)  # small parts are left out
    np.testing.assert_allclose(linear((255, 0, 188)), (1, 0, 0.503), atol=1e-3)


def test_backdrops_repeat_and_differ():
    pictures = [draw_backdrop(np.random.default_rng(seed), (48, 64)) for seed in (0, 0, 1, 4, 5)]
    assert pictures[0].shape == (48, 64, 3) and (pictures[0] == pictures[1]).all()
    assert all(np.abs(pictures[0].astype(int) - other).mean() > 3 for other in pictures[2:])


def test_speech_is_cut_where_somebody_speaks(babble):
    waveform = np.concatenate([np.zeros(64000, np.float32), babble(3.0), np.zeros(64000, np.float32)])
    for seed in range(8):
        same, start = cut_speech(waveform, 50, np.random.default_rng(seed))
        assert len(same) == len(waveform) and 4 - 1.2 <= start / 25 <= 7 - 0.8
    padded, start = cut_speech(waveform[:16000] + 0.1, 50, np.random.default_rng(0))
    assert len(padded) == 32000 and start == 0
    with pytest.raises(ValueError, match="no sound"):
        cut_speech(np.zeros(0, np.float32), 50, np.random.default_rng(0))


def test_arms_are_turned_in_the_plane_of_the_picture():
    """Wrists swing outward and up far, inward little; depth and everything beside the arms stay."""
    skeleton = Skeleton.home()
    still = Motion(25.0, skeleton, skeleton.rest_rotations(200), np.zeros((200, 3), np.float32))
    turned = with_turned_arms(still, (0.5, 0.0, 0.0), np.random.default_rng(0))
    before, after = (skeleton.forward_kinematics(m.rotations, m.root_position)[0] for m in (still, turned))
    for side, outward in (("Left", 1), ("Right", -1)):
        shoulder, wrist = skeleton.index(side + "Arm"), skeleton.index(side + "Hand")
        way = after[:, wrist] - after[:, shoulder]
        angle = np.arctan2(way[:, 1], outward * way[:, 0])
        assert 0.4 < angle.max() < 0.5 + 0.01 and -0.2 - 0.01 < angle.min() < -0.1
        assert len(np.unique(angle.round(4))) > 150  # each frame otherwise
    np.testing.assert_allclose(after[..., 2], before[..., 2], atol=1e-4)
    head = skeleton.index("Head")
    np.testing.assert_allclose(after[:, head], before[:, head], atol=1e-4)


def test_settings():
    assert [split_of(n, 4) for n in range(5)] == ["train", "train", "train", "val", "train"]
    assert split_of(3, 0) == "train"
    for wrong, said in (
        ({"people": 0}, "at least 1"),
        ({"seconds": 9.0}, "seconds must be"), ({"size": (500, 512)}, "multiples of 64"),
        ({"liveliness": (1.0, 3.0)}, "liveliness"), ({"seed": -1}, "seed"), ({"oversample": 0.5}, "oversample"),
        ({"arm_turns": (0.2, 4.0, 0.0)}, "arm_turns"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            PeopleConfig(**wrong)
