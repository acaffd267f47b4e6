"""Synthetic people who speak: rendered clips with exact keypoints, mattes, depth and speech, as prepared clips.

    python train/render.py ASSETS OUT --people 40 --seconds 4 --speech FOLDER --seed 0

ASSETS holds the CC0 human data of github.com/makehumancommunity: `makehuman/` (the application's data) and `base/`
(its clothes, hair and eyebrows). OUT gets shards and a manifest that train/avatar.py reads like those of
train/prepare.py. Run the same command again to go on; more --people add to what is there. See docs/people.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tarfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.people.performance import PeopleConfig

DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "people.yaml"
PARTS = "parts"


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line of what was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", metavar="ASSETS", type=Path, help="folder of the MakeHuman CC0 assets")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder for shards and work in progress")
    parser.add_argument("changes", metavar="key=value", nargs="*", help="settings, as audio=… size=[640,384]")
    parser.add_argument("--speech", type=Path, required=True, help="folder of recordings, searched below too")
    parser.add_argument("--people", type=int, help="how many people, one clip each (40)")
    parser.add_argument("--seconds", type=float, help="length of a clip, 1 to 5 (4)")
    parser.add_argument("--cycles", type=int, metavar="N", help="the first N by Blender's Cycles; needs bpy (0)")
    parser.add_argument("--seed", type=int, help="the same seed, the same people (0)")
    parser.add_argument("--processes", type=int, default=1, help="how many work at a time, about 0.5 GB each (1)")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="choices as YAML (configs/people.yaml)")
    args = parser.parse_intermixed_args(argv)
    changes = list(args.changes)
    given = {name: getattr(args, name) for name in ("people", "seconds", "cycles", "seed")}
    changes += [f"{name}={value}" for name, value in given.items() if value is not None]
    began = time.monotonic()
    try:
        from train.config import load_config
        from train.people.base import check_assets
        from train.people.cycles import check_bpy
        from train.people.performance import PeopleConfig
        from train.prepare import check_folders
        from train.prepare_pool import Pool

        config = load_config(PeopleConfig, args.config, changes)
        if config.cycles:
            check_bpy()
        check_assets(args.assets)
        sounds = find_speech(args.speech)
        check_folders(args.assets, args.output)
        with Pool(args.processes) as pool:
            counts, failures = render(args.assets.resolve(), args.speech.resolve(), sounds, args.output, config, pool)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for reason in failures[:5]:
        print(f"left out: {reason}", file=sys.stderr)
    said = ", ".join(f"{count} clips to {split}" for split, count in sorted(counts.items()))
    print(f"{said}; {len(failures)} left out; {time.monotonic() - began:.0f} s; {args.output}")
    return 0


def find_speech(folder: Path) -> list[str]:
    """Recordings in a folder and below, relative to it, in order."""
    from train.procedural import SOUNDS

    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}; give a folder of recordings with --speech")
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in SOUNDS)
    if not found:
        raise ValueError(f"{folder} holds no speech ({', '.join(SOUNDS)})")
    return found


def render(
    assets: Path, speech: Path, sounds: list[str], output: Path, config: PeopleConfig, pool: Any
) -> tuple[dict[str, int], list[str]]:
    """Render what is missing, then write all shards; returns clips of each split, and why people were left out."""
    import numpy as np

    from avatar.data.shards import ShardWriter
    from train.people.performance import VERSION, split_of
    from train.prepare import each
    from train.prepare_pool import Failure

    # A part is named by all that decides it, so that other settings do not meet its files.
    free = ("people", "val_every", "cycles", "cycles_samples")  # the last two are in the names of Cycles' parts
    settings = {name: value for name, value in asdict(config).items() if name not in free}
    settings |= {"version": VERSION, "sounds": sounds}
    name = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=6).hexdigest()
    parts = output / PARTS / name
    parts.mkdir(parents=True, exist_ok=True)
    paths = [
        parts / (f"{number:06d}-cycles{config.cycles_samples}.tar" if number < config.cycles else f"{number:06d}.tar")
        for number in range(config.people)
    ]
    tasks = []
    for number, path in enumerate(paths):
        sound = sounds[int(np.random.default_rng([config.seed, number, 1]).integers(len(sounds)))]
        tasks.append((render_part, (assets, speech, sound, number, config, path)))
    known = [True if path.exists() else None for path in paths]
    results = each(pool, "people", tasks, known)
    failures = [f"person {n}: {r.reason}" for n, r in enumerate(results) if isinstance(r, Failure)]
    if len(failures) == len(tasks):
        raise ValueError(f"nobody could be rendered; {failures[0]}")

    # Shards are written anew: half a second for forty people.
    for old in (*output.glob("train-*.tar"), *output.glob("val-*.tar")):
        old.unlink()
    counts: dict[str, int] = {}
    with ShardWriter(output) as writer:
        for number, result in enumerate(results):
            if isinstance(result, Failure):
                continue
            files = read_part(paths[number])
            meta = json.loads(files["json"])
            meta["split"] = split_of(number, config.val_every)
            files["json"] = json.dumps(meta, sort_keys=True).encode()
            writer.write_files(files, meta, latents=config.vae is not None, audio=config.audio is not None)
            counts[meta["split"]] = counts.get(meta["split"], 0) + 1
    return counts, failures


def render_part(assets: Path, speech: Path, sound: str, number: int, config: PeopleConfig, path: Path) -> bool:
    """Render one person into a file of their own; it appears when it is whole."""
    from avatar.data.shards import write_clip
    from train.people.performance import perform

    if path.exists():  # another run of the same command was quicker
        return True
    clip = perform(assets, speech, sound, number, config)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
        write_clip(tar, clip)
    os.replace(unfinished, path)
    return True


def read_part(path: Path) -> dict[str, bytes]:
    """Extension to content of a part."""
    files = {}
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            files[member.name.partition(".")[2]] = content.read()
    return files


if __name__ == "__main__":
    sys.exit(main())
