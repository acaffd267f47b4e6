"""The three descriptions build whole pipelines, and their mistakes are named."""

from pathlib import Path

import pytest
import torch
import yaml

from avatar import latents
from avatar.build import build_pipeline, fast_dtype, load_pipeline
from avatar.latents import load_autoencoder
from avatar.shipped import located

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("name", ["tiny", "default", "full"])
def test_descriptions_build(name):
    config = yaml.safe_load((CONFIGS / f"model_{name}.yaml").read_text())
    if name == "full":  # the parts that come from elsewhere, in their place random ones
        config["audio_encoder"] = {"front_end": "wav2vec2"}
        config["vae"] = yaml.safe_load((CONFIGS / "model_tiny.yaml").read_text())["vae"]
    elsewhere = "from" in config["audio_encoder"]  # transformers reads no weights onto meta
    with torch.device("cpu" if elsewhere else "meta"):
        pipeline = build_pipeline(config)
    assert pipeline.unet.config.in_channels == 2 * pipeline.vae.config.latent_channels + 1
    assert pipeline.audio_encoder.config.audio_dim == pipeline.unet.config.audio_dim
    assert not any(module.training for module in (pipeline.unet, pipeline.reference_net, pipeline.vae))


def test_weights_follow_the_seed():
    first, second = (
        (torch.manual_seed(seed), load_pipeline(CONFIGS / "model_tiny.yaml"))[1].unet.conv_in.weight for seed in (1, 1)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"unett": {}}, "did you mean 'unet'"),
        ({"unet": {"in_chanels": 4}}, "did you mean 'in_channels'"),
        ({"vae": {"class": "AsymmetricAutoencoderKL"}}, "vae class must be one of"),
        ({"scheduler": {"class": "Adam"}}, "not a diffusers scheduler"),
        ({"pipeline": {"window": 40}}, "32 positions"),
        ({"pipeline": {"window": 3, "motion_frames": 4}}, "motion frames come from one window"),
        ({"vae": {"latent_channels": 8}}, "8 latent channels and the U-Net 4"),
        ({"vae": {"from": "/nowhere"}}, "safetensors"),
    ],
)
def test_mistakes_are_named(config, message):
    tiny = yaml.safe_load((CONFIGS / "model_tiny.yaml").read_text())
    merged = {**tiny, **{name: {**tiny.get(name, {}), **part} for name, part in config.items()}}
    with pytest.raises(ValueError, match=message):
        build_pipeline(merged)


def test_missing_description():
    with pytest.raises(ValueError, match="no such model description"):
        load_pipeline("nowhere.yaml")


def test_the_autoencoder_ships_and_its_latents_are_standard():
    """The trained part of the default model gives a picture of all colours back; its latents are standard."""
    vae = load_autoencoder("AutoencoderTiny", located("shipped:autoencoder")).eval()
    assert latents.spatial_factor(vae) == 8 and latents.latent_channels(vae) == 16
    down, across = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 96), indexing="ij")
    image = torch.stack([down, across, 0.5 + 0.3 * torch.sin(6 * (down + across))])[None]
    encoded = latents.encode(vae, image)
    assert 0.3 < float(encoded.std()) < 2
    assert float((latents.decode(vae, encoded) - image).abs().mean()) < 0.06


def test_weights_that_do_not_ship_are_named():
    with pytest.raises(ValueError, match="it has .*autoencoder"):
        located("shipped:autoencodr")


def test_networks_run_in_what_the_processor_can_compute():
    """bfloat16 just where it is arithmetic and not emulation; GPUs always have it."""
    flags = Path("/proc/cpuinfo")
    if flags.is_file() and "flags" in flags.read_text():
        has = bool({"avx512_bf16", "amx_bf16"} & set(flags.read_text().split()))
        assert fast_dtype("cpu") is (torch.bfloat16 if has else torch.float32)
    assert fast_dtype("cuda") is torch.bfloat16
