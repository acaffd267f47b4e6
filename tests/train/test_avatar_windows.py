"""Samples of the video stage: what belongs together, what is dropped how often, priors kept and rendered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prepared_clips import synthetic_clip, write_synthetic

from avatar import conditions, latents
from avatar.build import load_pipeline
from avatar.data.shards import ShardFolder, ShardWriter
from pose.keypoints import FACE
from train.avatar_prior import PriorCache, main, render_prior
from train.avatar_windows import AvatarWindows, ConditionConfig, WindowShape, spoiled

TINY = Path(__file__).resolve().parents[2] / "configs" / "model_tiny.yaml"
SHAPE = WindowShape(4, 2, 4, 8, 16, (5, 4, 64), heatmaps=True, spacings=(1, 2))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Clips whose latents, clarity and sound say their own frame number."""
    folder = tmp_path_factory.mktemp("numbered")
    with ShardWriter(folder) as writer:
        for number in range(3):
            clip = synthetic_clip(number, frames=25, latent_channels=4, audio=(2, 4, 64))
            at = np.arange(25, dtype=np.float32)
            states = np.broadcast_to(np.arange(-2, 27, dtype=np.float16)[:, None, None], (29, 4, 64))
            writer.write(
                replace(
                    clip,
                    latents=np.broadcast_to(at[:, None, None, None], (25, 4, 8, 8)).astype(np.float16),
                    clarity=np.stack([at, at], 1) / 100 + 2,
                    audio_states=states,
                )
            )
        writer.write(synthetic_clip(9, split="val", latent_channels=4, audio=(2, 4, 64)))
    return ShardFolder(folder)


def windows(folder, shape=SHAPE, dropping=True, **drawn):
    return AvatarWindows([folder], "train", shape, ConditionConfig(**drawn), dropping=dropping)


def draws(data, count, index=0):
    return [data.draw(index % len(data), np.random.default_rng(seed)) for seed in range(count)]


def test_everything_of_a_window_is_of_the_same_frames(numbered):
    spacings, continued = set(), 0
    for item in draws(windows(numbered, dropping=False), 60):
        at = item["latents"][0, :, 0, 0].tolist()
        spacing = at[1] - at[0]
        spacings.add(spacing)
        assert at == [at[0] + k * spacing for k in range(4)] and at[0] >= 0 and at[-1] <= 24
        clarity = (item["clarity"][:, 0] * conditions.CLARITY_STD + conditions.CLARITY_MEAN - 2) * 100
        assert clarity.round().tolist() == at
        assert item["audio"].shape == (4, 5, 4, 64)
        assert item["audio"][:, 2, 0, 0].tolist() == at and item["audio"][1, :, 0, 0].tolist() == [
            at[1] + k for k in range(-2, 3)
        ]
        before = item["motion_latents"][0, :, 0, 0].tolist()
        if item["keep_motion"]:
            continued += 1
            assert before == [at[0] - 2 * spacing, at[0] - spacing]
        else:
            assert at[0] < 2 * spacing and before == [0, 0]
        assert item["pose"].shape == (3, 4, 64, 64) and item["regions"].shape == (2, 4, 8, 8)
        assert item["heatmaps"].shape == (42, 4, 8, 8) and item["joints"].shape == (4, 42)
    assert spacings == {1, 2} and continued > 40


def test_a_sample_is_a_function_of_its_generator(numbered):
    data = windows(numbered)
    a, b, c = (data.draw(1, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a[name], b[name]) or a[name].isnan().any() for name in a)
    assert not torch.equal(a["latents"], c["latents"]) or not torch.equal(
        a["reference_latents"], c["reference_latents"]
    )


def test_conditions_are_drawn_and_dropped_with_their_rates(numbered):
    shape = replace(SHAPE, heatmaps=False)
    items = draws(windows(numbered, shape, drop_reference=0.3, drop_audio=0.2, drop_both=0.1, drop_clarity=0.5), 300)
    rate = {
        name: np.mean([bool(item[name]) for item in items]) for name in ("keep_reference", "keep_audio", "keep_motion")
    }
    assert abs(rate["keep_reference"] - 0.63) < 0.07 and abs(rate["keep_audio"] - 0.72) < 0.07
    assert 0.5 < rate["keep_motion"] < 0.75
    assert abs(np.mean([bool(item["clarity"].isnan().all()) for item in items]) - 0.5) < 0.08
    kinds = np.bincount([int(item["kind"]) for item in items], minlength=4) / len(items)
    np.testing.assert_allclose(kinds, list(conditions.KIND_SHARES.values()), atol=0.07)
    for item in items[:40]:
        kind = conditions.KINDS[int(item["kind"])]
        still = all(torch.equal(item["pose"][:, 0], item["pose"][:, k]) for k in range(4))
        assert still == (kind in ("box", "none")) and bool(item["pose"].any()) == (kind != "none")
    whole = draws(windows(numbered, shape, dropping=False, drop_reference=0.99, drop_audio=0.99), 10)
    assert all(item["keep_reference"] and item["keep_audio"] for item in whole)
    never = draws(windows(numbered, shape, dropping=False, drop_reference=1.0), 3)
    assert not any(item["keep_reference"] for item in never)


