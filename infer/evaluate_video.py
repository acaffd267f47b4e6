"""Measure folders of finished videos: a table with ground truth, wrong audio and intervals, and pictures of the worst.

python infer/evaluate.py video made/ other/ --real real/ --photos photos/ --out report/

Files belong together by name: made/anna/1.mp4, real/anna/1.mov, photos/anna/1.png. The same command again goes on
where the last one stopped; changed files are measured anew.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infer.command_line import Parser
from infer.processes import measure_each
from infer.saved_scores import WEIGHTS, Job, Scores, Settings, array, saved_keypoints
from infer.video_report import DETECTOR, TRUTH, Row, terminal, write
from infer.video_scores import OTHER_SIZE, score

VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".mpeg", ".m4v", ".gif")
PHOTOS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac", *VIDEOS)
PAIRED = ("psnr", "mse", "mae", "ssim", "ms_ssim")
LIPS = ("lip_r", "lip_best", "lip_lag")
SAME = 1e-3  # loudness that differs by less at every frame is the same recording


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; ValueError when it is not understood."""
    assert __doc__ is not None
    parser = Parser(
        prog="evaluate.py video",
        description=__doc__.split("\n")[0],
        epilog="example: " + __doc__.split("\n")[2],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("made", nargs="+", type=Path, help="folders of videos, lists (.txt, one path a line) or videos; each is a row")
    add("--real", type=Path, help="the true videos, by the same names: the ground truth row and all paired measures")
    add("--audio", type=Path, help="recordings by the same names, where the videos' own sound shall not be used")
    add("--photos", type=Path, help="the reference photos, by the same names or one for all; for CSIM")
    add("--driving", type=Path, help="keypoints that drove the videos (run.py --keypoints-out), by the same names")
    for name, what in zip(WEIGHTS, ("LPIPS", "Inception", "I3D", "ArcFace", "SyncNet"), strict=True):
        add(f"--{name}", type=Path, metavar="FILE", help=f"{what} network; docs/METRICS_VIDEO.md names the formats")
    add("--out", type=Path, default=Path("report"), help="folder for tables, plots and what is kept between runs")
    add("--fps", type=float, default=25.0, help="all videos are read at this rate")
    add("--max-side", type=int, default=1280, help="larger videos are shrunk to it; pixel measures depend on it")
    add("--every", type=int, default=5, help="slow measures look at every Nth frame")
    add("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="files at a time")
    add("--device", default="cpu", help="for the networks: cpu, cuda, mps")
    add("--plots", type=int, default=4, help="files plotted, and worst cases shown, for each row; 0 for no pictures")
    return parser.parse_args(argv)


def gather(source: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files by name: of a folder all below it by their path without suffix, of a list or a file by their stems."""
    if source.is_dir():
        paths = [p for p in sorted(source.rglob("*")) if p.suffix.lower() in suffixes and p.is_file()]
        paths = [p for p in paths if not any(part.startswith(".") for part in p.relative_to(source).parts)]
        names = [str(p.relative_to(source).with_suffix("")) for p in paths]
    elif source.suffix.lower() == ".txt" and source.is_file():
        lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
        paths = [source.parent / line for line in lines if line and not line.startswith("#")]
        names = [p.stem for p in paths]
    elif source.is_file() and source.suffix.lower() in suffixes:
        paths, names = [source], [source.stem]
    else:
        raise ValueError(f"{source} is no folder, no list and none of {', '.join(suffixes)}; check the path")
    if not paths:
        raise ValueError(f"nothing in {source} ends in {', '.join(suffixes)}; check the folder")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{source} has several files named {', '.join(twice[:3])}; names tell what belongs together")
    return dict(zip(names, paths, strict=True))


def companions(source: Path | None, suffixes: tuple[str, ...], names: Iterable[str], what: str) -> dict[str, Path]:
    """The files that belong to `names`; a single file belongs to all. ValueError when no name fits at all."""
    if source is None:
        return {}
    names = list(names)
    if source.is_file() and source.suffix.lower() != ".txt":
        return dict.fromkeys(names, source)
    found = gather(source, suffixes)
    fitting = {name: found[name] for name in names if name in found}
    if not fitting:
        raise ValueError(
            f"no {what} in {source} is named like a video: there are {', '.join(list(found)[:3])} and the videos are "
            f"{', '.join(names[:3])}; give both the same names"
        )
    return fitting


def make_jobs(args: argparse.Namespace) -> list[Job]:
    """Every file to measure; the ground truth comes last."""
    labels = [p.stem if p.is_file() else p.resolve().name for p in args.made]
    twice = {label for label in labels if labels.count(label) > 1}
    labels = [str(p) if label in twice else label for p, label in zip(args.made, labels, strict=True)]
    systems = {label: gather(path, VIDEOS) for label, path in zip(labels, args.made, strict=True)}
    names = sorted({name for files in systems.values() for name in files})
    real = companions(args.real, VIDEOS, names, "video")
    audio = companions(args.audio, SOUNDS, names, "recording")
    photos = companions(args.photos, PHOTOS, names, "photo")
    driving = companions(args.driving, (".npz",), names, "file of keypoints")
    jobs = [
        Job(label, n, path, audio.get(n), real.get(n), photos.get(n), driving.get(n))
        for label, files in systems.items()
        for n, path in files.items()
    ]
    return jobs + [Job(TRUTH, n, path, audio.get(n), None, photos.get(n)) for n, path in real.items()]


def measure(settings: Settings, work: Path, job: Job) -> None:
    """Measure one file, in a process of its own."""
    score(job, settings, work / job.key(settings))


def measure_all(jobs: list[Job], settings: Settings, work: Path, workers: int) -> dict[Job, str]:
    """Measure what is not measured yet, in parallel; why jobs failed."""
    from tqdm import tqdm

    broken = {job: f"no such file: {job.video}" for job in jobs if not job.video.is_file()}
    there = [job for job in jobs if job not in broken]
    todo = [job for job in there if not (work / job.key(settings)).with_suffix(".json").is_file()]
    with tqdm(total=len(there), initial=len(there) - len(todo), unit="video", file=sys.stderr) as bar:

        def ended(job: Job, _: None, error: BaseException | None) -> None:
            bar.update()
            if error is not None:
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                broken[job] = kind + " ".join(str(error).split())

        measure_each(partial(measure, settings, work), todo, workers, ended)
    return broken


def make_rows(jobs: list[Job], broken: dict[Job, str], settings: Settings, work: Path) -> list[Row]:
    """Rows of the systems, each followed by the same with wrong audio, the ground truth last."""
    rows = []
    stems = {job: work / job.key(settings) for job in jobs if job not in broken}
    truth = {job.name: stem for job, stem in stems.items() if job.system == TRUTH}
    for label in dict.fromkeys(job.system for job in jobs):
        own = {job.name: stem for job, stem in stems.items() if job.system == label}
        row, wrong = Row(label), Row(f"{label}, wrong audio")
        row.broken = {job.name: why for job, why in broken.items() if job.system == label}
        for name, stem in own.items():
            scores = Scores.load(stem)
            sound_of(scores, stem, stem, settings)
            if label != TRUTH and truth:
                compare_keypoints(scores, stem, truth.get(name), settings.fps)
                if name not in truth:
                    scores.excluded |= dict.fromkeys(PAIRED, "no true video of this name")
            row.files[name], row.excluded[name] = scores.values, scores.excluded
            told = remarks(scores.facts, facts_of(truth.get(name)) if label != TRUTH else None, settings.fps)
            row.notes |= {name: told} if told else {}
            wrong_scores = Scores()
            sound_of(wrong_scores, stem, other_sound(name, own), settings, wrong=True)
            wrong.files[name], wrong.excluded[name] = wrong_scores.values, wrong_scores.excluded
        for key in ("fid", "fvd"):
            if key in settings.weights and label != TRUTH:
                set_distance(row, key, own, truth)
        rows += [row, wrong]
    return rows


def facts_of(stem: Path | None) -> dict[str, Any] | None:
    """What is known of a measured file besides its numbers."""
    return None if stem is None else Scores.load(stem).facts


def remarks(facts: dict[str, Any], true: dict[str, Any] | None, fps: float) -> list[str]:
    """What a reader of a file's numbers must know: its rate and end, frames without a face, another length."""
    told = []
    rate, declared_s = facts.get("declared fps", fps), facts.get("declared duration", 0.0)
    if abs(rate - fps) > 0.01 * fps:
        told.append(f"{rate:g} frames a second, read at {fps:g}")
    if declared_s - facts["seconds"] > max(0.2, 0.02 * declared_s):
        told.append(
            f"ends after {facts['seconds']:.1f} of the {declared_s:.1f} s that the file declares: is it cut off?"
        )
    if 0 < facts["no face, frames"] < facts["frames"]:
        told.append(f"no face in {facts['no face, frames']} of {facts['frames']} frames")
    if true is not None and abs(true["frames"] - facts["frames"]) > 1:
        told.append(f"{facts['frames']} frames beside {true['frames']} of the true video: compared as far as both go")
    if equal := facts.get("frames equal to the true video's"):
        told.append(f"{equal} compared frames equal the true video's and are not in the PSNR")
    return told


def sound_of(scores: Scores, stem: Path, sound: Path, settings: Settings, wrong: bool = False) -> None:
    """Agreement of the mouth of one file with the sound of another or, not `wrong`, with its own.

    Where a `wrong` sound is wanted and there is no other, its own is shifted by half its length.
    """
    from avatar.metrics.lips import lip_sync
    from avatar.metrics.sync import sync_score

    opening, loudness = array(stem, "opening"), array(sound, "loudness")
    if opening is None or loudness is None:
        for key in LIPS:
            scores.excluded.setdefault(key, "no sound")
        return
    shifted = wrong and sound == stem
    if shifted:
        loudness = np.roll(loudness, len(loudness) // 2)
    frames = min(len(opening), len(loudness))
    try:
        result = lip_sync(opening[:frames], loudness[:frames], settings.fps)
        scores.values |= {"lip_r": result.correlation, "lip_best": result.best, "lip_lag": 1000 * result.lag_s}
    except ValueError as error:
        scores.excluded |= dict.fromkeys(LIPS, str(error))
    if "syncnet" in settings.weights and "sync_c" not in scores.excluded:
        mouths, sounds = array(stem, "mouths"), array(sound, "sounds")
        if mouths is None or sounds is None:
            scores.excluded |= dict.fromkeys(("sync_c", "sync_d"), "no mouths or no sound to compare")
            return
        try:
            agreement = sync_score(mouths, np.roll(sounds, len(sounds) // 2, axis=0) if shifted else sounds)
            scores.values |= {"sync_c": agreement.confidence, "sync_d": agreement.distance}
        except ValueError as error:
            scores.excluded |= dict.fromkeys(("sync_c", "sync_d"), str(error))


def other_sound(name: str, stems: dict[str, Path]) -> Path:
    """The next file whose sound differs from that of `name`; its own where there is none."""
    own = array(stems[name], "loudness")
    names = list(stems)
    start = names.index(name)
    for step in range(1, len(names)):
        stem = stems[names[(start + step) % len(names)]]
        loudness = array(stem, "loudness")
        if own is None or loudness is None:
            continue
        frames = min(len(own), len(loudness))
        if np.abs(own[:frames] - loudness[:frames]).max() > SAME:
            return stem
    return stems[name]


def compare_keypoints(scores: Scores, stem: Path, truth: Path | None, fps: float) -> None:
    """AKD to the true video; frames beyond the shorter of the two are left out."""
    from avatar.metrics.keypoint_measures import keypoint_distance

    try:
        if truth is None:
            raise ValueError("no true video of this name")
        found, wanted = saved_keypoints(stem, fps), saved_keypoints(truth, fps)
        assert found is not None and wanted is not None
        if found.size != wanted.size:
            raise ValueError(OTHER_SIZE.format(*wanted.size[::-1], *found.size[::-1]))
        frames = min(len(found), len(wanted))
        distance = keypoint_distance(found[:frames], wanted[:frames])
        scores.values["akd_missed"] = distance.missed
        scores.values["akd"] = distance.mean_or_error()
    except ValueError as error:
        scores.excluded |= {key: str(error) for key in ("akd", "akd_missed") if key not in scores.values}


def set_distance(row: Row, key: str, own: dict[str, Path], truth: dict[str, Path]) -> None:
    """FID or FVD of all files of a row to all true videos."""
    from pose.metrics.frechet import frechet_distance

    made, real = ([part for stem in s.values() if (part := array(stem, key)) is not None] for s in (own, truth))
    try:
        if not made or not real:
            raise ValueError("no true videos to compare with; pass --real" if made else "no clip of 16 frames")
        row.whole[key] = frechet_distance(np.concatenate(made), np.concatenate(real))
    except ValueError as error:
        row.excluded.setdefault("all files", {})[key] = str(error)


def make_settings(args: argparse.Namespace) -> Settings:
    """What changes the numbers, with every file of weights opened once: a wrong path costs no hour."""
    from avatar.metrics.networks import weights_name

    if not 1 <= args.fps <= 120 or args.every < 1 or args.max_side < 64 or args.jobs < 1 or args.plots < 0:
        raise ValueError(
            "--fps is 1 to 120, --every and --jobs at least 1, --max-side at least 64, --plots at least 0"
        )
    settings = Settings(args.fps, args.max_side, args.every, args.device)
    weights = {name: str(path) for name in WEIGHTS if (path := getattr(args, name)) is not None}
    if weights:
        from infer.video_scores import load_networks

        for name, path in weights.items():
            if not Path(path).is_file():
                raise ValueError(f"--{name}: no such file: {path}; give the path of a local copy of the weights")
        load_networks(tuple(sorted(weights.items())), args.device)
        settings = replace(settings, weights=weights, names={name: weights_name(p) for name, p in weights.items()})
    return settings


def about(args: argparse.Namespace, settings: Settings, rows: list[Row]) -> list[str]:
    """The lines above every table."""
    missing = [name for name in WEIGHTS if name not in settings.weights]
    lines = [
        ", ".join(f"{row.label}: {len(row.files)} files, {len(row.broken)} broken" for row in rows[::2]),
        DETECTOR,
        f"Read at {settings.fps:g} frames a second, no side over {settings.max_side}; PSNR to LPIPS, FID and identity "
        f"at every {settings.every}th frame. [low, high]: 95 % bootstrap over files.",
        "Wrong audio: the next file's sound on this mouth; of a single file its own, half its length later. A measure "
        "of lips that does not fall there says nothing.",
    ]
    if missing:
        lines.append(f"Not measured for want of weights: {', '.join('--' + name for name in missing)}.")
    if args.real is None:
        lines.append("No ground truth row and no paired measures: pass --real.")
    return lines


def run(args: argparse.Namespace) -> str:
    """The whole evaluation; the text for the terminal."""
    jobs = make_jobs(args)
    settings = make_settings(args)
    work = args.out / ".scores"
    work.mkdir(parents=True, exist_ok=True)
    broken = measure_all(jobs, settings, work, args.jobs)
    if all(job in broken for job in jobs if job.system != TRUTH):
        raise ValueError("no video could be measured; the first: " + next(iter(broken.values())))
    rows = make_rows(jobs, broken, settings, work)
    header = about(args, settings, rows)
    write(args.out, rows, settings.names, header, asdict(settings))
    if args.plots:
        from infer.video_plots import pictures

        pictures(args.out / "plots", jobs, rows, settings, work, args.plots)
    return terminal(rows, settings.names, header)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr when the inputs cannot be used."""
    try:
        print(run(parse(argv)))
    except (ValueError, OSError) as error:
        print(f"evaluate.py video: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate.py video: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
