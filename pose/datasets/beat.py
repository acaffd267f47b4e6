"""BEAT (Liu et al., ECCV 2022): 30 speakers, BVH at 120 fps, ARKit faces at 60 fps, words, meaning and emotion.

    FOLDER/2/2_scott_0_1_1.{wav,bvh,json,TextGrid,txt,csv}      or all files in one folder

Names are {speaker}_{name}_{type}_{first}_{last}: type 0 is an English monologue, 1 a conversation, 2 to 7 other
languages; the number of a monologue tells its emotion. The files' contents:

    bvh        75 joints, XYZ Euler angles that may be unwrapped (beyond 180°): read as rotations, which removes that
    json       {"names": [51], "frames": [{"weights": [51], "time": s}, …]} at 60 fps, alphabetical, no tongueOut;
               other times, such as those of our own corpus, are other rates
    TextGrid   words in the first tier
    txt        tab separated: name, start, end, duration, score, keywords: semantic gestures
    csv        emotion; the same for a whole recording and told by its number, so it is not read
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.acoustics import SAMPLE_RATE
from pose.bvh import read_bvh
from pose.datasets.clip import Clip, Recording, held_at, read_sound, resampled_curves
from pose.datasets.mapping import on_home
from pose.motion import EXPRESSION_NAMES, Motion
from pose.skeleton import Skeleton
from pose.textgrid import Interval, read_textgrid

Array = NDArray[np.float32]

FPS = 120.0
FACE_FPS = 60.0
EMOTIONS = ("neutral", "happiness", "anger", "sadness", "contempt", "surprise", "fear", "disgust")
# First monologue of each emotion; the lists of the authors' loader. From 119 on: neutral.
_FIRST = (1, 65, 73, 81, 87, 95, 103, 111, 119)
# Official division of the ten four-hour speakers (98, 16 and 16 recordings each): monologues, conversations.
_TEST = ({1, 2, 3, 4, 5, 6, 7, 8, 65, 73, 81, 87, 95, 103, 111}, {1})
_VALIDATION = ({57, 58, 59, 60, 61, 62, 63, 64, 72, 80, 86, 94, 102, 110, 118}, {12})
# And that of the twenty one-hour speakers. Of each emotion's first monologue, and of the conversation, the first half
# is for testing and the second for validation, cut after so many seconds. 1_0 and 1_4 are there for speaker 29 alone.
ONE_HOUR = frozenset({5, 10, *range(12, 21), *range(22, 31)})
_TEST_1H = ({1, 2, 3, 4}, set[int]())
_VALIDATION_1H = ({5, 6, 7, 8}, set[int]())
_TRAIN_1H = ({*range(9, 17), 66, 74, 82, 88, 96, 104, 112, 118}, {0, 2, 3, 4})
_HALVED_1H = ({65, 73, 81, 87, 95, 103, 111}, {1})
_HALF_S = (30.0, 300.0)
_NAME = re.compile(r"(\d+)_([^_]+)_(\d)_(\d+)_(\d+)$")


def emotion_of(kind: int, number: int) -> str:
    """Emotion of a recording by its type and number; conversations are neutral."""
    if kind % 2:
        return EMOTIONS[0]
    index = sum(number >= first for first in _FIRST[1:])
    return EMOTIONS[index % len(EMOTIONS)]


def split_of(kind: int, number: int) -> str:
    """train, val or test of a four-hour speaker's recording by its type and number."""
    return "test" if number in _TEST[kind % 2] else "val" if number in _VALIDATION[kind % 2] else "train"


def splits_of(speaker: int, kind: int, number: int) -> dict[str, str]:
    """Split by part: "" for a whole recording, "a" and "b" for the halves that one-hour speakers' files are cut in.

    What the authors' list of the one-hour speakers leaves out is "additional". Speakers whom BEAT does not have are
    divided as the four-hour ones.
    """
    form = kind % 2
    if speaker not in ONE_HOUR:
        return {"": split_of(kind, number)}
    if number in _HALVED_1H[form]:
        return {"a": "test", "b": "val"}
    for split, lists in (("test", _TEST_1H), ("val", _VALIDATION_1H), ("train", _TRAIN_1H)):
        if number in lists[form]:
            return {"": split}
    return {"": "additional"}