def test_pictures_are_given_where_no_latents_were_prepared(tmp_path):
    folder = ShardFolder(write_synthetic(tmp_path, clips=4, audio=(2, 4, 64)))
    item = windows(folder).draw(0, np.random.default_rng(0))
    assert item["frames"].shape == (3, 4, 64, 64) and item["frames"].dtype == torch.uint8
    assert item["reference"].shape == (3, 64, 64) and item["motion_frames"].shape == (3, 2, 64, 64)
    clip, single = folder.clip(0), replace(SHAPE, frames=1, motion_frames=0, audio=None, crop_size=32, spacings=(1,))
    item = windows(folder, single).draw(0, np.random.default_rng(0))
    pictures = clip.frames()
    assert any((item["frames"][:, 0].numpy() == picture.transpose(2, 0, 1)).all() for picture in pictures)
    assert item["crops"].shape == (3, 3, 32, 32) and "audio" not in item  # cut anew: the prepared ones are of 16


def test_what_does_not_fit_is_said(numbered, tmp_path):
    with pytest.raises(ValueError, match="no train clip of at least 99 frames"):
        windows(numbered, replace(SHAPE, frames=99))
    with pytest.raises(ValueError, match="audio states .5, 4, 64. and the model's audio encoder takes .5, 12, 768."):
        windows(numbered, replace(SHAPE, audio=(5, 12, 768))).draw(0, np.random.default_rng(0))
    silent = ShardFolder(write_synthetic(tmp_path, clips=4, latent_channels=4))
    with pytest.raises(ValueError, match="has sound but no audio states"):
        windows(silent)
    with pytest.raises(ValueError, match="drop_audio must be 0 to 1"):
        ConditionConfig(drop_audio=2)
    with pytest.raises(ValueError, match="hide_mouth must be 0 to 1"):
        ConditionConfig(hide_mouth=1.5)


