"""Do the gesture measures notice what they should? Motion is spoilt in five ways and measured against itself.

    python benchmarks/gesture_sensitivity.py SPEECH --limit 20              procedural motion for a folder of speech
    python benchmarks/gesture_sensitivity.py --beat2 2_scott_0_1_1.npz      a recording of BEAT2 and .wav

Prints the Markdown table of docs/METRICS.md: every measure of the untouched motion, with noise of 3 degrees on each
joint, frozen in its first pose, 0.5 s late, beside another person's speech, and made for another seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.acoustics import SAMPLE_RATE
from pose.metrics.control import fitted, mismatched
from pose.metrics.face import MOMENTS
from pose.metrics.frechet import frechet_distance
from pose.metrics.gesture_features import GestureFeatures
from pose.metrics.suite import MEASURES, Body, Values, measure_against, measure_audio, measure_motion
from pose.motion import Motion
from pose.rotations import axis_angle_to_matrix

NOISE_DEGREES = 3.0
LATE_S = 0.5
PART_S = 12.0  # of a long recording

Take = tuple[str, NDArray[np.float32], Motion]  # speaker, sound, motion


def noisy(motion: Motion, random: np.random.Generator) -> Motion:
    """Each joint turned by white noise in every frame."""
    turns = random.normal(0, np.radians(NOISE_DEGREES), (*motion.rotations.shape[:2], 3))
    return replace(motion, rotations=(motion.rotations @ axis_angle_to_matrix(turns)).astype(np.float32))


def frozen(motion: Motion) -> Motion:
    """The first pose held, the face as well."""
    first = np.zeros(len(motion), int)
    face = None if motion.expression is None else motion.expression[first]
    return replace(
        motion, rotations=motion.rotations[first], root_position=motion.root_position[first], expression=face
    )


def late(motion: Motion) -> Motion:
    """Delayed; the first pose waits."""
    rows = np.maximum(np.arange(len(motion)) - round(LATE_S * motion.fps), 0)
    face = None if motion.expression is None else motion.expression[rows]
    return replace(motion, rotations=motion.rotations[rows], root_position=motion.root_position[rows], expression=face)


def measured(motion: Motion, sound: NDArray[np.float32], true: Body, extractor: GestureFeatures) -> Values:
    """All measures of one file."""
    body = Body(motion)
    values = measure_motion(body, extractor)
    for more in (measure_audio(body, sound, true.mean_speed), measure_against(body, true)):
        values.values |= more.values
        values.reasons |= more.reasons
    return values


def cell(files: list[Values], name: str, digits: int) -> str:
    """Weighted mean of the files that have a value, and how many do not."""
    got = [values.values[name] for values in files if name in values.values]
    if not got:
        return "none"
    value, weight = np.array(got).T
    text = f"{(value * weight).sum() / weight.sum():.{digits}f}"
    return text if len(got) == len(files) else f"{text} ({len(got)}/{len(files)})"


def table(takes: list[Take], extractor: GestureFeatures, other: list[Motion] | None) -> str:
    """The Markdown table; `other` are motions for the same speech by another speaker, where there are any."""
    random = np.random.default_rng(0)
    order = mismatched([speaker for speaker, _, _ in takes])
    changes: dict[str, Callable[[int], tuple[Motion, NDArray[np.float32]]]] = {
        "untouched": lambda k: (takes[k][2], takes[k][1]),
        "noise": lambda k: (noisy(takes[k][2], random), takes[k][1]),
        "frozen": lambda k: (frozen(takes[k][2]), takes[k][1]),
        "0.5 s late": lambda k: (late(takes[k][2]), takes[k][1]),
        "other audio": lambda k: (takes[k][2], fitted(takes[order[k]][1], len(takes[k][1])).astype(np.float32)),
    }
    if other is not None:
        changes["other seed"] = lambda k: (other[k], takes[k][1])
    results: dict[str, list[Values]] = {}
    for name, change in changes.items():
        print(name, file=sys.stderr, flush=True)
        results[name] = [measured(*change(k), Body(takes[k][2]), extractor) for k in range(len(takes))]
    lines = [["measure", "unit", *changes]]
    for kind, name in (("FGD", f"FGD({extractor.name})"), ("expression FD", f"expression FD({MOMENTS})")):
        sets = [[values.features[kind] for values in files if kind in values.features] for files in results.values()]
        if all(sets):  # a recording without a face has no expression FD
            true = np.concatenate(sets[0])
            lines.append(
                [name, "", *(f"{round(frechet_distance(np.concatenate(part), true), 9):.3g}" for part in sets)]
            )
    for measure in MEASURES:
        cells = [cell(files, measure.name, measure.digits) for files in results.values()]
        if set(cells) != {"none"}:
            lines.append([measure.name, measure.unit, *cells])
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def procedural(folder: Path, limit: int, seed: int) -> tuple[list[Take], list[Motion]]:
    """Speech of a folder with prosody motion, and the motion of another seed for each."""
    from pose.prosody import prosody_motion
    from pose.speech import open_speech, speech_features

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".wav", ".flac"))
    if len(paths) < 2:
        raise ValueError(f"{folder} holds {len(paths)} recordings; at least 2 are needed")
    takes, other = [], []
    for number, path in enumerate(paths[:limit]):
        sound = np.concatenate(list(open_speech(path).chunks()))
        features = speech_features(sound, 30.0)
        takes.append((path.stem.split("-")[0], sound, prosody_motion(features, seed + number)))
        other.append(prosody_motion(features, seed + 1000 + number))
    return takes, other


def recorded(path: Path) -> list[Take]:
    """A BEAT2 recording in parts of 12 s; each counts as a speaker of its own for the mismatched audio."""
    from pose.datasets.beat2 import Beat2

    dataset = Beat2(path.parent)
    clip = dataset.load(next(r for r in dataset.recordings if r.name == path.stem), 30.0)
    assert clip.motion is not None
    takes = []
    for start in np.arange(0, clip.motion.duration_s - PART_S + 0.01, PART_S):
        frames = slice(round(start * 30), round((start + PART_S) * 30))
        sound = clip.waveform[round(start * SAMPLE_RATE) : round((start + PART_S) * SAMPLE_RATE)]
        takes.append((f"part {start:g}", sound, clip.motion[frames]))
    return takes


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path, nargs="?", help="folder of .wav or .flac")
    parser.add_argument("--beat2", type=Path, help="a BEAT2 .npz with its .wav beside it")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--extractor", type=Path, help="default: the shipped one")
    args = parser.parse_args(argv)
    try:
        extractor = GestureFeatures.from_pretrained(args.extractor) if args.extractor else GestureFeatures.shipped()
        if args.beat2:
            print(table(recorded(args.beat2), extractor.eval(), None))
        elif args.speech:
            takes, other = procedural(args.speech, args.limit, args.seed)
            print(table(takes, extractor.eval(), other))
        else:
            parser.error("pass a folder of speech or --beat2")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
