"""What trained gesture models are worth, measured on the validation recordings of their corpus.

    python benchmarks/gesture_quality.py table CORPUS NAME=MODEL [NAME=MODEL …]   against truth and prosody
    python benchmarks/gesture_quality.py steps CORPUS MODEL                       quality and cost by number of steps
    python benchmarks/gesture_quality.py guidance CORPUS MODEL --from sadness --to happiness
    python benchmarks/gesture_quality.py stitching CORPUS MODEL --minutes 5
    python benchmarks/gesture_quality.py stabilizer CORPUS MODEL                  for models of the noise
    python benchmarks/gesture_quality.py speed                                    published sizes, untrained

Prints Markdown. The first two are measured by infer/evaluate.py gesture and leave its files in --output. The tables of
docs/gesture_models.md were made by it. Letters: F frames, S seed frames.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from infer.gesture import load_gesture_model, load_speech_model
from pose.acoustics import SAMPLE_RATE
from pose.datasets.check import Dataset, open_dataset
from pose.datasets.clip import Clip, Recording
from pose.motion import Motion, expression_index
from pose.pipeline import GesturePipeline
from pose.prosody import prosody_motion
from pose.sampling import STABILIZERS, Stabilizer, scheduler_for
from pose.speech import speech_features

COLUMNS = (
    "FGD", "L1div beat", "BC ours", "BeatAlign beat_v1_corrected", "acceleration", "jerk", "range of motion",
    "speech-hands correlation", "speech-mouth correlation",
)  # fmt: skip
CONTROLLED = ("speech-hands correlation", "speech-mouth correlation", "BC ours")  # shown with other audio too
STEPS = (5, 10, 25, 50, 0)  # 0: all of the training's, by DDPM as published
HANDS = ("LeftHand", "RightHand")
PER_S = 10.0  # of motion: what the cost is told for


def validation(corpus: Path) -> tuple[Dataset, list[Recording]]:
    dataset = open_dataset(corpus)
    chosen = [recording for recording in dataset.recordings if recording.split == "val"]
    if not chosen:
        raise ValueError(f"{corpus} has no validation recording")
    return dataset, chosen


def told(pipeline: GesturePipeline, clip: Clip) -> dict[str, Any]:
    """The style and the speaker of a clip where the model knows them."""
    style = clip.style if clip.style in pipeline.config.styles else None
    return {"style": style, "speaker": clip.speaker if clip.speaker in pipeline.config.speakers else None}


def make(pipeline: GesturePipeline, dataset: Dataset, recordings: Sequence[Recording], out: Path, **how: Any) -> float:
    """Motions of the recordings as files; returns seconds of computing for ten seconds of motion."""
    out.mkdir(parents=True, exist_ok=True)
    spent = made = 0.0
    network = load_speech_model(pipeline, None)
    for recording in recordings:
        clip = dataset.load(recording, pipeline.fps)
        features = speech_features(clip.waveform, pipeline.fps)
        began = time.process_time()
        heard = [features] if network is None else network.stream([features])
        motion = pipeline(heard, **told(pipeline, clip), **how).motions[0]
        spent, made = spent + time.process_time() - began, made + motion.duration_s
        motion.save(out / f"{recording.name}.npz")
    return spent / made * PER_S


def references(dataset: Dataset, recordings: Sequence[Recording], out: Path) -> None:
    """Truth and sound of the recordings, and the prosody motion, as files."""
    for name in ("truth", "speech", "prosody"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for recording in recordings:
        clip = dataset.load(recording, 30.0)
        assert clip.motion is not None
        clip.motion.save(out / "truth" / f"{recording.name}.npz")
        soundfile.write(out / "speech" / f"{recording.name}.wav", clip.waveform, SAMPLE_RATE)
        # Another seed than any of the corpus's speakers has: the baseline has not seen the truth.
        prosody_motion(speech_features(clip.waveform, 30.0), 12345).save(out / "prosody" / f"{recording.name}.npz")


def evaluated(out: Path, name: str, jobs: int) -> dict[str, dict[str, str]]:
    """Rows of infer/evaluate.py gesture by name: {row: {measure: value}}; FGD stands under "FGD"."""
    import csv

    from infer.evaluate_gesture import parse, run

    where = out / "scores" / name
    run(parse([str(out / name), "--reference", str(out / "truth"), "--audio", str(out / "speech"), "--output",
               str(where), "--plots", "0", "--jobs", str(jobs)]))  # fmt: skip
    rows: dict[str, dict[str, str]] = {}
    with open(where / "table.csv", newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            measure = "FGD" if line["measure"].startswith("FGD(") else line["measure"]
            rows.setdefault(line["row"], {})[measure] = line["value"]
    return rows


def shown(text: str | None) -> str:
    return "–" if not text else f"{float(text):.3g}"


def print_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


def table(args: argparse.Namespace) -> None:
    dataset, recordings = validation(args.corpus)
    recordings = recordings[:: args.every]
    references(dataset, recordings, args.output)
    rows, cost = [], {}
    for given in args.models:
        name, _, path = given.rpartition("=")
        pipeline = load_gesture_model(path)
        cost[name] = make(pipeline, dataset, recordings, args.output / name)
    for name in ("prosody", *cost):
        result = evaluated(args.output, name, args.jobs)
        if name == "prosody":
            rows.append(_row("ground truth (FGD of its halves)", result, "ground truth"))
        label = name if name == "prosody" else f"{name}, {cost[name]:.2f} s"
        rows.append(_row(label, result, "generated"))
        rows[-1].append(_jaws(args.output, name, recordings))
    rows[0].append("1")
    print_rows(["", *COLUMNS, *(f"{column}, other audio" for column in CONTROLLED), "jaw with the truth's"], rows)


def _row(label: str, result: dict[str, dict[str, str]], row: str) -> list[str]:
    own, other = result[row], result.get(f"{row}, other audio", {})
    return [label, *(shown(own.get(column)) for column in COLUMNS), *(shown(other.get(name)) for name in CONTROLLED)]


def _jaws(out: Path, name: str, recordings: Sequence[Recording]) -> str:
    """Mean correlation of the jaw's opening with the true one, frame by frame."""
    found = []
    for recording in recordings:
        made, true = (Motion.load(out / kind / f"{recording.name}.npz") for kind in (name, "truth"))
        made = made.resampled(true.fps)
        if made.expression is None or true.expression is None:
            return "–"
        frames, jaw = min(len(made), len(true)), expression_index("jawOpen")
        found.append(np.corrcoef(made.expression[:frames, jaw], true.expression[:frames, jaw])[0, 1])
    return f"{np.mean(found):.3f}"


