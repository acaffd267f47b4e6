"""Pictures to learn from, out of any folder of photos and videos: which files are held out, and random crops.

Letters: P pictures, H W their size, S side of a crop. Everything is read once and kept as uint8 in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from avatar.data.clips import FPS
from avatar.data.shards import MANIFEST, ShardFolder
from avatar.sizes import resize
from pose.images import load_image, read_video

Picture: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB

PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v"}


@dataclass(frozen=True)
class PictureFiles:
    """The photos and videos below some folders, parted into those to learn from and those held out."""

    train: tuple[Path, ...]
    val: tuple[Path, ...]


def gather_pictures(
    folders: Sequence[str | Path], held_out: Sequence[str], fps: float, longest: int
) -> dict[str, list[Picture]]:
    """Pictures of the splits "train" and "val": of folders that train/prepare.py wrote by their manifest, of any other
    folder as `find_pictures` parts it."""
    shards = [folder for folder in folders if (Path(folder) / MANIFEST).is_file()]
    plain = [folder for folder in folders if folder not in shards]
    files = find_pictures(plain, held_out) if plain else PictureFiles((), ())
    found = {split: read_pictures(getattr(files, split), fps, longest) for split in ("train", "val")}
    for folder in shards:
        for clip in ShardFolder(folder):
            # A repair clip has one true picture, its first.
            frames = clip.frames(0, 1) if "repair" in clip.meta else clip.frames()[:: max(1, round(FPS / fps))]
            found[clip.split] += [_limited(frame, longest) for frame in frames]
    for split, pictures in found.items():
        if not pictures:
            held = ", ".join(path.name for path in files.val[:3]) or "none"
            raise ValueError(
                f"there is no picture to {'learn from' if split == 'train' else 'validate on'}: "
                f"{len(files.train) + len(files.val)} photos and videos were found, of which every tenth of a kind or "
                f"what data.held_out names is kept to validate on ({held}); give at least two photos or two videos"
            )
    return found


def find_pictures(folders: Sequence[str | Path], held_out: Sequence[str] = (), every: int = 10) -> PictureFiles:
    """Photos and videos below `folders`, in the order of their names.

    Held out are files whose stem is in `held_out`; if there is none of them, every `every`-th photo and every
    `every`-th video. ValueError where a folder is missing or nothing is found.
    """
    paths: list[Path] = []
    for folder in folders:
        if not Path(folder).exists():
            raise ValueError(f"no such folder: {folder}; check data.folders")
        inside = [Path(folder)] if Path(folder).is_file() else sorted(Path(folder).rglob("*"))
        paths += [path for path in inside if path.suffix.lower() in PHOTOS | VIDEOS]
    if not paths:
        raise ValueError(
            f"no photo or video in {', '.join(map(str, folders))}; photos are jpg or png, videos mp4 or mkv"
        )
    val = [path for path in paths if path.stem in held_out]
    if not val:
        val = [path for kind in (PHOTOS, VIDEOS) for path in [p for p in paths if p.suffix.lower() in kind][::every]]
    return PictureFiles(tuple(path for path in paths if path not in val), tuple(val))


def read_pictures(paths: Sequence[Path], fps: float, longest: int) -> list[Picture]:
    """Photos, and frames of videos at `fps`, no side longer than `longest`; says which files cannot be read."""
    from tqdm import tqdm

    pictures: list[Picture] = []
    for path in tqdm(paths, desc="pictures", disable=None):
        try:
            if path.suffix.lower() in VIDEOS:
                pictures += list(read_video(path, fps, longest))
                continue
            photo = load_image(path)
        except ValueError as error:
            print(f"left out {path.name}: {error}", file=sys.stderr)
            continue
        pictures.append(_limited(photo, longest))
    return pictures


def _limited(picture: Picture, longest: int) -> Picture:
    """The picture with its longer side at most `longest`."""
    return _scaled(picture, min(1.0, longest / max(picture.shape[:2])))


def _scaled(picture: Picture, scale: float) -> Picture:
    return resize(picture, (round(picture.shape[0] * scale), round(picture.shape[1] * scale)))


class RandomCrops(Dataset):
    """Crops of pictures at random scales, places, sides and colours; a `train.batches.RandomDataset`.

    Items {"images": (3, S, S) in [0, 1]}. A crop shows S to `shrink`·S pixels of its picture. Colours are multiplied
    by up to 1 ± `colour`, and in the share `swaps` of the crops red, green and blue change places.
    """

    def __init__(
        self, pictures: Sequence[Picture], size: int, shrink: float = 2.0, colour: float = 0.0, swaps: float = 0.0
    ) -> None:
        self.pictures = [picture for picture in pictures if min(picture.shape[:2]) >= size]
        if not self.pictures:
            raise ValueError(f"no picture has {size} pixels a side; lower data.crop or give larger pictures")
        self.size, self.shrink, self.colour, self.swaps = size, shrink, colour, swaps

    def __len__(self) -> int:
        return len(self.pictures)

    def draw(self, index: int, generator: np.random.Generator) -> dict[str, Tensor]:
        picture = self.pictures[index]
        height, width = picture.shape[:2]
        largest = min(self.shrink, min(height, width) / self.size)
        side = min(round(self.size * largest ** generator.random()), height, width)
        top, left = generator.integers(height - side + 1), generator.integers(width - side + 1)
        crop = picture[top : top + side, left : left + side]
        if side != self.size:
            crop = cv2.resize(crop, (self.size, self.size), interpolation=cv2.INTER_AREA)
        image = torch.from_numpy(np.ascontiguousarray(crop[:, :: generator.choice([1, -1])])).permute(2, 0, 1) / 255
        if self.colour:
            gain = 1 + self.colour * torch.from_numpy(generator.uniform(-1, 1, (3, 1, 1)).astype(np.float32))
            image = (image * gain).clamp(0, 1)
        if generator.random() < self.swaps:
            image = image[torch.from_numpy(generator.permutation(3))]
        return {"images": image}

    def sample(self, count: int, seed: int) -> Tensor:
        """`count` crops, (count, 3, S, S), of pictures in turn."""
        generator = np.random.default_rng(seed)
        return torch.stack([self.draw(index % len(self), generator)["images"] for index in range(count)])


class CentreCrops(Dataset):
    """The middle of each picture, (3, S, S) in [0, 1]; larger pictures are first made `short` pixels on their shorter
    side, so that a validation picture is seen at the size at which the model works."""

    def __init__(self, pictures: Sequence[Picture], size: int, short: int) -> None:
        self.pictures = [
            _scaled(picture, min(1.0, short / min(picture.shape[:2])))
            for picture in pictures
            if min(picture.shape[:2]) >= size
        ]
        self.size = size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        picture = self.pictures[index]
        top, left = ((side - self.size) // 2 for side in picture.shape[:2])
        crop = picture[top : top + self.size, left : left + self.size]
        return {"images": torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1) / 255}
