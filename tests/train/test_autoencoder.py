"""The autoencoder's trainer as a user runs it, on a dozen small pictures and a short video."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from prepared_clips import write_synthetic

from avatar import latents
from avatar.video_io import VideoWriter
from train import autoencoder_report
from train.autoencoder import AutoencoderConfig, build_autoencoder, edge_loss, main
from train.config import load_config
from train.pictures import RandomCrops, find_pictures, gather_pictures, read_pictures

CONFIG = "configs/autoencoder.yaml"
SMALL = [
    "vae.encoder_block_out_channels=[16,16,16]", "vae.decoder_block_out_channels=[16,16,16]", "vae.latent_channels=4",
    "vae.num_encoder_blocks=[0,0,1]", "vae.num_decoder_blocks=[1,0,0]", "data.crop=32", "data.validation_crop=64",
    "loop.batch_size=2", "loop.precision='no'", "loop.checkpoint_every=4", "loop.log_every=4",
]  # fmt: skip


def scene(seed: int) -> np.ndarray:
    """A smooth picture with edges, (96, 112, 3) uint8."""
    random = np.random.default_rng(seed)
    image = cv2.resize(random.integers(0, 255, (4, 5, 3)).astype(np.uint8), (112, 96))
    return cv2.circle(image, tuple(map(int, random.integers(20, 80, 2))), 18, (200, 40, 30), -1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(12):
        cv2.imwrite(str(folder / f"photo_{number:02}.png"), scene(number))
    with VideoWriter(folder / "clip.mp4", (96, 112), 25.0, 50) as writer:
        for number in range(50):
            writer.write(np.roll(scene(99), number, axis=1))
    (folder / "broken.jpg").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("run") / "out"
    given = [CONFIG, f"data.folders=[{folder}]", "data.held_out=[photo_03]", f"loop.output={output}", *SMALL]
    assert main([*given, "loop.steps=30"]) == 0
    return output


def test_latents_are_standard_and_pictures_come_back(trained, folder):
    vae = latents.load_autoencoder("AutoencoderTiny", trained / "best").eval()
    assert "block_out_channels" not in json.loads((trained / "best" / "config.json").read_text())
    assert latents.spatial_factor(vae) == 8 and latents.patch_side(vae) == 2
    files = find_pictures([folder], ["photo_03"])
    images = RandomCrops(read_pictures(files.train, 1.0, 1280), 32).sample(64, seed=5)
    encoded = latents.encode(vae, images)
    assert abs(float(encoded.mean())) < 0.15 and abs(float(encoded.std()) - 1) < 0.15
    losses = [json.loads(line) for line in (trained / "losses.jsonl").read_text().splitlines()]
    measured = [line["validation/psnr"] for line in losses if "validation/psnr" in line]
    assert measured[-1] > measured[0] + 2


def test_a_report_and_its_pictures(trained, capsys):
    assert autoencoder_report.main([str(trained), "--precision", "fp32"]) == 0
    rows = json.loads((trained / "report" / "report.json").read_text())
    assert rows["photo_03"]["psnr"] == rows["mean of photos"]["psnr"] > 6
    assert (trained / "report" / "photo_03.png").is_file() and "frames_a_second" in capsys.readouterr().out


def test_the_decoder_alone_leaves_latents_as_they_are(trained, folder, tmp_path):
    given = [CONFIG, f"data.folders=[{folder}]", f"start={trained / 'best'}", "decoder_only=true", *SMALL]
    assert main([*given, "loop.steps=4", f"loop.output={tmp_path / 'more'}"]) == 0
    old, new = (
        latents.load_autoencoder("AutoencoderTiny", path) for path in (trained / "best", tmp_path / "more/best")
    )
    image = torch.from_numpy(scene(1)[:96]).permute(2, 0, 1)[None] / 255
    assert torch.equal(latents.encode(old, image), latents.encode(new, image))
    assert not torch.equal(old.decoder.layers[0].weight, new.decoder.layers[0].weight)


def test_a_new_one_starts_with_unit_latents():
    config = load_config(AutoencoderConfig, CONFIG, ["data.folders=[x]", *SMALL])
    images = torch.rand(8, 3, 32, 32)
    vae = build_autoencoder(config, images)
    encoded = vae.encode(latents.patched(vae, images * 2 - 1)).latents
    torch.testing.assert_close(encoded.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=1e-3)


def test_a_crop_is_a_function_of_its_generator(folder):
    crops = RandomCrops(read_pictures(find_pictures([folder]).train, 1.0, 1280), 32, colour=0.2)
    one, two, other = (crops.draw(3, np.random.default_rng(seed))["images"] for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other) and one.shape == (3, 32, 32)


def test_held_out_files_by_name_or_every_tenth(folder):
    named = find_pictures([folder], ["photo_03", "clip"])
    assert {path.stem for path in named.val} == {"photo_03", "clip"} and len(named.train) == 12
    tenth = find_pictures([folder])
    assert len([path for path in tenth.val if path.suffix == ".png"]) == 1 and not set(tenth.val) & set(tenth.train)


def test_prepared_clips_are_pictures_too(folder, tmp_path):
    shards = write_synthetic(tmp_path / "shards", clips=4, latent_channels=4, audio=(2, 4, 64))
    alone = gather_pictures([shards], [], fps=5.0, longest=1280)
    assert len(alone["train"]) == 3 * 5 and len(alone["val"]) == 5  # 25 frames each, one clip of four for validation
    both = gather_pictures([shards, folder], ["photo_03"], fps=5.0, longest=48)
    assert len(both["train"]) > len(alone["train"]) and max(max(p.shape) for p in both["val"]) <= 48


def test_a_folder_of_one_photo_says_what_to_do(tmp_path):
    cv2.imwrite(str(tmp_path / "alone.png"), scene(0))
    with pytest.raises(ValueError, match="learn from: 1 photos .*alone.png.* at least two photos or two videos"):
        gather_pictures([tmp_path], [], fps=5.0, longest=64)


def test_blur_costs_edges():
    image = torch.rand(1, 3, 32, 32)
    blurred = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    assert edge_loss(image, image) == 0 and edge_loss(blurred, image) > edge_loss(image + 0.3, image)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], "data.folders is not set"),
        (["data.folders=[/nowhere]"], "no such folder"),
        (["data.folders=[FOLDER]", "data.crop=32", "vae.widths=3"], "arguments of diffusers.AutoencoderTiny"),
        (["data.folders=[FOLDER]", "data.crop=500"], "no picture has 500 pixels"),
        (["data.folders=[FOLDER]", "decoder_only=true"], "needs `start`"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, capsys, changes, message):
    changes = [change.replace("FOLDER", str(folder)) for change in changes]
    assert main([CONFIG, *changes, f"loop.output={tmp_path}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]
