"""Repair data: damage is where the confidence says, the same settings give the same data, trainers read it."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from avatar import latents
from avatar.data.shards import ShardFolder
from avatar.warp.prior import GeometricPrior
from pose.arm_turns import turned_arms
from train.avatar_windows import AvatarWindows, ConditionConfig, WindowShape
from train.repair import Work, find_work, main, make_piece, parse, settings_of
from train.repair_damage import changed, in_place_of, seen

PHOTO = "examples/presenter.png"
SIDE, VARIANTS = 192, 3


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    torch.manual_seed(0)
    widths = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    blocks = {"num_encoder_blocks": (0, 0, 0, 1), "num_decoder_blocks": (1, 0, 0, 0)}
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderTiny(**widths, **blocks, latent_channels=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(vae, tmp_path_factory):
    out = tmp_path_factory.mktemp("repair") / "out"
    given = [PHOTO, str(out), "--variants", str(VARIANTS), "--size", str(SIDE), "--vae", str(vae), "--workers", "1"]
    assert main(given) == 0
    return given, out


def test_a_clip_holds_the_photo_and_its_damage(made, vae):
    clip = ShardFolder(made[1]).clip(0)
    assert len(clip) == VARIANTS + 1 and clip.meta["repair"] == VARIANTS and clip.split == "val"
    prior, doubt = clip.extra["prior_latents"].astype(np.float32), clip.extra["doubt"].astype(np.float32)
    truth = clip.latents[0].astype(np.float32)
    # Of itself, the photo is exact; of the others, wrong mostly where it is doubted.
    assert np.abs(prior[0] - truth).max() < 0.02 and doubt[0].max() == 0
    for k in range(1, VARIANTS + 1):
        error = np.abs(prior[k] - truth).mean(0)
        unsure, sure = doubt[k, 0] > 0.5, doubt[k, 0] < 0.1
        assert unsure.mean() > 0.02 and sure.mean() > 0.3
        assert error[unsure].mean() > 2 * error[sure].mean()
    # The others are photos of their own: person moved, matte moved along.
    moved = np.linalg.norm(clip.points[1:] - clip.points[0], axis=-1).max(axis=1)
    assert (moved > 5).all()
    mattes = clip.mattes()
    assert all(0.5 < mattes[k].mean() / mattes[0].mean() < 1.5 and np.any(mattes[k] != mattes[0]) for k in (1, 2, 3))
    reloaded = latents.load_autoencoder("AutoencoderTiny", vae)
    again = latents.encode(reloaded, torch.tensor(clip.frames(0, 1)).permute(0, 3, 1, 2) / 255)
    assert float((again[0] - torch.from_numpy(truth)).abs().mean()) < 0.02


def test_trainers_learn_the_photo_from_the_others(made):
    shape = WindowShape(frames=1, latent_channels=4, crop_size=128, prior="cached")
    windows = AvatarWindows([ShardFolder(made[1])], "val", shape, ConditionConfig(), dropping=False)
    clip = windows.clip(0)
    seen_references = set()
    for seed in range(12):
        item = windows.draw(0, np.random.default_rng(seed))
        assert torch.equal(item["latents"][:, 0], torch.from_numpy(clip.latents[0]).float())
        own = [torch.equal(item["reference_latents"], torch.from_numpy(x).float()) for x in clip.latents]
        assert own.count(True) == 1 and not own[0]
        assert torch.equal(
            item["prior_latents"][:, 0], torch.from_numpy(clip.extra["prior_latents"][own.index(True)]).float()
        )
        seen_references.add(own.index(True))
    assert seen_references == {1, 2, 3}


def test_what_is_done_is_not_done_again_and_seeds_decide(made, capsys):
    given, out = made
    whole = (out / "val-000000.tar").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in (out / "work").iterdir()}
    assert main(given) == 0 and "0 of them new" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (out / "work").iterdir()} == before
    assert (out / "val-000000.tar").read_bytes() == whole


def test_known_pixels_limit_the_confidence():
    picture, detection = seen_photo()
    reference = detection.keypoints
    known = np.ones(picture.shape[:2], np.float32)
    known[: SIDE // 2] = 0.25
    parts = (picture, reference, detection.depth[0], detection.matte[0])
    still = GeometricPrior(*parts, known=known).render(reference).confidence[0, 0]
    assert float(still[: SIDE // 2].max()) <= 0.25 + 1e-5 and float(still[SIDE // 2 :].min()) == 1
    plain = GeometricPrior(*parts)
    white = plain.silhouette().render(reference).frames[0]
    inside = detection.matte[0] > 0.9
    assert float(white[0][torch.from_numpy(inside)].mean()) > 0.95 and float(white.std(dim=0).max()) == 0


def seen_photo():
    from pathlib import Path

    return seen(Path(PHOTO), SIDE)


def test_turned_arms_of_zero_are_the_same():
    points = np.random.default_rng(0).normal(size=(543, 2)).astype(np.float32)
    assert np.allclose(turned_arms(points, np.zeros((2, 3))), points, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--variants", "0"], "--variants and --copies must be at least 1"),
        (["--speech", "/nowhere.wav"], "no such recording"),
        (["--vae", "shipped:nothing"], "no weights"),
        (["--vae", "/nowhere"], "holds no autoencoder"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, changes, message):
    assert main([PHOTO, str(tmp_path / "out"), *changes]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error and not (tmp_path / "out").exists()


def test_a_picture_of_nobody_is_left_out(vae, tmp_path):
    Image.new("RGB", (256, 256), (90, 120, 90)).save(tmp_path / "grass.png")
    args = parse([str(tmp_path), str(tmp_path / "out"), "--vae", str(vae), "--size", "192"])
    work = Work(tmp_path / "grass.png", "train", tmp_path / "x.tar")
    why = make_piece(work, settings_of(args), tmp_path / "x.jpg")
    assert why and not (tmp_path / "x.tar").exists()


def test_copies_are_other_pictures_of_the_same_photo():
    picture = seen_photo()[0]
    first, second = changed(picture, 1), changed(picture, 2)
    assert np.array_equal(first, changed(picture, 1)) and first.shape != second.shape
    # The odd one is mirrored: its columns go with the photo's from right to left.
    columns = np.linspace(0, 1, 64)

    def profile(shown):
        means = shown.mean((0, 2))
        return np.interp(columns, np.linspace(0, 1, len(means)), means)

    plain = profile(picture)
    assert np.corrcoef(profile(first), plain[::-1])[0, 1] > np.corrcoef(profile(first), plain)[0, 1]
    assert np.corrcoef(profile(second), plain)[0, 1] > np.corrcoef(profile(second), plain[::-1])[0, 1]
    # Another photo is not changed by as much.
    assert changed(np.ascontiguousarray(picture[::-1]), 1).shape != first.shape


def test_a_person_before_another_place(tmp_path):
    """Whoever is in the photo stays, what is around is the other photo's; where somebody stood there is a guess."""
    picture, detection = seen_photo()
    other = np.full_like(picture, (200, 40, 40))
    person = detection.matte[0] > 0.5
    other[person] = picture[person]
    moved = in_place_of(picture, detection, other, detection)
    inside, outside = detection.matte[0] > 0.99, detection.matte[0] < 0.01
    assert np.abs(moved[inside].astype(int) - picture[inside]).mean() < 2
    assert np.abs(moved[outside].astype(int) - (200, 40, 40)).mean() < 12


def test_only_photos_that_are_learned_lend_their_background(tmp_path):
    for number, name in enumerate(("a", "b", "c", "kept")):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{name}.png")
    args = parse([str(tmp_path), str(tmp_path / "out"), "--copies", "4", "--held-out", "kept"])
    work = find_work(args)
    assert len({item.piece for item in work}) == len(work) == 3 * 4 + 1
    for item in work:
        assert (item.behind is None) == (item.copy < 2)
        assert item.behind is None or (item.behind != item.photo and item.behind.stem != "kept")
