"""Mouths that are left to sound: the mask, the photo's own at rest, the prior that is doubted there, the pipeline."""

import numpy as np
import pytest
import torch
from test_conditions import person
from test_pipeline import TINY, image, liven, reference, speech

from avatar import conditions
from avatar.build import load_pipeline
from avatar.composite import doubting_mouth
from avatar.sampling import Guidance
from avatar.still_mouth import STEADY, still_mouth
from avatar.warp.prior import Prior
from pose.draw import draw_body
from pose.keypoints import FACE, LIPS_OUTER_LOWER, LIPS_OUTER_UPPER, Keypoints

SIZE = (64, 64)
LIPS = [FACE.start + i for i in (*LIPS_OUTER_UPPER, *LIPS_OUTER_LOWER)]
JAW = [FACE.start + i for i in (172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397)]
EYES = [FACE.start + i for i in (33, 133, 159, 145, 263, 362, 386, 374)]


def talker(frames: int = 1, opening: float = 0.0, size: tuple[int, int] = SIZE) -> Keypoints:
    """A frontal face with eyes 20 px apart; `opening` moves lower lip and chin down, pixels."""
    keypoints = person(frames).resized(SIZE)
    points = keypoints.points
    points[:, EYES] = (32, 20)
    points[:, FACE.start + 33], points[:, FACE.start + 263], points[:, FACE.start + 2] = (22, 20), (42, 20), (32, 30)
    turn = np.linspace(-np.pi / 2, np.pi / 2, len(JAW))
    points[:, JAW] = np.stack([32 + 10 * np.sin(turn), 35 + 8 * np.cos(turn) + opening * np.cos(turn)], 1)
    points[:, LIPS] = (32, 35)
    points[:, LIPS[0]], points[:, LIPS[10]] = (26, 35), (38, 35)
    points[:, [FACE.start + i for i in LIPS_OUTER_LOWER[1:-1]]] = (32, 37 + opening)
    return keypoints.resized(size)


def covered(mask, keypoints, indices):
    x, y = np.moveaxis(keypoints.points[0, indices].astype(int), -1, 0)
    return mask[0, y, x]


@pytest.mark.parametrize("opening", [0.0, 4.0])
def test_mask_hides_lips_and_jaw_and_does_not_tell_how_far_they_are_open(opening):
    keypoints = talker(opening=opening, size=(256, 256))
    mask = conditions.mouth_mask(keypoints, (256, 256))
    assert covered(mask, keypoints, LIPS).all() and covered(mask, keypoints, JAW).all()
    assert not covered(mask, keypoints, EYES).any() and mask.mean() < 0.15
    assert (mask == conditions.mouth_mask(talker(size=(256, 256)), (256, 256))).all()


def test_mask_follows_the_head_and_covers_every_cell_that_is_touched():
    keypoints = talker(2)
    keypoints.points[1] += (8, 16)
    fine, cells = conditions.mouth_mask(keypoints, SIZE), conditions.mouth_mask(keypoints, (8, 8))
    assert (fine[1, 16:, 8:] == fine[0, :-16, :-8]).all() and (cells[1, 2:, 1:] == cells[0, :-2, :-1]).all()
    touched = fine.reshape(2, 8, 8, 8, 8).max((2, 4))
    assert (cells == touched).all() and set(np.unique(cells)) == {0, 1}
    with pytest.raises(ValueError, match="must divide"):
        conditions.mouth_mask(keypoints, (7, 8))


def test_nothing_is_hidden_of_a_face_that_is_not_seen():
    keypoints = talker()
    keypoints.confidence[:, FACE] = 0
    assert not conditions.mouth_mask(keypoints, SIZE).any()


def test_a_profile_and_a_raised_head_keep_a_mouth():
    plain = conditions.mouth_mask(talker(), SIZE).sum()
    turned, raised = talker(), talker()
    turned.points[:, FACE.start + 33] = (38, 20)  # eyes 4 px apart
    raised.points[:, FACE.start + 2] = (32, 23)  # the nose 3 px below the eyes
    for keypoints in (turned, raised):
        assert conditions.mouth_mask(keypoints, SIZE).sum() > 0.5 * plain


def test_drawn_bodies_do_not_tell_the_mouth():
    still, talking = talker(), talker(opening=6)
    assert (draw_body(still) == draw_body(talking)).all()


def mouthed(keypoints: Keypoints, value: float) -> Prior:
    """The photo as a sure prior whose mouth has one grey value."""
    mask = torch.from_numpy(conditions.mouth_mask(keypoints, SIZE))[:, None]
    pictures = torch.from_numpy(image()).permute(2, 0, 1).repeat(len(keypoints), 1, 1, 1) / 255
    return Prior(torch.lerp(pictures, torch.full_like(pictures, value), mask), torch.ones(len(keypoints), 1, *SIZE))


