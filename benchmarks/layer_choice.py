"""What do the prior's own layers hold? The best of them, chosen by an oracle, where the prior doubts itself.

    python benchmarks/layer_choice.py REPAIR [--variants 2] [--blocks 16 8 4 1]

REPAIR: what train/repair.py wrote; some variants of its validation photos are looked at. For each square block of
pixels the oracle takes what is nearest to the photo, in L1: the prior as it is, the background, the trunk, or one of
the four pieces of the arms, each alone and with its colours continued beyond its edge. What is left is the least error
that any model could reach which only chooses; what a network reaches is for training to show. A row a picture: mean L1
of 255 where confidence < 0.5, of the prior and of the choice by block size.

Letters: C candidates, H W picture size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avatar.data.clips import Clip
from avatar.data.shards import ShardFolder
from avatar.layer_choice import LAYERS, candidates, full_colours
from train.avatar_prior import photo_prior, spread_variants, unpacked

Floats = NDArray[np.float32]
UNSURE = 0.5  # confidence below which the prior doubts


def options(clip: Clip, variant: int) -> Floats:
    """(C, H, W, 3) in [0, 1]: the prior, and each layer of the moved picture `variant` at the photo's keypoints."""
    keypoints = clip.keypoints[slice(0, 1)]
    prior, pieces = photo_prior(clip, variant).render_layers(keypoints)
    seen = candidates(prior, pieces, keypoints)
    layers = (full_colours(piece, seen.colours[:, 1 + LAYERS.index(piece.name)]) for piece in pieces)
    return torch.cat([prior.frames, *layers]).permute(0, 2, 3, 1).numpy()


def chosen(error: Floats, unsure: NDArray[np.bool_], side: int) -> float:
    """Mean error (C, H, W) over `unsure` (H, W) pixels where each block of `side` pixels takes its best candidate."""
    count, height, width = error.shape
    blocks = (error * unsure).reshape(count, height // side, side, width // side, side).sum((2, 4))
    best = blocks.argmin(0).repeat(side, 0).repeat(side, 1)
    return float(np.take_along_axis(error, best[None], 0)[0][unsure].mean())


def rows(folder: Path, variants: int, sides: list[int]) -> Iterator[tuple[str, list[float]]]:
    """Name of each picture, and its errors: the prior's, then one a block size."""
    shards = ShardFolder(folder)
    for index in shards.select("val"):
        clip = shards.clip(index)
        if "repair" not in clip.meta:
            raise ValueError(f"{folder} has no repair clips; make some with train/repair.py")
        if any(length % side for side in sides for length in clip.size):
            raise ValueError(f"blocks of {sides} do not divide pictures of {clip.size}; give other --blocks")
        truth = clip.frames(0, 1)[0]
        for k in spread_variants(clip, variants):
            prior = unpacked(clip.extra, clip.size, k, k + 1)
            unsure = prior.confidence[0, 0].numpy() < UNSURE
            error = np.abs(options(clip, k) * 255 - truth).mean(-1)
            yield f"{clip.key}-{k}", [float(error[0][unsure].mean()), *(chosen(error, unsure, s) for s in sides)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repair", type=Path)
    parser.add_argument("--variants", type=int, default=2, help="of each photo")
    parser.add_argument("--blocks", type=int, nargs="+", default=[16, 8, 4, 1], help="sides in pixels")
    args = parser.parse_args(argv)
    print("| picture | prior | " + " | ".join(f"blocks of {side}" for side in args.blocks) + " |")
    print("|---" * (2 + len(args.blocks)) + "|")
    found = []
    try:
        for name, errors in rows(args.repair, args.variants, args.blocks):
            found.append(errors)
            print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in errors) + " |", flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not found:
        print(f"error: {args.repair} has no validation photos; give train/repair.py --held-out", file=sys.stderr)
        return 2
    mean = np.mean(found, axis=0)
    changes = (f"{value:.2f} ({value / mean[0] - 1:+.0%})" for value in mean[1:])
    print(f"| mean | {mean[0]:.2f} | " + " | ".join(changes) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
