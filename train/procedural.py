"""A gesture corpus without a download: speech of any folder, motion by `pose.prosody`, files as BEAT has them.

    python train/procedural.py SPEECH OUT --speakers 4 --limit 60

    OUT/1/1_procedural_0_9_9.{wav,bvh,json,TextGrid,txt,csv}

Each "speaker" has its own amplitude, handedness, tempo, taste and rest pose; a quarter of the recordings each are
neutral, happy, angry and sad, which changes size and posture. Numbers are given as in BEAT, to speakers those of its
four-hour ones, so that BEAT's own division into train, val and test applies, and BEAT drops in where this corpus was.
The motion is ours and so are the labels; the speech keeps its licence. Letters: F frames, J joints.

Faces are made at BEAT's 60 frames a second. For a model of few frames a second pass its own as `--fps`: what is made
at 60 is averaged over the longer frames, 12 ms early, and lips that closed for two frames of 25 only come near.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from avatar.shipped import located
from pose.acoustics import SAMPLE_RATE
from pose.bvh import write_bvh
from pose.datasets.beat import EMOTIONS, FACE_FPS, FPS, ONE_HOUR, emotion_of, split_of
from pose.motion import EXPRESSION_NAMES, Motion, expression_index
from pose.phone_reader import PhoneReader
from pose.prosody import prosody_motion
from pose.rotations import axis_angle_to_matrix
from pose.speech import SpeechFeatures, open_speech, speech_features

SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
# The posture and face of an emotion, by hand: size of gestures, bend of the head forward (radians), face coefficients.
MOODS: dict[str, tuple[float, float, dict[str, float]]] = {
    "neutral": (0.9, 0.0, {}),
    "happiness": (1.35, -0.06, {"mouthSmile": 0.3, "cheekSquint": 0.15}),
    "anger": (1.15, 0.08, {"browDown": 0.4, "noseSneer": 0.15}),
    "sadness": (0.35, 0.20, {"mouthFrown": 0.25}),
}
# Of eight recordings of one mood, this many go to each side.
_SHARES = ("train", "val", "train", "train", "test", "train", "train", "train")


@dataclass(frozen=True)
class Speaker:
    """How one of the made-up speakers moves. `rest` {joint: axis angle} is added to the pose."""

    number: int
    seed: int
    amplitude: float
    rest: dict[str, tuple[float, float, float]]

    @classmethod
    def made(cls, number: int, seed: int) -> Speaker:
        """The traits of a number and a seed; handedness, tempo and taste come from the prosody motion's own seed."""
        random = np.random.default_rng([seed, number])
        rest = {
            "Spine1": (random.uniform(-0.05, 0.08), random.uniform(-0.1, 0.1), random.uniform(-0.03, 0.03)),
            "Head": (random.uniform(-0.06, 0.06), random.uniform(-0.1, 0.1), random.uniform(-0.08, 0.08)),
            "RightArm": (0.0, 0.0, random.uniform(-0.10, 0.10)),
            "LeftArm": (0.0, 0.0, random.uniform(-0.10, 0.10)),
        }
        return cls(number, int(random.integers(1 << 16)), float(random.uniform(0.75, 1.1)), rest)

    def perform(
        self, waveform: NDArray[np.float32], mood: str, fps: float = FACE_FPS, reader: PhoneReader | None = None
    ) -> Motion:
        """The motion for a recording; with a reader the lips say its phones."""
        size, bend, face = MOODS[mood]
        heard = speech_features(waveform, fps)
        if reader is not None:
            heard = SpeechFeatures.join(list(reader.stream([heard])))
        motion = prosody_motion(heard, self.seed, float(np.clip(self.amplitude * size, 0, 1.5)))
        rotations = motion.rotations.copy()
        turns = {**self.rest, "Neck": (bend, 0.0, 0.0), "Neck1": (bend, 0.0, 0.0)}
        for joint, axis_angle in turns.items():
            index = motion.skeleton.index(joint)
            rotations[:, index] = axis_angle_to_matrix(axis_angle).astype(np.float32) @ rotations[:, index]
        assert motion.expression is not None
        expression = motion.expression.copy()
        for name, value in face.items():
            for side in ("Left", "Right"):
                expression[:, expression_index(name + side)] += value
        return replace(motion, rotations=rotations, expression=np.clip(expression, 0.0, 1.0))


def numbers(mood: str) -> Iterator[int]:
    """BEAT's recording numbers for one mood, in turn for the three sides; past the last the neutral ones from 119."""
    own = [number for number in range(1, 119) if emotion_of(0, number) == mood]
    sides = {side: [n for n in own if split_of(0, n) == side] for side in ("train", "val", "test")}
    for place in count():
        side = sides[_SHARES[place % len(_SHARES)]]
        if not side:
            return
        yield side.pop(0)


