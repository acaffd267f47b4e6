"""Evaluate gestures: all measures of docs/METRICS.md that apply, with the rows that show what they are worth.

    python infer/evaluate.py gesture GENERATED --reference TRUE --audio SPEECH --output OUT

Files belong together by name (1_wayne_0_1_1.bvh, .wav). GENERATED, TRUE and SPEECH are folders or text files that list
paths. OUT gets table.md, table.csv, table.json, plots/ and files/, from which an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from infer.command_line import Parser

if TYPE_CHECKING:
    from infer.gesture_files import Job
    from pose.metrics.suite import Values


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="evaluate.py gesture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("generated", type=Path, help="motions: .bvh, .npz of Motion.save, .npz of BEAT2")
    parser.add_argument("--reference", type=Path, help="the true motions; without them there is no FGD, SRGR, PCK …")
    parser.add_argument("--audio", type=Path, help="speech; looked for beside the motions if left out")
    parser.add_argument("--semantic", type=Path, help="BEAT's .txt semantic scores, for SRGR")
    parser.add_argument("--extractor", type=Path, help="FGD extractor of train/fgd.py; default: the shipped one")
    parser.add_argument("--expression", type=Path, help="SAiD's vae.pth for expression FD and WInD; default: moments")
    parser.add_argument("--output", type=Path, default=Path("out/evaluation"), help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--plots", type=int, default=3, help="worst files that are drawn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the mismatched audio (default: %(default)s)")
    args = parser.parse_args(argv)
    for name, least in (("jobs", 1), ("plots", 0), ("seed", 0)):
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(args, name)}")
    return args


def plan(args: argparse.Namespace) -> tuple[list[Job], dict[str, str], list[str], tuple[str | None, str]]:
    """Jobs, files that have no partner and why, notes, and the printed names of the extractors of body and face."""
    from infer.gesture_files import MOTIONS, SOUNDS, Job, face_encoder, find, speaker_of
    from pose.metrics.control import mismatched
    from pose.metrics.face import MOMENTS
    from pose.metrics.gesture_features import SHIPPED, GestureFeatures

    motions = find(args.generated, MOTIONS)
    references = find(args.reference, MOTIONS) if args.reference else {}
    semantics = find(args.semantic, (".txt",)) if args.semantic else {}
    sounds: dict[str, Path] = {}
    if args.audio:
        sounds = find(args.audio, SOUNDS)
    else:
        for path in [*references.values(), *motions.values()]:
            beside = next((s for s in map(path.with_suffix, SOUNDS) if s.is_file()), None)
            if beside is not None:
                sounds[path.stem] = beside
    left: dict[str, str] = {}
    for name in list(motions):
        missing = [kind for kind, has in (("ground truth", references), ("audio", sounds)) if has and name not in has]
        if missing:
            left[name] = f"no {' and no '.join(missing)} of this name"
            del motions[name]
    notes = [f"ground truth without generated motion: {name}" for name in references if name not in motions | left]
    if not motions:
        raise ValueError(f"no motion has a partner of its name, for example {next(iter(left.items()))}")
    if not sounds:
        notes.append("no audio: no beat measures")
    if not references:
        notes.append("no --reference: no ground-truth row, no FGD, no recall")

    folder = args.extractor or (SHIPPED if (SHIPPED / "config.json").is_file() else None)
    label = GestureFeatures.from_pretrained(folder).name if folder else None
    if label is None:
        notes.append(
            "no FGD: this copy of Rhetor ships no extractor; train one with train/fgd.py and pass --extractor"
        )
    face = face_encoder(args.expression).name if args.expression else MOMENTS
    names = sorted(motions)
    other: dict[str, Path] = {}
    if sounds and len(names) > 1:
        order = mismatched([speaker_of(name) for name in names], args.seed)
        other = {name: sounds[names[k]] for name, k in zip(names, order, strict=True)}
        same = sum(speaker_of(name) == speaker_of(names[k]) for name, k in zip(names, order, strict=True))
        if same:
            notes.append(f"mismatched audio: {same} of {len(names)} files got another recording of their own speaker")
    elif sounds:
        notes.append("one file only: no mismatched-audio row")
    kept = args.output / "files"
    kept.mkdir(parents=True, exist_ok=True)
    jobs = [
        Job(
            name,
            motions[name],
            sounds.get(name),
            references.get(name),
            other.get(name),
            semantics.get(name),
            folder,
            kept,
            args.expression,
        )
        for name in names
    ]
    return jobs, left, notes, (label, face)


def measure(jobs: list[Job], processes: int) -> dict[str, str]:
    """Measure all files; returns the broken ones and why."""
    from tqdm import tqdm

    from infer.gesture_files import measure_file
    from infer.processes import measure_each

    broken: dict[str, str] = {}
    with tqdm(total=len(jobs), unit="file", desc="gestures", disable=None) as bar:

        def ended(job: Job, result: tuple[str, str] | None, error: BaseException | None) -> None:
            bar.update()
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            why = kind + " ".join(str(error).split()) if result is None else result[1]
            broken.update({job.name: why} if why else {})

        if processes == 1:  # in this one: no other has to load the libraries
            for job in jobs:
                try:
                    ended(job, measure_file(job), None)
                except Exception as error:  # whatever is wrong with a file, the rest goes on
                    ended(job, None, error)
        else:
            measure_each(measure_file, jobs, processes, ended)
    return broken


def worst(results: dict[str, dict[str, Values]], count: int) -> list[str]:
    """Names of the files whose jerk is furthest, as a ratio, from the ground truth's or from the median of files."""
    import numpy as np

    def jerk(name: str, row: str) -> float:
        values = results[name].get(row)
        return values.values.get("jerk", (np.nan, 0))[0] if values else float("nan")

    usual = np.nanmedian([jerk(name, "generated") for name in results])
    ratio = {}
    for name in results:
        own, true = jerk(name, "generated"), jerk(name, "ground truth")
        ratio[name] = abs(np.log(max(own, 1e-6) / max(true if np.isfinite(true) else usual, 1e-6)))
    return sorted(ratio, key=lambda name: -np.nan_to_num(ratio[name], nan=np.inf))[:count]


def run(args: argparse.Namespace) -> str:
    """Measure, write, draw; returns the table as text."""
    from infer.gesture_files import read_result
    from infer.gesture_report import build, terminal, write

    began = time.monotonic()
    jobs, left, notes, names = plan(args)
    broken = measure(jobs, min(args.jobs, len(jobs)))
    good = [job for job in jobs if job.name not in broken]
    if not good:
        raise ValueError(f"none of {len(jobs)} files could be measured, for example {next(iter(broken.items()))}")
    results, told = {}, []
    for job in good:
        results[job.name], own = read_result(job)
        told += [f"{job.name}: {note}" for note in own]
    table = build(results, *names)
    table.broken = left | broken
    table.notes = notes + told
    table.notes.append(f"{len(good)} of {len(jobs) + len(left)} files in {time.monotonic() - began:.0f} s")
    write(args.output, table)
    if args.plots:
        from infer.gesture_plots import plot_file, worst_sheet

        plots = args.output / "plots"
        plots.mkdir(exist_ok=True)
        chosen = worst(results, args.plots)
        for job in good:
            if job.name in chosen:
                plot_file(job, plots / f"{job.name}.png")
        worst_sheet([job for job in good if job.name in chosen], plots / "worst.png")
    return terminal(table)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr when nothing could be evaluated."""
    try:
        print(run(parse(argv)))
    except (ValueError, OSError) as error:
        print(f"evaluate.py gesture: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate.py gesture: stopped; the same command goes on with what was finished", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