def steps(args: argparse.Namespace) -> None:
    dataset, recordings = validation(args.corpus)
    recordings = recordings[:: args.every]
    references(dataset, recordings, args.output)
    rows = []
    for count in (*STEPS, -25):  # the last with steps even in t, as DPM-Solver++ has them unless told otherwise
        pipeline = load_gesture_model(args.model, "dpm++" if count else "ddpm")
        if count < 0:
            even = {"use_lu_lambdas": False, "timestep_spacing": "trailing"}
            pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **even)
        total = int(pipeline.scheduler.config.num_train_timesteps)
        count, way = abs(count), " even in t" if count < 0 else ""
        name = f"steps_{count or total}{way.replace(' ', '_')}"
        cost = make(pipeline, dataset, recordings, args.output / name, steps=count or total)
        result = evaluated(args.output, name, args.jobs)["generated"]
        sampler = f"{count} of DPM-Solver++{way}" if count else f"{total} of DDPM"
        rows.append([sampler, *(shown(result.get(column)) for column in COLUMNS), f"{cost:.2f}"])
    print_rows(["steps", *COLUMNS, "CPU s for 10 s"], rows)


def motion_statistics(motion: Motion) -> dict[str, float]:
    """Amplitude, speed and tempo of the hands relative to the hips, and how far the head is bowed."""
    places = hands_of(motion)
    speed = np.linalg.norm(np.diff(places, axis=0), axis=-1) * motion.fps
    still = speed.mean(1)
    turns = int(((still[1:-1] < still[:-2]) & (still[1:-1] <= still[2:])).sum())
    spine, head = (motion.positions()[:, motion.skeleton.index(name)] for name in ("Spine3", "Head"))
    return {
        "amplitude (cm)": float(np.linalg.norm(places.std(0), axis=-1).mean()),
        "speed (cm/s)": float(speed.mean()),
        "pauses a second": turns / motion.duration_s,
        "head forward (cm)": float((head - spine)[:, 2].mean()),
    }