def test_the_mouth_alone_is_doubted():
    keypoints = talker(2)
    mask = conditions.mouth_mask(keypoints, SIZE)
    prior = mouthed(keypoints, 0.25)
    doubted = doubting_mouth(prior, mask)
    outside = torch.from_numpy(mask)[:, None] == 0
    assert torch.equal(doubted.frames, prior.frames) and (doubted.confidence[outside] == 1).all()
    assert doubted.confidence[:, 0, 35, 32].max() < 0.05
    unseen = doubting_mouth(prior, np.zeros_like(mask))
    assert torch.equal(unseen.confidence, prior.confidence)


def solid_face():
    """A talker whose face points have depths: the photo, and its depth (543,)."""
    photo, random = talker(size=(256, 256)), np.random.default_rng(3)
    photo.points[0, STEADY] += random.uniform(-12, 12, (len(STEADY), 2)).astype(np.float32)
    photo.points[0, [FACE.start + 33, FACE.start + 263]] = talker(size=(256, 256)).points[
        0, [FACE.start + 33, FACE.start + 263]
    ]
    return photo, random.uniform(-30, 30, photo.points.shape[1]).astype(np.float32)


def test_a_still_mouth_follows_the_head_in_depth_and_not_the_lips():
    photo, depth = solid_face()
    yaw, pitch, roll, scale = 0.3, -0.2, 0.15, 1.1
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    turn = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]) @ turn
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]) @ turn
    rigid = np.column_stack([photo.points[0], depth]) @ (scale * turn.T)[:, :2] + (5, -8)
    frames = photo[[0, 0]]
    frames.points[:] = rigid
    frames.points[:, LIPS] += (3, 9)  # the mouth opens askew
    frames.points[:, [FACE.start + 159, FACE.start + 386]] += (0, 2)  # and the eyes close
    frames.confidence[1, FACE] = 0
    kept = frames.points.copy()
    still = still_mouth(frames, photo, depth)
    np.testing.assert_allclose(still.points[0, LIPS], rigid[LIPS], atol=0.05)
    np.testing.assert_allclose(still.points[0, JAW], rigid[JAW], atol=0.05)
    above = [*range(FACE.start), FACE.start + 159, FACE.start + 386]
    assert (still.points[0, above] == kept[0, above]).all() and (still.points[1] == kept[1]).all()
    assert (frames.points == kept).all()
    unknown = talker(size=(256, 256))
    unknown.confidence[:, FACE] = 0
    assert (still_mouth(frames, unknown, depth).points == kept).all()
    with pytest.raises(ValueError, match="one reference frame and depth"):
        still_mouth(frames, frames, depth)


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    made = load_pipeline(TINY)
    liven(made.unet)
    made.set_progress_bar_config(disable=True)
    return made


def made(pipeline, keypoints, prior, **options):
    options = {"audio": speech(len(keypoints)), "steps": 1, "strength": 0.5, "guidance": Guidance(), **options}
    generator = torch.Generator().manual_seed(1)
    return pipeline(image(), reference(), keypoints=keypoints, prior=prior, generator=generator, **options).frames


@pytest.mark.parametrize("stride", [1, 2])
def test_sound_changes_the_mouth_that_is_left_to_it_and_nothing_else(pipeline, stride):
    keypoints = talker(5)
    inside = conditions.mouth_mask(keypoints, SIZE)[:, None] > 0
    prior = mouthed(keypoints, 0.4)  # sure of everything

    def change(mouth):
        first, second = (
            made(pipeline, keypoints, prior, frame_stride=stride, mouth=mouth, audio=speech(5, seed))
            for seed in (0, 1)
        )
        return (first - second).abs().amax(1, keepdim=True).numpy()

    assert change("prior").max() == 0
    said = change("sound")
    assert said[inside].max() > 1e-4 and said[~inside].max() == 0


def test_the_mouth_of_a_run_is_the_configs_unless_told(pipeline):
    keypoints = talker(4)
    prior = mouthed(keypoints, 0.3)
    plain, hidden = (made(pipeline, keypoints, prior, mouth=mouth) for mouth in ("prior", "sound"))
    assert torch.equal(made(pipeline, keypoints, prior), plain) and not torch.equal(plain, hidden)
    pipeline.register_to_config(mouth="sound")
    try:
        assert torch.equal(made(pipeline, keypoints, prior), hidden)
        silent = made(pipeline, keypoints, prior, audio=None)  # nothing says the mouth then
        assert torch.equal(silent, made(pipeline, keypoints, prior, audio=None, mouth="prior"))
    finally:
        pipeline.register_to_config(mouth="prior")


@pytest.mark.parametrize(
    "options,message",
    [({"mouth": "lips"}, "mouth must be one of prior, sound"), ({"mouth": "sound", "audio": None}, "pass audio")],
)
def test_what_cannot_say_a_mouth_is_refused(pipeline, options, message):
    keypoints = talker(4)
    with pytest.raises(ValueError, match=message):
        made(pipeline, keypoints, mouthed(keypoints, 0.3), **options)
