"""Both kinds of autoencoder behave alike, in chunks or at once."""

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from avatar import latents


def build(kind: str):
    torch.manual_seed(0)
    if kind == "tiny":
        widths = (8, 8, 8, 8)
        return AutoencoderTiny(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
        ).eval()
    blocks = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    return AutoencoderKL(
        3, 3, *blocks, block_out_channels=(8, 8, 8, 8), norm_num_groups=4, scaling_factor=0.2, shift_factor=0.5
    ).eval()


@pytest.mark.parametrize("kind", ["tiny", "kl"])
def test_chunks_do_not_change_the_result(kind):
    vae, images = build(kind), torch.rand(5, 3, 64, 32)
    encoded = latents.encode(vae, images, chunk=2)
    assert encoded.shape == (5, latents.latent_channels(vae), 8, 4) and latents.spatial_factor(vae) == 8
    torch.testing.assert_close(encoded, latents.encode(vae, images, chunk=5), atol=1e-5, rtol=1e-4)
    decoded = latents.decode(vae, encoded, chunk=2)
    assert decoded.shape == images.shape and decoded.min() >= 0 and decoded.max() <= 1
    torch.testing.assert_close(decoded, latents.decode(vae, encoded, chunk=5), atol=1e-5, rtol=1e-4)


def test_scaling_is_diffusers_own():
    vae, images = build("kl"), torch.rand(1, 3, 64, 64)
    mean = vae.encode(images * 2 - 1).latent_dist.mean
    torch.testing.assert_close(latents.encode(vae, images), (mean - 0.5) * 0.2)
    tiny = build("tiny")
    torch.testing.assert_close(latents.encode(tiny, images), tiny.encode(images * 2 - 1).latents)


def test_half_precision_goes_in_and_out_as_float():
    vae = build("tiny").to(torch.bfloat16)
    encoded = latents.encode(vae, torch.rand(1, 3, 64, 64))
    assert encoded.dtype == latents.decode(vae, encoded).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vae: latents.encode(vae, torch.zeros(1, 3, 60, 64)), "multiples of 8"),
        (lambda vae: latents.decode(vae, torch.zeros(1, 3, 8, 8)), "latents must be"),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call(build("tiny"))


def test_a_saved_autoencoder_loads_without_a_warning(tmp_path, capfd):
    build("tiny").save_pretrained(tmp_path)
    latents.tidy_config(tmp_path)
    loaded = latents.load_autoencoder("AutoencoderTiny", tmp_path)
    assert latents.spatial_factor(loaded) == 8 and "block_out_channels" not in capfd.readouterr().err


def test_decoding_beside_known_pictures_keeps_their_grain():
    vae = build("tiny")
    grain = torch.rand(1, 3, 64, 64) * 0.1 + 0.45
    known = latents.encode(vae, grain)
    torch.testing.assert_close(latents.decode_beside(vae, known, (known, grain)), grain)
    changed = known.clone()
    changed[..., :4, :] += 1
    made = latents.decode_beside(vae, changed, (known, grain))
    assert torch.equal(latents.decode_beside(vae, changed, None), latents.decode(vae, changed))
    assert not torch.equal(made[:, :, :32], grain[:, :, :32])
    # Where colours are kept, all channels change alike.
    grey = torch.zeros(1, 1, 64, 64)
    grey[..., :16, :] = 1
    change = latents.decode_beside(vae, changed, (known, grain), grey=grey) - grain
    torch.testing.assert_close(change[:, 0, :16], change[:, 2, :16], atol=1e-5, rtol=0)
    torch.testing.assert_close(change[:, :, 16:], (made - grain)[:, :, 16:])
    assert change[:, :, :16].abs().max() > 1e-3