def hands_of(motion: Motion) -> NDArray[np.float64]:
    """(F, 2, 3) cm from the hips."""
    places = motion.positions()
    columns = [motion.skeleton.index(name) for name in HANDS]
    return places[:, columns] - places[:, :1]


def guidance(args: argparse.Namespace) -> None:
    dataset, recordings = validation(args.corpus)
    pipeline = load_gesture_model(args.model)
    clips = [dataset.load(recording, pipeline.fps) for recording in recordings[:: args.every]]
    first, second = args.start, args.end
    cases: list[tuple[str, dict[str, Any]]] = [
        (f"{first}, γ 3", {"style": first, "guidance": 3.0}),
        (f"{first}, γ 1", {"style": first, "guidance": 1.0}),
        (f"¾ {first}, ¼ {second}", {"style": {first: 0.75, second: 0.25}, "guidance": 1.0}),
        (f"half {first}, half {second}", {"style": {first: 0.5, second: 0.5}, "guidance": 1.0}),
        (f"¼ {first}, ¾ {second}", {"style": {first: 0.25, second: 0.75}, "guidance": 1.0}),
        (f"{second}, γ 1", {"style": second, "guidance": 1.0}),
        (f"{second}, γ 3", {"style": second, "guidance": 3.0}),
        (f"{second} against {first}, γ 0.5", {"style": second, "against": first, "guidance": 0.5}),
        (f"{second} against {first}, γ 2", {"style": second, "against": first, "guidance": 2.0}),
    ]
    rows = []
    for label, choices in cases:
        found = []
        for clip in clips:
            features = speech_features(clip.waveform, pipeline.fps)
            speaker = told(pipeline, clip)["speaker"]
            made = pipeline(features, speaker=speaker, seeds=args.seeds, **choices).motions
            found += [motion_statistics(motion) for motion in made]
        rows.append([label, *(f"{np.mean([each[key] for each in found]):.2f}" for key in found[0])])
    print_rows(["", *found[0]], rows)