def semantic_stretches(motion: Motion) -> list[tuple[float, float, float]]:
    """(start s, end s, score): where a hand is well above its usual height; the score grows with the height."""
    positions = motion.positions()
    hands = [motion.skeleton.index(f"{side}Hand") for side in ("Left", "Right")]
    height = (positions[:, hands, 1] - np.median(positions[:, hands, 1], 0)).max(1)
    raised = np.concatenate([[False], height > 8.0, [False]])  # cm
    edges = np.flatnonzero(np.diff(raised.astype(np.int8)))
    rows = []
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if b - a >= 0.3 * motion.fps:
            rows.append((a / motion.fps, b / motion.fps, float(np.clip(height[a:b].max() / 30.0, 0.1, 1.0))))
    return rows


def write_recording(
    folder: Path, name: str, waveform: NDArray[np.float32], motion: Motion, words: Path | None
) -> None:
    """One recording in BEAT's files, the face at the motion's rate. The .bvh comes last: without it nothing counts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    soundfile.write(path.with_suffix(".wav"), waveform, SAMPLE_RATE, subtype="PCM_16")
    assert motion.expression is not None
    frames = [
        {"weights": [round(float(value), 5) for value in weights], "time": round(k / motion.fps, 5)}
        for k, weights in enumerate(motion.expression)
    ]
    path.with_suffix(".json").write_text(json.dumps({"names": list(EXPRESSION_NAMES), "frames": frames}))
    rows = [
        f"01_beat_align\t{a:.3f}\t{b:.3f}\t{b - a:.3f}\t{score:.2f}\t" for a, b, score in semantic_stretches(motion)
    ]
    path.with_suffix(".txt").write_text("\n".join(rows) + "\n" if rows else "")
    number = int(name.split("_")[3])
    path.with_suffix(".csv").write_text(f"{name},{EMOTIONS.index(emotion_of(0, number))}\n")
    if words is not None:
        shutil.copyfile(words, path.with_suffix(".TextGrid"))
    part = path.with_suffix(".bvh.part")
    write_bvh(part, motion.resampled(FPS))
    part.replace(path.with_suffix(".bvh"))


def make_corpus(
    speech: Path, out: Path, speakers: int = 4, limit: int | None = None, seed: int = 0, reader: str | None = None,
    fps: float = FACE_FPS,
) -> Iterator[str]:  # fmt: skip
    """Make the corpus, name by name; recordings that are there already are left as they are."""
    network = None if reader is None else PhoneReader(reader)
    sounds = sorted(path for path in speech.rglob("*") if path.suffix.lower() in SOUNDS)
    if not sounds:
        raise ValueError(f"{speech} holds no speech ({', '.join(SOUNDS)})")
    order = np.random.default_rng([seed, 1]).permutation(len(sounds))[:limit]
    free = (number for number in count(1) if number not in ONE_HOUR)
    cast = [Speaker.made(number, seed) for number in islice(free, speakers)]
    supply = {(speaker.number, mood): numbers(mood) for speaker in cast for mood in MOODS}
    spare = {speaker.number: count(119) for speaker in cast}
    for place, index in enumerate(order):
        sound, speaker = sounds[index], cast[place % speakers]
        mood = list(MOODS)[place // speakers % len(MOODS)]
        number = next(supply[speaker.number, mood], None)
        if number is None:
            mood, number = "neutral", next(spare[speaker.number])
        name = f"{speaker.number}_procedural_0_{number}_{number}"
        folder = out / str(speaker.number)
        if not (folder / f"{name}.bvh").is_file():
            recording = open_speech(sound)
            waveform = np.concatenate(list(recording.chunks()))
            words = sound.with_suffix(".TextGrid")
            motion = speaker.perform(waveform, mood, fps, network)
            write_recording(folder, name, waveform, motion, words if words.is_file() else None)
        yield name


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path, help="folder of recordings; a .TextGrid beside one gives its words")
    parser.add_argument("out", type=Path)
    parser.add_argument("--speakers", type=int, default=4)
    parser.add_argument("--limit", type=int, help="use this many recordings, picked by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--reader", default="shipped:audio",
        help="network of phones, for lips that say them; none: lips from the spectrum (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--fps", type=float, default=FACE_FPS, help="of the faces, as BEAT has them or as a model will"
    )
    args = parser.parse_args(argv)
    if args.speakers < 1:
        parser.error(f"--speakers must be at least 1, got {args.speakers}")
    from tqdm import tqdm

    try:
        reader = None if args.reader == "none" else located(args.reader)
        names = make_corpus(args.speech, args.out, args.speakers, args.limit, args.seed, reader, args.fps)
        made = sum(1 for _ in tqdm(names, unit="file"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{made} recordings of {args.speakers} speakers in {args.out}; check: python -m pose.datasets {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
