"""Samples for the layer chooser: each layer of the prior at a frame's keypoints, and the frame as it truly is.

    python -m train.layer_samples OUT DATA... [--photos 2] [--frames 8] [--part K/N]

DATA: folders of train/repair.py (each moved picture is a photo, the true one the frame), train/prepare.py and
train/render.py (of each clip some frames are the photo, others what it is moved to). OUT gets a file a clip,
`<split>/<folder>_<clip>_<code>.safetensors`, with bytes of what `avatar.layer_choice.Candidates` holds and "truth"
(N, 3, h, w). What is there already is not made again, so several processes can share the work.

Letters: N samples of a clip, H W picture size, h w the network's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avatar import layer_choice
from avatar.data.clips import Clip
from avatar.data.shards import ShardFolder
from avatar.layer_choice import Candidates, candidates, working_size
from train.avatar_prior import code_digest, in_turn, parse_part, photo_prior, save_whole, spread_references

TOGETHER = 4  # frames rendered at a time


def code() -> str:
    """Eight letters that stand for everything a sample depends on beside its clip."""
    digest = code_digest()
    digest.update(Path(layer_choice.__file__).read_bytes())
    return digest.hexdigest()[:8]


def clip_samples(clip: Clip, photos: int, frames: int) -> Iterator[dict[str, Tensor]]:
    """Bytes of the candidates of some frames at a time, and the truth."""
    if "repair" in clip.meta:
        work = [(k, np.array([0])) for k in range(1, int(clip.meta["repair"]) + 1)]
    else:
        work = []
        for number, reference in enumerate(spread_references(clip, photos).tolist()):
            step = len(clip) / frames
            places = np.arange(frames) * step + number * step / photos
            work.append((reference, np.setdiff1d(places.round().astype(int) % len(clip), [reference])))
    size = working_size(clip.size)
    for reference, places in work:
        prior = photo_prior(clip, reference)
        for start in range(0, len(places), TOGETHER):
            part = places[start : start + TOGETHER]
            keypoints = clip.keypoints[part]
            made = candidates(*prior.render_layers(keypoints), keypoints)
            truth = np.stack([clip.frames(place, place + 1)[0] for place in part.tolist()])
            found = {field.name: _bytes(getattr(made, field.name)) for field in fields(Candidates)}
            shown = torch.from_numpy(truth).permute(0, 3, 1, 2) / 255
            yield found | {"truth": _bytes(functional.interpolate(shown, size, mode="area"))}


def _bytes(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255).round().byte().cpu()


def make(out: Path, folders: list[Path], photos: int, frames: int, number: int, count: int) -> Iterator[str]:
    """Make what is missing; yields the name of each file as it is ready."""
    recipe = code()
    jobs = [(f, shards, index) for f in folders for shards in [ShardFolder(f)] for index in range(len(shards.rows))]
    for folder, shards, index in in_turn(jobs, number, count):
        clip = shards.clip(index)
        path = out / clip.split / f"{folder.name}_{clip.key}_{recipe}.safetensors"
        if path.exists() or (clip.matte_video is None and "repair" not in clip.meta):
            continue
        parts = list(clip_samples(clip, photos, frames))
        save_whole({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, path)
        yield path.name


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", nargs="+", type=Path, help="folders of prepared clips")
    parser.add_argument("--photos", type=int, default=2, help="frames of a clip that are the photo in turn")
    parser.add_argument("--frames", type=int, default=8, help="that each of them is moved to")
    parser.add_argument("--part", default="0/1", help="this process of so many, K/N")
    args = parser.parse_args(argv)
    try:
        number, count = parse_part(args.part)
        if min(args.photos, args.frames) < 1:
            raise ValueError(f"--photos and --frames must be at least 1, got {args.photos} and {args.frames}")
        for done, name in enumerate(make(args.out, args.data, args.photos, args.frames, number, count), 1):
            print(f"{done}: {name}", flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