def stitching(args: argparse.Namespace) -> None:
    dataset, recordings = validation(args.corpus)
    pipeline = load_gesture_model(args.model)
    clips = [dataset.load(recording, pipeline.fps) for recording in recordings]
    total = round(args.minutes * 60 * SAMPLE_RATE)
    sound = np.concatenate([clip.waveform for clip in clips])
    sound = np.tile(sound, -(-total // len(sound)))[:total]
    config, network = pipeline.model.config, load_speech_model(pipeline, None)
    rows = []
    for way in ("crossfade", "outpaint"):
        features = [speech_features(sound, pipeline.fps)]
        heard = features if network is None else network.stream(features)
        motion = pipeline(heard, stitching=way, seeds=args.seeds[:1], **told(pipeline, clips[0])).motions[0]
        places = hands_of(motion)
        size = np.linalg.norm(np.diff(places, n=2, axis=0), axis=-1).mean(1) * motion.fps**2 / 100
        step, overlap = config.frames - config.seed_frames, config.seed_frames
        frame = np.arange(1, len(motion) - 1)
        within = (frame % step >= step - overlap - 1) | (frame % step <= 1)  # the overlap and a frame beside it
        within &= frame >= step - overlap - 1
        minutes = np.array_split(places.mean(1), max(round(args.minutes), 1))
        drift = [float(np.linalg.norm(part.mean(0) - minutes[0].mean(0))) for part in minutes[1:]]
        root = np.linalg.norm(motion.root_position - motion.root_position[:1], axis=-1)
        rows.append(
            [way, f"{size[within].mean():.2f}", f"{size[~within].mean():.2f}",
             f"{size[within].mean() / size[~within].mean():.2f}", f"{size[within].max() / size[~within].max():.2f}",
             " ".join(f"{value:.1f}" for value in drift), f"{root.max():.1f}"]
        )  # fmt: skip
    head = ["", "acceleration at joins (m/s²)", "elsewhere", "ratio", "ratio of the largest",
            "hands' mean, cm from the first minute's", "root's way at most (cm)"]  # fmt: skip
    print_rows(head, rows)


def stabilizer(args: argparse.Namespace) -> None:
    dataset, recordings = validation(args.corpus)
    pipeline = load_gesture_model(args.model, "ddpm")
    total = int(pipeline.scheduler.config.num_train_timesteps)
    clips = [dataset.load(recording, pipeline.fps) for recording in recordings[:: args.every]]
    ways: list[tuple[str, Stabilizer | None]] = [("none", None)]
    ways += [(f"{form}, t₀ {args.threshold}", Stabilizer(form, args.threshold)) for form in STABILIZERS]
    rows = []
    for label, way in ways:
        jerk, spread, moved = [], [], []
        for clip in clips:
            features = speech_features(clip.waveform[: 8 * SAMPLE_RATE], pipeline.fps)
            choices = told(pipeline, clip)
            made = pipeline(features, seeds=args.seeds, steps=total, stabilizer=way, smooth=False, **choices).motions
            places = np.stack([hands_of(motion) for motion in made])  # variants first
            jerk.append(np.linalg.norm(np.diff(places, n=3, axis=1), axis=-1).mean() * pipeline.fps**3 / 100)
            spread.append(np.linalg.norm(places.std(0), axis=-1).mean())
            moved.append(np.linalg.norm(places.std(1), axis=-1).mean())
        rows.append([label, *(f"{np.mean(values):.2f}" for values in (jerk, spread, moved))])
    print_rows(["stabilizer", "jerk (m/s³)", "among variants (cm)", "over time (cm)"], rows)


def speed(args: argparse.Namespace) -> None:
    from pose.models.diff_gesture import DiffGesture
    from pose.models.diffuse_style import DiffuseStyleGesture
    from pose.representations.directions import DirectionVectors
    from pose.representations.vectors import MotionVectors
    from pose.representations.zeroeggs import RootSpaceVectors

    seconds = 10.0
    features = speech_features(np.zeros(round(seconds * SAMPLE_RATE), np.float32), 20.0)
    acoustic = DiffuseStyleGesture(speech_dim=109)
    cases: list[tuple[str, Any, MotionVectors, str | None, float]] = [
        ("DiffuseStyleGesture", acoustic, RootSpaceVectors(), "acoustic", 1.0),
        ("DiffGesture, γ 1.15", DiffGesture.ted(), DirectionVectors(), None, 1.15),
    ]
    rows = []
    for label, model, representation, feature_set, gamma in cases:
        scheduler = scheduler_for("dpm++", model)
        names = [str(k) for k in range(model.config.style_dim)]
        pipeline = GesturePipeline(model, scheduler, representation, None, feature_set, names, guidance=gamma)
        pipeline.set_progress_bar_config(disable=True)
        features = speech_features(np.zeros(round(seconds * SAMPLE_RATE), np.float32), pipeline.fps)
        for count in args.steps:
            pipeline(features, steps=2)
            began, used = time.perf_counter(), time.process_time()
            pipeline(features, steps=count)
            spent, used = time.perf_counter() - began, time.process_time() - used
            parameters = sum(p.numel() for p in model.parameters()) / 1e6
            rows.append([label, f"{parameters:.1f} M", str(count), f"{spent:.2f}", f"{used:.2f}"])
    print_rows(["", "parameters", "steps", f"seconds, {torch.get_num_threads()} threads", "CPU seconds"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    for work in (table, steps, guidance, stitching, stabilizer, speed):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        if work is speed:
            command.add_argument("--steps", type=int, nargs="+", default=[10, 25])
            continue
        command.add_argument("corpus", type=Path)
        if work is table:
            command.add_argument("models", nargs="+", metavar="NAME=MODEL")
        else:
            command.add_argument("model")
        command.add_argument("--output", type=Path, default=Path("out/gesture_quality"))
        command.add_argument("--jobs", type=int, default=2, help="processes that measure")
        command.add_argument("--every", type=int, default=1, help="take every n-th validation recording")
        command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
        command.add_argument("--minutes", type=float, default=5.0)
        command.add_argument("--threshold", type=int, default=25)
        command.add_argument("--from", dest="start", default="sadness")
        command.add_argument("--to", dest="end", default="happiness")
    args = parser.parse_args()
    args.work(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