def test_cached_priors_are_the_rendered_ones(tmp_path):
    folder = ShardFolder(write_synthetic(tmp_path / "data", clips=4, frames=25, latent_channels=4, audio=(2, 4, 64)))
    torch.manual_seed(0)
    vae = load_pipeline(TINY).vae
    cache = PriorCache(tmp_path / "prior", vae, references=2)
    shape = replace(SHAPE, prior="cached")
    data = AvatarWindows([folder], "train", shape, ConditionConfig(drop_prior=0.0), cache)
    with pytest.raises(ValueError, match="is not in"):
        data.draw(0, np.random.default_rng(0))
    assert list(cache.fill([lambda: data.clip(0)], vae, torch.device("cpu"))) == [data.clip(0).key]
    files = {path: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    list(cache.fill([lambda: data.clip(0)] * 2, vae, torch.device("cpu"), 1, 2))
    assert len(files) == 2 and {path: path.stat().st_mtime_ns for path in cache.folder.iterdir()} == files
    clip = data.clip(0)
    reference, places = int(cache.references(clip)[1]), np.array([3, 5, 7])
    known, doubt = cache.read(clip, reference, places)
    prior = render_prior(clip, reference, places)
    made = latents.encode(vae, prior.frames)
    assert (known - made).abs().mean() < 0.2 * made.std()  # kept as video, near lossless
    torch.testing.assert_close(doubt, latents.doubt(prior.confidence, vae), atol=0.03, rtol=0)
    item = data.draw(0, np.random.default_rng(0))
    assert item["keep_prior"] and item["prior_latents"].shape == (4, 4, 8, 8) and item["doubt"].shape == (1, 4, 8, 8)
    # Mouths at rest are kept beside them, and nothing is made again.
    resting = PriorCache(tmp_path / "prior", vae, references=2, still=True)
    list(resting.fill([lambda: data.clip(0)], vae, torch.device("cpu")))
    now = {path: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    assert len(now) == 4 and {path: now[path] for path in files} == files
    talking = replace(clip, meta=clip.meta | {"key": "talking"}, points=clip.points.copy())
    low = clip.points[0, FACE, 1] > np.quantile(clip.points[0, FACE, 1], 0.8)
    talking.points[5, FACE][low] += 9
    list(resting.fill([lambda: talking], vae, torch.device("cpu")))
    spoken, rest = (resting.read(talking, reference, places, still)[0] for still in (False, True))
    change = (spoken - rest).abs().amax((1, 2, 3))
    assert change[1] > 3 * max(change[0], change[2])
    # Mouths are hidden of the clips that have sound, at their rate, and where they are in each frame.
    data.drawn, data.cache = ConditionConfig(hide_mouth=0.5), resting
    items = [data.draw(0, np.random.default_rng(seed)) for seed in range(80)]
    hidden = [item["mouth"] for item in items if item["mouth"].any()]
    assert 25 < len(hidden) < 55 and hidden[0].shape == (1, 4, 8, 8) and set(hidden[0].unique().tolist()) == {0, 1}
    assert not item["mouth"].any()  # the rate is 0 unless told
    silent = replace(clip, sound=None, audio_states=None, meta=clip.meta | {"sound": False})
    for rest in (silent, replace(clip, meta=clip.meta | {"repair": 3})):
        data.clip = lambda index, rest=rest: rest
        data._prior = lambda *_: {}
        assert not any(data.draw(0, np.random.default_rng(seed))["mouth"].any() for seed in range(10))
    data = AvatarWindows([folder], "train", shape, ConditionConfig(drop_prior=0.0), cache)
    # Another autoencoder's priors are others, but nothing is moved again.
    torch.manual_seed(1)
    vae = load_pipeline(TINY).vae
    other = PriorCache(tmp_path / "prior", vae, 2)
    assert other.folder != cache.folder and other.pictures == cache.pictures
    pictures = {path: path.stat().st_mtime_ns for path in cache.pictures.iterdir()}
    list(other.fill([lambda: data.clip(0)], vae, torch.device("cpu")))
    assert len(pictures) == 8 and len(list(other.folder.iterdir())) == 2
    assert {path: path.stat().st_mtime_ns for path in cache.pictures.iterdir()} == pictures


def test_pictures_of_priors_are_made_beforehand(tmp_path, capsys):
    write_synthetic(tmp_path / "data", clips=2, frames=25)
    assert main([str(tmp_path / "data"), "--photos", "1", "--folder", str(tmp_path / "prior")]) == 0
    assert len(list((tmp_path / "prior" / "pictures").rglob("*.safetensors"))) == 2
    # With them, latents of the clips themselves are kept too when the shards bring none.
    vae, folder = load_pipeline(TINY).vae, ShardFolder(tmp_path / "data")
    cache = PriorCache(tmp_path / "prior", vae, 1)
    list(cache.fill([lambda: folder.clip(0)], vae, torch.device("cpu")))
    clip, places = folder.clip(0), np.array([2, 9])
    made = latents.encode(vae, torch.from_numpy(clip.frames()[places]).permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(cache.own_latents(clip, places), made, atol=5e-3, rtol=1e-2)
    assert main([str(tmp_path / "data"), "--part", "2/2"]) == 2 and "--part" in capsys.readouterr().err


def test_a_part_of_the_picture_lies_where_the_prior_is_in_doubt(tmp_path):
    clips = [synthetic_clip(n, size=(128, 192), latent_channels=4) for n in range(2)]
    doubt = np.zeros((4, 1, 16, 24), np.float16)
    doubt[1:, :, 4:6, 20:22] = 1
    with ShardWriter(tmp_path) as writer:
        for number, clip in enumerate(clips):
            places = np.arange(16 * 24).reshape(16, 24).astype(np.float16)
            own = np.broadcast_to(places, (25, 4, 16, 24)) + np.arange(25)[:, None, None, None] * 1000
            extra = {"prior_latents": np.broadcast_to(places, (4, 4, 16, 24)), "doubt": doubt}
            meta = {**clip.meta, "repair": 3, "split": "train", "key": f"k{number}"}
            writer.write(replace(clip, meta=meta, latents=own.astype(np.float16), extra=extra))
    shape = WindowShape(3, 0, 4, 8, 16, prior="cached", apart=True, crop=8)
    data = windows(ShardFolder(tmp_path), shape)
    assert set(data.groups) == {(8, 8)}
    found = 0
    for item in draws(data, 30):
        own, prior = item["latents"][0], item["prior_latents"][0]
        assert own.shape == (3, 8, 8) and torch.equal(own, prior)  # cut alike; the truth is frame 0
        y, x = divmod(int(own[0, 0, 0]), 24)
        assert item["pose"].shape == (3, 3, 64, 64) and item["reference_pose"].shape == (3, 1, 64, 64)
        assert item["regions"].shape == (2, 3, 8, 8) and item["crops"].shape == (3, 3, 16, 16)
        wanted = conditions.region_mask(data.clip(0).keypoints[[0]], "face", (16, 24))[0, y : y + 8, x : x + 8]
        assert torch.equal(item["regions"][0, 0], torch.from_numpy(wanted))
        found += bool(item["doubt"].max() == 1)
    assert found > 20
    with pytest.raises(ValueError, match="crop must be a multiple of 8"):
        windows(ShardFolder(tmp_path), replace(shape, crop=24))


def test_spoiled_priors_admit_it():
    """What is wrong more is doubted, shows something else of the same picture, and everything else is as it was."""
    prior, doubt = torch.randn(4, 2, 32, 32), torch.rand(1, 2, 32, 32) * 0.5
    changed = 0
    for seed in range(8):
        wrong, admitted = spoiled(prior, doubt, np.random.default_rng(seed))
        touched = (wrong != prior).any(0, keepdim=True)
        assert torch.equal(admitted[touched], torch.ones(int(touched.sum())))
        assert torch.equal(admitted[admitted < 1], doubt[admitted < 1])
        assert torch.isin(wrong, prior).all()
        changed += int(touched.sum())
    assert 0.03 < changed / (8 * 2 * 32 * 32) < 0.6
