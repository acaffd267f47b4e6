"""Pictures to latents and back, with one face for AutoencoderKL and AutoencoderTiny, in chunks of bounded memory.

Letters: N images, H W image size, C h w latent channels and size, p side of a patch. Images are [0, 1] here and
[-1, 1] inside the VAE. A VAE of 3·p² image channels takes pictures as patches of p × p pixels (unshuffled): none of
its layers works at full size, which on a CPU is most of the time.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from avatar.models.loading import name_list

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny
AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
CHUNK = 4  # images at a time: 2 GB of activations for SD's VAE at 512² and fp32


def load_autoencoder(name: str, path: str | os.PathLike[str], **options: Any) -> Autoencoder:
    """An autoencoder of class `name` from a folder or hub id: safetensors only, every tensor accounted for."""
    if name not in AUTOENCODERS:
        raise ValueError(f"the autoencoder's class must be one of {', '.join(AUTOENCODERS)}, got {name!r}")
    try:
        vae, info = AUTOENCODERS[name].from_pretrained(
            path, **{**options, "use_safetensors": True, "output_loading_info": True}
        )
    except OSError as error:
        raise ValueError(
            f"no {name} could be read from {str(path)!r}; expected config.json and safetensors weights; pickled "
            f"weights are refused, save them with `save_pretrained` first. ({error})"
        ) from error
    missing, foreign = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if missing or foreign:
        raise ValueError(
            f"the weights of {name} in {str(path)!r} do not fit its config.json: {len(missing)} missing "
            f"({name_list(missing)}), {len(foreign)} foreign ({name_list(foreign)}); load the folder as it was saved"
        )
    return vae


def tidy_config(folder: Path) -> None:
    """Take out of a saved autoencoder's config.json what diffusers derives itself and would warn of at every load."""
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings["_class_name"] == "AutoencoderTiny":
        settings.pop("block_out_channels", None)
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def spatial_factor(vae: Autoencoder) -> int:
    """Image pixels a latent cell, along one side."""
    return int(2 ** (len(vae.config.block_out_channels) - 1)) * patch_side(vae)


def latent_channels(vae: Autoencoder) -> int:
    return int(vae.config.latent_channels)


def patch_side(vae: Autoencoder) -> int:
    """Side of the square patch of pixels that is one place at the VAE's input and output; 1 for plain pictures."""
    side = math.isqrt(vae.config.in_channels // 3)
    if vae.config.in_channels != 3 * side**2 or vae.config.out_channels != vae.config.in_channels:
        raise ValueError(
            f"the VAE has {vae.config.in_channels} channels in and {vae.config.out_channels} out; expected 3, or 3·p² "
            "for patches of p × p pixels, on both sides"
        )
    return side


def patched(vae: Autoencoder, images: Tensor) -> Tensor:
    """Images (N, 3, H, W) as the VAE takes them, (N, 3·p², H/p, W/p)."""
    side = patch_side(vae)
    if side == 1:
        return images
    # channels last, or the convolutions would run in the slow layout that pixel_unshuffle leaves
    return F.pixel_unshuffle(images, side).contiguous(memory_format=torch.channels_last)


def unpatched(vae: Autoencoder, made: Tensor) -> Tensor:
    """What the VAE gives, (N, 3·p², H/p, W/p), as images (N, 3, H, W)."""
    side = patch_side(vae)
    return made if side == 1 else F.pixel_shuffle(made, side)


@torch.no_grad()
def encode(
    vae: Autoencoder,
    images: Tensor,  # (N, 3, H, W) in [0, 1]
    device: torch.device | None = None,  # where the VAE works, if it is offloaded in between; None: where it is
    chunk: int = CHUNK,
) -> Tensor:
    """Scaled latents (N, C, h, w), float32: the mean of the distribution where the VAE has one."""
    factor = spatial_factor(vae)
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % factor or images.shape[3] % factor:
        raise ValueError(
            f"images must be (N, 3, H, W), H and W multiples of {factor}, got {tuple(images.shape)}; crop them first"
        )
    shift, scale = _shift_and_scale(vae)
    latents = []
    for part in images.split(chunk):
        encoded = vae.encode(patched(vae, part.to(device or vae.device, vae.dtype) * 2 - 1))
        mean = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        latents.append((mean.float() - shift) * scale)
    return torch.cat(latents)


@torch.no_grad()
def decode(
    vae: Autoencoder,
    latents: Tensor,  # (N, C, h, w) scaled
    device: torch.device | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """Images (N, 3, H, W) in [0, 1], float32."""
    if latents.ndim != 4 or latents.shape[1] != latent_channels(vae):
        raise ValueError(f"latents must be (N, {latent_channels(vae)}, h, w), got {tuple(latents.shape)}")
    return torch.cat([decoded(vae, part.to(device or vae.device)).clamp(0, 1) for part in latents.split(chunk)])


def decoded(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Images (N, 3, H, W) of latents (N, C, h, w), float32, as they come: with gradients, and some outside [0, 1]."""
    shift, scale = _shift_and_scale(vae)
    return unpatched(vae, vae.decode((latents / scale + shift).to(vae.dtype)).sample).float() / 2 + 0.5


def decode_beside(
    vae: Autoencoder,
    latents: Tensor,  # (N, C, h, w) scaled
    known: tuple[Tensor, Tensor] | None,  # latents (N, C, h, w) of pictures (N, 3, H, W) that `latents` differ from
    device: torch.device | None = None,
    grey: Tensor | None = None,  # (N, 1, H, W) in [0, 1]: where the pictures keep their colour, too
) -> Tensor:
    """Pictures plus what decoding says was changed in them (N, 3, H, W), float32 on the CPU: what the autoencoder
    loses of them, grain and sharp edges, is kept. Without `known`, plain decoding.

    `grey` is for small lips, to which a small autoencoder gives another colour in each place of its grid.
    """
    made = decode(vae, latents, device).cpu()
    if known is None:
        return made
    change = made - decode(vae, known[0], device).cpu()
    if grey is not None:
        change = torch.lerp(change, change.mean(1, keepdim=True).expand_as(change), grey.float().cpu())
    return (known[1].float().cpu() + change).clamp(0, 1)


def doubt(confidence: Tensor, vae: Autoencoder) -> Tensor:
    """The U-Net's mask channel: 1 - confidence (N, 1, H, W), averaged over each latent cell, (N, 1, h, w)."""
    return 1 - F.avg_pool2d(confidence.float(), spatial_factor(vae))


def _shift_and_scale(vae: Autoencoder) -> tuple[float, float]:
    """What makes the VAE's latents zero mean and unit variance: scaled = (latents - shift) * scale."""
    return float(vae.config.get("shift_factor") or 0.0), float(vae.config.get("scaling_factor") or 1.0)
