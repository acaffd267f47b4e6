"""Prepare a folder of raw videos and photos for training: clips of one person each, with all that is computed once.

    python train/prepare.py RAW_DIR OUT_DIR [--config configs/prepare.yaml] [--processes 8] [key=value ...]

OUT_DIR gets tar shards, manifest.parquet, report.md and contact_sheet.jpg. The same command again does nothing, goes
on where it was stopped, or makes again what a changed setting touches. Settings: train/prepare_settings.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.prepare_cache import Work
    from train.prepare_media import Media
    from train.prepare_pool import Pool
    from train.prepare_settings import PrepareConfig
    from train.prepare_stages import Networks, Track

DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "prepare.yaml"


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line of what was refused."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="example: python train/prepare.py videos/ data/ --processes 8 audio=configs/model_default.yaml",
    )
    parser.add_argument("raw", metavar="RAW_DIR", type=Path, help="folder of videos and photos, and folders of them")
    parser.add_argument("output", metavar="OUT_DIR", type=Path, help="folder for shards, report and work in progress")
    parser.add_argument("changes", metavar="key=value", nargs="*", help="settings, as audio=… vae=… filter.face_px=60")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="choices as YAML (configs/prepare.yaml)")
    parser.add_argument("--processes", type=int, default=1, help="how many work at a time, about 1 GB each (1)")
    parser.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster instead: auto, local, or ray://HOST:10001")
    args = parser.parse_intermixed_args(argv)  # key=value may stand behind the options, too
    began = time.monotonic()
    try:
        from train.config import load_config
        from train.prepare_pool import Pool
        from train.prepare_settings import PrepareConfig

        config = load_config(PrepareConfig, args.config, args.changes)
        config = replace(config, audio=existing(config.audio), vae=existing(config.vae))
        check_folders(args.raw, args.output)
        with Pool(args.processes, args.ray) as pool:
            summary = prepare(args.raw, args.output, config, pool)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    splits = ", ".join(f"{s['clips']} clips ({s['seconds']:g} s) to {n}" for n, s in summary["splits"].items())
    print(f"{splits}; {time.monotonic() - began:.0f} s; read {args.output / 'report.md'}")
    return 0


def existing(path: str | None) -> str | None:
    """A path that other processes and machines find too; descriptions of ours also from outside the repository."""
    for folder in (Path(), DEFAULT_CONFIG.parents[1]):
        if path is not None and (folder / path).exists():
            return str((folder / path).resolve())
    return path


def check_folders(raw: Path, output: Path) -> None:
    """Refuse folders that cannot be read or written, before any work."""
    from avatar.video_io import check_folder, find_ffmpeg

    if not raw.is_dir():
        raise ValueError(f"no such folder: {raw}; give a folder of videos or photos")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; name a folder")
    if raw.resolve() == output.resolve():
        raise ValueError(f"RAW_DIR and OUT_DIR are the same folder, {raw}; name another for what is made")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{output} cannot be made ({error.strerror}); name another folder") from None
    check_folder(output)
    find_ffmpeg()


def prepare(raw: Path, output: Path, config: PrepareConfig, pool: Pool) -> dict[str, Any]:
    """Prepare everything; returns the report's summary."""
    from train.prepare_cache import Work
    from train.prepare_media import PHOTOS, Media
    from train.prepare_pool import Failure
    from train.prepare_report import SHEET, contact_sheet, joined, save_report, summarise
    from train.prepare_shards import clip_rows, split_of, write_shards
    from train.prepare_tasks import examine, prepare_track, scan, track_key, tracks_of

    raw, output = raw.resolve(), output.resolve()
    work = Work(output / "work")
    sources, others = find_files(raw, output)
    networks = identify(config)

    # 1. What each file is
    found = each(pool, "files", [(examine, (work, raw, source)) for source in sources])
    files: dict[str, dict[str, Any]] = {
        source: {
            "name": source,
            "kind": "photo" if Path(source).suffix.lower() in PHOTOS else "video",
            "seconds": 0.0,
            "clips": [],
            "refused": [],
            "note": "",
        }
        for source in sources
    }

    def refuse(source: str, start_s: float, seconds: float, reason: str) -> None:
        files[source]["refused"].append({"start_s": start_s, "seconds": round(seconds, 2), "reason": reason})

    # 2. Cuts and faces, part by part
    parts: list[tuple[str, float, float]] = []
    media: dict[str, Any] = {}
    for source, result in zip(sources, found, strict=True):
        if isinstance(result, Failure) or "reason" in result:
            reason = result.reason if isinstance(result, Failure) else result["reason"]
            refuse(source, 0.0, 0.0, reason)
            continue
        media[source] = Media(**result["media"])
        files[source]["seconds"] = seconds = media[source].seconds
        wanted = min(seconds, 60 * config.scan.max_minutes) if config.scan.max_minutes else seconds
        if wanted < seconds:
            refuse(source, wanted, seconds - wanted, f"beyond the first {config.scan.max_minutes:g} minutes of a file")
        parts += [(source, *section) for section in sections(wanted, config.scan.part_s)]
    digests = {s: r["digest"] for s, r in zip(sources, found, strict=True) if s in media}
    scans = each(pool, "parts", [(scan, (work, raw, s, digests[s], media[s], *part, config)) for s, *part in parts])

    # 3. Tracks, and everything about each
    tracks: list[Track] = []
    scanned: dict[str, list[tuple[float, Any]]] = {source: [] for source in media}
    for (source, start, seconds), result in zip(parts, scans, strict=True):
        if isinstance(result, Failure):
            refuse(source, start, seconds, result.reason)
        else:
            scanned[source].append((start, result))
    for source, seen in scanned.items():
        of_source, refused = tracks_of(source, digests[source], media[source], seen, config)
        tracks += of_source
        files[source]["refused"] += refused
        frames = sum(result["frames"] for _, result in seen) / 25
        if not media[source].photo and seen and frames < 0.9 * min(media[source].seconds, seen[-1][0] + 1):
            files[source]["note"] = f"only {frames:.1f} s of {media[source].seconds:.1f} s can be decoded"
    results = each(
        pool,
        "tracks",
        [(prepare_track, (work, raw, track, config, networks)) for track in tracks],
        [work.json("track", track_key(track, config, networks)) for track in tracks],
    )
    made = []
    for track, result in zip(tracks, results, strict=True):
        if isinstance(result, Failure):
            refuse(track.source, track.start_s, track.frames / 25, result.reason)
            continue
        made.append((track, result))
        files[track.source]["refused"] += result["refused"]

    # 4. Shards and report
    splits = split_of(sorted({track.source for track, result in made if result["clips"]}), config.split)
    rows = clip_rows(made, splits, config)
    for row in rows:
        files[row["source"]]["clips"].append(row)
    for _ in bar("clips", write_shards(work, output, made, rows, config, networks), len(rows)):
        pass
    for file in files.values():
        file["refused"] = joined(file["refused"])
    summary = summarise(list(files.values()), others, config)
    if save_report(output, summary, asdict(networks)):
        contact_sheet(tiles(work, raw, rows, files, media, config), output / SHEET)
    work.tidy()
    return summary


