"""Self-supervised repair data for the geometric prior: photos moved away and back, with what that damages.

    python train/repair.py PHOTOS OUT --variants 12 --copies 4
    accelerate launch train/avatar.py configs/avatar_stage1.yaml data.folders=[OUT,CLIPS] data.prior=cached …

PHOTOS is any folder of photos; of videos frames are taken. Each photo A is moved to random poses B (arms, hands, head,
mouth, lids). Each B is then taken for a photo of its own, cut into layers anew, and moved back to the pose of A. That
is A with the damage that the prior does at inference, seams, stretched sleeves, guessed cloth and background, and a
confidence; the truth is A itself. Of a photo to learn from there may be copies, mirrored or not, nearer and in other
colours (`train.repair_damage.changed`), from the second on also before the background of another such photo, each with
poses of its own. (The other kind, a frame of a video moved to the
keypoints of another, needs no files of its own: train/avatar.py makes it of any prepared clip.)

OUT gets shards of clips as train/prepare.py writes them, one clip a photo: frame 0 is A, frames 1 to V are the B;
`extra` has the prior of A from each B: "prior_video" and "confidence_video" (`train.avatar_prior.packed`),
"prior_latents" (V + 1, C, h, w) and "doubt" (V + 1, 1, h, w); meta "repair" is V. In OUT, `sheets` shows A, B, the
damaged A and its confidence; `work` keeps the pictures that are done already. Latents are encoded last, from the
pictures: the same command with another --vae does only that again.

Letters: V variants, F = V + 1 frames, C h w latents, H W picture size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avatar.data.clips import Clip

RECIPE = 3  # goes up when the same settings would give other data
SPEECH = Path(__file__).resolve().parents[1] / "examples" / "speech.wav"
OTHER_PLACES_FROM = 2  # number of the first copy that stands before another photo's background; ours
SPLITS = {"train": "train", "val": "val"}


@dataclass(frozen=True)
class RepairSettings:
    """What decides the pictures beside the photo itself."""

    variants: int
    seed: int
    side: int  # square root of the pictures' area
    speech: str  # recording whose prosody moves the photos


@dataclass(frozen=True)
class Work:
    """One clip to make: a photo or a copy of it."""

    photo: Path
    split: str
    piece: Path  # the file that holds it when it is done
    copy: int = 0
    behind: Path | None = None  # the photo whose background it gets, None for its own


def find_work(args: argparse.Namespace) -> list[Work]:
    """Every photo and every copy, in the order of their numbers and names."""
    from train.pictures import PHOTOS, find_pictures

    settings = settings_of(args)
    files = find_pictures([args.photos], args.held_out)
    common = json.dumps({**asdict(settings), "speech": "", "recipe": RECIPE})  # contents count, not where they lie
    common += hashlib.sha256(Path(settings.speech).read_bytes()).hexdigest()
    digests = {}
    for split in SPLITS:
        for path in getattr(files, split):
            place = common + split + os.path.relpath(path, args.photos)
            digests[path] = hashlib.sha256(place.encode() + path.read_bytes()).hexdigest()[:12]
    work = []
    for split in SPLITS:
        for path in getattr(files, split):
            key = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in path.stem)
            others = [other for other in files.train if other != path and other.suffix.lower() in PHOTOS]
            for copy in range(args.copies if split == "train" else 1):
                name = f"{key}-{digests[path]}" + (f"-{copy}" if copy else "")
                behind = None
                if copy >= OTHER_PLACES_FROM and others:  # more photos change the choice of few
                    behind = min(others, key=lambda other: zlib.crc32(f"{name} {digests[other]}".encode()))  # noqa: B023
                    name += f"-{digests[behind]}"
                work.append(Work(path, split, args.out / "work" / f"{name}.tar", copy, behind))
    return sorted(work, key=lambda item: (item.copy, str(item.photo)))


def settings_of(args: argparse.Namespace) -> RepairSettings:
    if min(args.variants, args.copies) < 1 or args.size < 64:
        raise ValueError(
            f"--variants and --copies must be at least 1 and --size at least 64, got {args.variants}, {args.copies} "
            f"and {args.size}"
        )
    if not Path(args.speech).is_file():
        raise ValueError(f"no such recording: {args.speech}; check --speech")
    return RepairSettings(args.variants, args.seed, args.size, str(args.speech))


def make_piece(work: Work, settings: RepairSettings, sheet: Path) -> str | None:
    """The clip of one photo into its file, a tar of its own; returns why it was left out, None if it was not."""
    import torch

    from avatar.data.shards import write_clip
    from train.repair_damage import damaged_clip

    torch.set_num_threads(1)  # processes share the cores
    try:
        clip, picture = damaged_clip(work.photo, work.split, work.piece.stem, settings, work.copy, work.behind)
    except ValueError as error:
        return str(error)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    picture.save(sheet, quality=90)
    part = work.piece.with_name(f".{work.piece.name}.part")
    with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
        write_clip(tar, clip)
    part.replace(work.piece)
    return None


def read_piece(piece: Path) -> Clip:
    """The clip that `make_piece` wrote."""
    from avatar.data.clips import Clip

    with tarfile.open(piece) as tar:
        files = {member.name.partition(".")[2]: tar.extractfile(member) for member in tar}
        return Clip.from_files({name: file.read() for name, file in files.items() if file is not None})


def make(args: argparse.Namespace) -> str:
    """Everything; returns a sentence that says what was made."""
    from tqdm import tqdm

    from avatar.build import located
    from avatar.data.shards import ShardWriter
    from train.prepare_networks import load_vae, vae_identity
    from train.repair_damage import with_latents

    vae_folder = located(args.vae)
    vae, name = load_vae(vae_folder), vae_identity(vae_folder)
    work, settings = find_work(args), settings_of(args)
    (args.out / "work").mkdir(parents=True, exist_ok=True)
    missing = [item for item in work if not item.piece.exists()]
    left_out: dict[str, str] = {}
    for path, why in tqdm(_done(missing, settings, args), total=len(missing), desc="photos", disable=None):
        if why is not None:
            left_out[path.name] = why
            print(f"left out {path.name}: {why}", file=sys.stderr)
    ready = [item for item in work if item.piece.exists()]
    if not ready:
        raise ValueError(f"no photo in {args.photos} could be used; the reasons are above")
    with ShardWriter(args.out) as writer:
        for item in tqdm(ready, desc="latents", disable=None):
            writer.write(with_latents(read_piece(item.piece), vae, name))
    return (
        f"{args.out}: {len(ready)} photos and copies with {settings.variants} variants each, "
        f"{len(missing) - len(left_out)} of them new, {len(left_out)} left out; look at {args.out / 'sheets'}"
    )


def _done(
    missing: list[Work], settings: RepairSettings, args: argparse.Namespace
) -> Iterator[tuple[Path, str | None]]:
    """(photo, why it was left out) as photos are done, by one process or several."""
    jobs = [(item, settings, args.out / "sheets" / f"{item.piece.stem}.jpg") for item in missing]
    if args.workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job[0].photo, make_piece(*job)
        return
    # A fresh process each: MediaPipe and OpenMP do not survive a fork.
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        yield from zip([item.photo for item in missing], pool.map(make_piece, *zip(*jobs, strict=True)), strict=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("photos", type=Path, help="folder of photos, or one photo")
    add("out", type=Path, help="folder for the shards")
    add("--variants", type=int, default=12, help="poses of each photo")
    add("--copies", type=int, default=1, help="of each photo to learn from: itself, mirrored, in other places, ...")
    add("--seed", type=int, default=0)
    add("--size", type=int, default=512, help="square root of the pictures' area")
    add("--held-out", nargs="*", default=[], help="names without suffix for validation; none: every tenth photo")
    add("--vae", default="shipped:autoencoder", help="folder of the autoencoder whose latents are kept")
    add("--speech", default=str(SPEECH), help="recording whose prosody moves the photos")
    add("--workers", type=int, default=2, help="processes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        print(make(args))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
