"""What there is to look at while the video stage trains: videos with sound, region masks, use of the codebooks.

Videos are made by the pipeline itself, so that they show what a user would get: the recording on the left, the prior
in the middle where the model has one, the model on the right, where mouths were hidden in training once with the
prior's mouth and once with that of the sound. Letters: F frames, H W image size, N codes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar import conditions
from avatar.data.clips import FPS, FRAME_SAMPLES, SAMPLE_RATE, Clip
from avatar.models.region import Codebook
from avatar.models.unet import REGIONS
from avatar.pipeline import AvatarPipeline
from avatar.video_io import VideoWriter
from train.avatar_prior import driving, photo_prior, usable_references

Image = NDArray[np.uint8]
BAR_HEIGHT = 64  # pixels of the codebook picture
BACKGROUND, BAR = 30, (90, 170, 240)


@dataclass(frozen=True)
class Example:
    """One clip to show, read when it is needed."""

    read: Callable[[int], Clip]
    index: int


def show_clip(
    pipeline: AvatarPipeline,
    clip: Clip,
    path: Path,
    seconds: float,
    mouths: Sequence[str] = ("prior",),  # one column each; "sound" where there is a prior and sound
    steps: int | None = None,
) -> Image:
    """Write the video of a clip and return the middle frame's picture (H, 2 W to 4 W, 3)."""
    frames = min(len(clip), round(seconds * FPS))
    reference = int(usable_references(clip)[0])
    window, one = slice(0, frames), slice(reference, reference + 1)
    image, keypoints = clip.frames(reference, reference + 1)[0].copy(), clip.keypoints
    prior = None
    if clip.matte_video is not None and pipeline.unet.config.in_channels > pipeline.unet.config.out_channels:
        photo = photo_prior(clip, reference)
        prior = photo.render(keypoints[window])
    sound = clip.waveform()[: frames * FRAME_SAMPLES] if clip.sound is not None else None
    options: dict[str, Any] = {} if prior is not None else {"strength": 1.0, "frame_stride": 1}
    columns = [clip.frames(0, frames)]
    columns += [_pictures(prior.frames)] if prior is not None else []
    for mouth in mouths if prior is not None and sound is not None else ("prior",):
        if mouth == "sound":
            prior = photo.render(driving(clip, reference, True)[window])
        made = pipeline(
            image, keypoints[one], audio=sound, keypoints=keypoints[window], prior=prior, steps=steps, mouth=mouth,
            generator=torch.Generator().manual_seed(0), **options,
        ).frames  # fmt: skip
        columns.append(_pictures(made))
    pictures = np.concatenate(columns, axis=2)
    with tempfile.TemporaryDirectory() as scratch:
        track = None
        if sound is not None:
            track = Path(scratch) / "sound.wav"
            soundfile.write(track, sound, SAMPLE_RATE)
        with VideoWriter(path, pictures.shape[1:3], FPS, frames, track) as writer:
            for picture in pictures:
                writer.write(picture)
    return pictures[frames // 2]


def show_examples(
    pipeline: AvatarPipeline,
    examples: Sequence[Example],
    folder: Path,
    name: str,
    seconds: float,
    mouths: Sequence[str] = ("prior",),
) -> dict[str, Image]:
    """A video of each example as FOLDER/NAME_<clip>.mp4; of the first also pictures, FOLDER/NAME_masks.png and so on.

    Returns the pictures.
    """
    pictures: dict[str, Image] = {}
    for number, example in enumerate(examples):
        clip = example.read(example.index)
        seen: list[Any] = []  # the U-Net's latest output
        hook = pipeline.unet.register_forward_hook(
            lambda unet, given, made, seen=seen: seen.__setitem__(slice(0), [made])
        )
        with CodeUse(pipeline.unet) as use:
            middle = show_clip(pipeline, clip, folder / f"{name}_{clip.key}.mp4", seconds, mouths)
        hook.remove()
        pictures[f"video/{clip.key}"] = middle
        if number == 0 and seen and seen[0].region_logits:
            frames = min(len(clip), round(seconds * FPS))
            length = pipeline.config.window * pipeline.config.frame_stride
            first = clip.keypoints[[(frames - 1) // length * length]]  # of the last window
            grid = tuple(seen[0].sample.shape[-2:])
            regions = torch.from_numpy(np.stack([conditions.region_mask(first, r, grid)[0] for r in REGIONS]))
            logits = {r: [x[0, 0, 0] for x in heads] for r, heads in seen[0].region_logits.items()}
            pictures["masks"] = mask_picture(regions, logits)
            pictures["codebooks"] = use.picture()
            for title in ("masks", "codebooks"):
                cv2.imwrite(str(folder / f"{name}_{title}.png"), pictures[title][..., ::-1])
    return pictures


def _pictures(frames: Tensor) -> Image:
    """(F, 3, H, W) in [0, 1] as (F, H, W, 3) uint8."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def mask_picture(regions: Tensor, logits: dict[str, list[Tensor]], scale: int = 4) -> Image:
    """What the mask heads say beside what they should, of one frame.

    `regions` (2, h, w): the boxes; `logits`: region -> list of (h', w'). A row a region: the boxes, then each head.
    """
    rows, size = [], (regions.shape[2] * scale, regions.shape[1] * scale)
    for number, heads in enumerate(logits.values()):
        masks = [regions[number].float().cpu().numpy(), *(x.float().sigmoid().cpu().numpy() for x in heads)]
        shown = [cv2.resize((m * 255).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for m in masks]
        rows.append(np.concatenate(shown, axis=1))
    return np.repeat(np.concatenate(rows)[..., None], 3, axis=2)


class CodeUse:
    """Within the block, how much of the attention each code of each codebook gets while a model runs."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.books = {name: part for name, part in model.named_modules() if isinstance(part, Codebook)}
        self.shares: dict[str, list[Tensor]] = {name: [] for name in self.books}  # of N numbers that sum to 1

    def __enter__(self) -> CodeUse:
        self._hooks = [
            book.register_forward_hook(lambda book, given, made, name=name: self._note(name, book, *given))
            for name, book in self.books.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def _note(self, name: str, book: Codebook, query: Tensor, heads: int) -> None:
        key = book.to_k(book.orthogonal().to(query.dtype)).unflatten(-1, (heads, -1)).float()  # N heads D
        asked = query.flatten(0, 1).unflatten(-1, (heads, -1)).float()  # Q heads D
        weights = torch.einsum("qhd,nhd->hqn", asked, key) / key.shape[-1] ** 0.5
        self.shares[name].append(weights.softmax(-1).mean((0, 1)).cpu())

    def picture(self) -> Image:
        """One row a codebook, one bar a code, its height the share over that of the most used."""
        rows = []
        used = {name: torch.stack(shares).mean(0) for name, shares in self.shares.items() if shares}
        width = max(len(share) for share in used.values())
        for share in used.values():
            row = np.full((BAR_HEIGHT + 4, 8 * width, 3), BACKGROUND, np.uint8)
            for code, value in enumerate((share / share.max()).tolist()):
                row[BAR_HEIGHT - round(value * BAR_HEIGHT) : BAR_HEIGHT, 8 * code : 8 * code + 6] = BAR
            rows.append(row)
        return np.concatenate(rows)

    def perplexity(self) -> dict[str, float]:
        """How many codes are in use, of each codebook: N if all are used alike."""
        used = {name: torch.stack(shares).mean(0) for name, shares in self.shares.items() if shares}
        return {name: float(torch.special.entr(share).sum().exp()) for name, share in used.items()}