def find_files(raw: Path, output: Path) -> tuple[list[str], dict[str, int]]:
    """Videos and photos in a folder and below, in order, and how many other files by suffix."""
    from train.prepare_media import PHOTOS, VIDEOS

    sources: list[str] = []
    others: Counter[str] = Counter()
    for path in sorted(raw.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(raw).parts)
        if hidden or not path.is_file() or output in path.parents:
            continue
        if path.suffix.lower() in VIDEOS + PHOTOS:
            sources.append(path.relative_to(raw).as_posix())
        else:
            others[path.suffix.lower() or "without suffix"] += 1
    if not sources:
        raise ValueError(f"no video or photo in {raw}; it knows {' '.join(VIDEOS + PHOTOS)}")
    return sources, dict(others)


def identify(config: PrepareConfig) -> Networks:
    """The networks that the settings name, by the digests of their weights."""
    from train.prepare_stages import Networks

    if config.audio is None and config.vae is None:
        return Networks()
    from train.prepare_networks import audio_identity, vae_identity

    return Networks(
        "" if config.audio is None else audio_identity(config.audio),
        "" if config.vae is None else vae_identity(config.vae),
    )


def sections(seconds: float, part_s: float) -> list[tuple[float, float]]:
    """(start, length) of the parts of a file; a rest of under two seconds belongs to the part before it."""
    count = max(1, int((seconds - 2.0) // part_s) + 1)
    edges = [*(round(number * part_s, 3) for number in range(count)), seconds]
    return [(a, round(b - a, 3)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def each(pool: Pool, what: str, tasks: Sequence[Any], known: Sequence[Any] | None = None) -> list[Any]:
    """Results of all tasks in order; what is `known` is not asked for again."""
    results: list[Any] = list(known) if known is not None else [None] * len(tasks)
    missing = [number for number, result in enumerate(results) if result is None]
    for place, result in bar(what, pool.run([tasks[number] for number in missing]), len(missing)):
        results[missing[place]] = result
    return results


def bar(what: str, steps: Iterator[Any], count: int) -> Iterator[Any]:
    """A progress bar, where somebody can see it; a line in a log."""
    from tqdm import tqdm

    if count and not sys.stderr.isatty():
        print(f"{what}: {count} to do", flush=True)
    return iter(tqdm(steps, total=count, desc=what, unit=what[:-1], disable=None if count else True))


def tiles(
    work: Work, raw: Path, rows: Sequence[Any], files: dict[str, Any], media: dict[str, Media], config: PrepareConfig
) -> list[Any]:
    """What the contact sheet shows: clips, evenly chosen, then what was refused."""
    import numpy as np

    from train.prepare_media import read_frames, shrunk
    from train.prepare_report import REFUSED_TILES, TILE
    from train.prepare_stages import clip_path

    def spread(count: int, most: int) -> list[int]:
        return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist() if count else []

    shown: list[Any] = []
    for row in (rows[number] for number in spread(len(rows), config.sheet_tiles)):
        with np.load(clip_path(work, row["summary"]["render"], row["clip"]["start"], ".npz")) as file:
            caption = (
                f"{row['source']} {row['start_s']:g} s, {row['frames']} frames{', sound' if row['sound'] else ''}"
            )
            shown.append((file["thumbnail"], caption, row["split"]))
    refused = [(file["name"], part) for file in files.values() for part in file["refused"]]
    for name, part in (refused[number] for number in spread(len(refused), REFUSED_TILES)):
        picture = None
        if name in media and not media[name].photo and part["seconds"]:
            size = shrunk(media[name].height, media[name].width, TILE)
            middle = part["start_s"] + part["seconds"] / 2
            picture = next(read_frames(raw / name, middle, 0.04, size), None)
        shown.append((picture, f"{name} {part['start_s']:g} s: {part['reason']}", "refused"))
    return shown


if __name__ == "__main__":
    sys.exit(main())