class Beat:
    """A copy of BEAT. `emotions` are its styles; speakers are its numbers as text."""

    def __init__(self, folder: str | Path) -> None:
        recordings, self.faults = [], list[tuple[str, str]]()
        for bvh in sorted(Path(folder).rglob("*.bvh"), key=_order):
            match = _NAME.match(bvh.stem)
            if not match:
                self.faults.append((bvh.name, "the name is not speaker_name_type_first_last"))
                continue
            if not bvh.with_suffix(".wav").is_file():
                self.faults.append((bvh.stem, "no .wav beside the .bvh"))
                continue
            files = {"motion": bvh, "sound": bvh.with_suffix(".wav")}
            for kind, suffix in (("face", ".json"), ("words", ".TextGrid"), ("semantic", ".txt")):
                if bvh.with_suffix(suffix).is_file():
                    files[kind] = bvh.with_suffix(suffix)
            speaker, _, kind_, first, _ = match.groups()
            style = emotion_of(int(kind_), int(first))
            for part, split in splits_of(int(speaker), int(kind_), int(first)).items():
                name = f"{bvh.stem}_{part}" if part else bvh.stem
                recordings.append(Recording(name, speaker, style, split, files, part))
        known = {recording.files["motion"].stem for recording in recordings}
        for sound in sorted(Path(folder).rglob("*.wav"), key=_order):
            if _NAME.match(sound.stem) and sound.stem not in known and not sound.with_suffix(".bvh").is_file():
                self.faults.append((sound.stem, "no .bvh beside the .wav"))
        self.recordings = tuple(recordings)

    def load(self, recording: Recording, fps: float = 30.0) -> Clip:
        """Motion on the home skeleton, the face inside it."""
        notes: list[str] = []
        waveform = read_sound(recording.files["sound"])
        motion = _motion(recording.files["motion"], len(waveform) / SAMPLE_RATE, notes).resampled(fps)
        if "face" in recording.files:
            face, rate = read_face(recording.files["face"], notes)
            motion = replace(motion, expression=resampled_curves(face, rate, fps, len(motion)))
        else:
            notes.append("no face .json")
        words = None
        if "words" in recording.files:
            try:
                words = words_of(recording.files["words"])
            except ValueError as error:
                notes.append(str(error))
        else:
            notes.append("no TextGrid: no words")
        semantic = None
        if "semantic" in recording.files:
            semantic = held_at(fps, len(motion), read_semantics(recording.files["semantic"]))
        clip = Clip(
            recording.name, recording.speaker, recording.style, recording.split, fps, waveform, motion,
            words=words, semantic=semantic, notes=tuple(notes),
        ).trimmed()  # fmt: skip
        if not recording.part:
            return clip
        half = _HALF_S[int(_NAME.match(recording.files["motion"].stem)[3]) % 2]  # type: ignore[index]
        return clip.between(0, half) if recording.part == "a" else clip.between(half, clip.duration_s)


def words_of(path: Path) -> tuple[Interval, ...]:
    """Spoken words: the first tier of a TextGrid without its silences."""
    tiers = read_textgrid(path)
    if not tiers:
        raise ValueError(f"{path} has no tier of words")
    return tuple(word for word in next(iter(tiers.values())) if word.text)


def read_face(path: Path, notes: list[str]) -> tuple[Array, float]:
    """ARKit coefficients (n, 51) in [0, 1], and frames a second: 60 where the file's times say nothing else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(content["names"])
        rows = [frame["weights"] for frame in content["frames"]]
        values = np.array(rows, np.float32)
        times = [float(frame.get("time", k / FACE_FPS)) for k, frame in enumerate(content["frames"])]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no whole face file: {error}") from None
    missing = set(EXPRESSION_NAMES) - set(names)
    if missing or values.ndim != 2 or values.shape[1] != len(names):
        raise ValueError(
            f"{path}: coefficients {values.shape} for {len(names)} names, missing {', '.join(sorted(missing))}"
        )
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"{path} holds {'no' if len(values) == 0 else 'NaN or infinite'} coefficients")
    values = values[:, [names.index(name) for name in EXPRESSION_NAMES]]
    if values.min() < -0.01 or values.max() > 1.01:
        notes.append(f"face coefficients from {values.min():.2f} to {values.max():.2f} were clipped to [0, 1]")
    rate = (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else FACE_FPS
    return np.clip(values, 0.0, 1.0), round(rate, 2)  # times are written to fractions of a millisecond


def read_semantics(path: Path) -> list[tuple[float, float, float]]:
    """(start s, end s, score) of the gestures with meaning; the annotators' scores are 0 to 1 (some files: to 10)."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        cells = line.split("\t")
        if len(cells) < 5:
            continue
        try:
            start, end, score = float(cells[1]), float(cells[2]), float(cells[4])
        except ValueError:
            raise ValueError(f"{path}, line {number}: start, end and score must be numbers, got {line!r}") from None
        rows.append((start, end, score if score <= 1 else score / 10))
    return rows


def _motion(path: Path, sound_s: float, notes: list[str]) -> Motion:
    try:
        motion = read_bvh(path)
    except ValueError as error:
        if "the header says" not in str(error):
            raise
        motion = read_bvh(path, strict=False)  # 2_scott_0_103_110 and others
        if len(motion) / FPS < 0.9 * sound_s:  # more than a miscounted header
            raise ValueError(f"{error} (the sound lasts {sound_s:.1f} s: the file is cut off)") from None
        notes.append(f"the frame count in the header is wrong; {len(motion)} frames are there")
    # 29_hanieh_1_4_4 says 24 fps over 120 fps data: believe the sound.
    if abs(motion.fps - FPS) > 0.5:
        if abs(len(motion) / FPS - sound_s) < 0.1 * sound_s < abs(len(motion) / motion.fps - sound_s):
            notes.append(f"the header says {motion.fps:.2f} fps; the length of the sound says {FPS:g}")
            motion = replace(motion, fps=FPS)
        else:
            notes.append(f"{motion.fps:.2f} fps instead of {FPS:g}")
    try:
        return on_home(motion, required=Skeleton.home().names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _order(path: Path) -> tuple[str, list[int | str]]:
    numbers: list[int | str] = [int(part) if part.isdigit() else part for part in path.stem.split("_")]
    return str(path.parent), [str(part).rjust(9) for part in numbers]
