"""The files of a gesture evaluation: reading motion, matching by name, measuring one file, keeping what was measured.

A result is kept as NAME.json (and NAME.npz with FGD features) beside a key of everything it was made from; a run that
was stopped goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.bvh import read_bvh
from pose.datasets.beat import read_face, read_semantics
from pose.datasets.clip import held_at, read_sound, resampled_curves
from pose.datasets.mapping import on_home
from pose.datasets.smplx import smplx_motion
from pose.metrics.control import fitted
from pose.metrics.extractors import BlendshapeEncoder
from pose.metrics.gesture_features import GestureFeatures
from pose.metrics.suite import WINDOW_FPS, Body, Values, measure_against, measure_audio, measure_motion
from pose.motion import Motion

VERSION = 3  # of the measures; older kept results are not used
MOTIONS, SOUNDS = (".bvh", ".npz"), (".wav", ".flac", ".ogg", ".mp3")
ROWS = ("generated", "generated, other audio", "ground truth", "ground truth, other audio")
SHORTEST_S = 2.0
APART_S = 0.5  # lengths that differ by more are told


@dataclass(frozen=True)
class Job:
    """One file: its motion, and what is known beside it."""

    name: str
    motion: Path
    audio: Path | None
    reference: Path | None
    other_audio: Path | None
    semantic: Path | None
    extractor: Path | None
    kept: Path  # folder of results
    expression: Path | None = None  # weights of SAiD's face encoder


def find(given: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files by stem: of a folder and those below it, or listed one a line in a text file."""
    if given.is_dir():
        paths = sorted(path for path in given.rglob("*") if path.suffix.lower() in suffixes)
    elif given.suffix.lower() in suffixes and given.is_file():
        paths = [given]
    elif given.is_file():
        lines = [line.strip() for line in given.read_text(encoding="utf-8").splitlines()]
        paths = [given.parent / line for line in lines if line and not line.startswith("#")]
    else:
        raise ValueError(f"{given} does not exist")
    if not paths:
        raise ValueError(f"{given} holds no {', '.join(suffixes)} files")
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise ValueError(f"{path} and {found[path.stem]} have one name; names tell which files belong together")
        found[path.stem] = path
    return found


def speaker_of(name: str) -> str:
    """What stands before the first _ or -: BEAT's and LibriSpeech's speaker numbers."""
    return name.replace("-", "_").split("_")[0]


def read_motion(path: Path) -> Motion:
    """A .bvh (with the face of BEAT's .json beside it), a Motion .npz or a BEAT2 .npz, on the home skeleton."""
    if path.suffix.lower() == ".bvh":
        motion = on_home(read_bvh(path))
        face = face_beside(path)
        if face is None:
            return motion
        curves, rate = read_face(face, [])
        return replace(motion, expression=resampled_curves(curves, rate, motion.fps, len(motion)))
    try:
        with np.load(path, allow_pickle=False) as file:
            smplx = {"poses", "trans", "mocap_frame_rate"} <= set(file.files)
            fields = {name: file[name] for name in ("poses", "trans", "mocap_frame_rate")} if smplx else {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no whole .npz of plain arrays: {error}") from None
    if smplx:
        return smplx_motion(fields["poses"], fields["trans"], float(fields["mocap_frame_rate"]))
    return on_home(Motion.load(path))


def face_beside(path: Path) -> Path | None:
    """BEAT's file of the face of a .bvh, where there is one."""
    face = path.with_suffix(".json")
    return face if path.suffix.lower() == ".bvh" and face.is_file() else None


def measure_file(job: Job) -> tuple[str, str]:
    """Measure one file, in a worker process, unless its result is kept; its name and why it is broken, or ""."""
    import torch

    torch.set_num_threads(1)
    path, key = job.kept / f"{job.name}.json", _key(job)
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("key") == key:
        return job.name, ""
    try:
        rows, notes = _measure(job)
    except (ValueError, OSError) as error:
        return job.name, " ".join(str(error).split())
    features = {f"{row}|{kind}": part for row, values in rows.items() for kind, part in values.features.items()}
    np.savez(path.with_suffix(".npz"), **features)
    content = {
        "key": key,
        "notes": notes,
        "rows": {row: {"values": values.values, "reasons": values.reasons} for row, values in rows.items()},
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(path)
    return job.name, ""


def read_result(job: Job) -> tuple[dict[str, Values], list[str]]:
    """Rows and notes of a kept result."""
    content: dict[str, Any] = json.loads((job.kept / f"{job.name}.json").read_text(encoding="utf-8"))
    rows = {
        row: Values({k: (v[0], v[1]) for k, v in part["values"].items()}, part["reasons"])
        for row, part in content["rows"].items()
    }
    with np.load(job.kept / f"{job.name}.npz") as file:
        for key in file.files:
            row, kind = key.split("|")
            rows[row].features[kind] = file[key]
    return rows, content["notes"]


def _measure(job: Job) -> tuple[dict[str, Values], list[str]]:
    notes: list[str] = []
    motion = read_motion(job.motion)
    reference = read_motion(job.reference) if job.reference else None
    sound = read_sound(job.audio) if job.audio else None
    other = _other_sound(job.other_audio, notes) if job.other_audio else None
    lengths = {"motion": motion.duration_s}
    lengths |= {"ground truth": reference.duration_s} if reference is not None else {}
    lengths |= {"audio": len(sound) / 16000} if sound is not None else {}
    seconds = min(lengths.values())
    if seconds < SHORTEST_S:
        shown = ", ".join(f"{name} {length:.2f} s" for name, length in lengths.items())
        raise ValueError(f"shorter than {SHORTEST_S:g} s ({shown})")
    if max(lengths.values()) - seconds > APART_S:
        notes.append("cut to the shortest: " + ", ".join(f"{n} {length:.2f} s" for n, length in lengths.items()))
    if reference is not None and abs(reference.fps - motion.fps) > 1e-3:
        notes.append(f"{motion.fps:g} fps beside {reference.fps:g} fps; both are measured at 30 and 15")
    extractor = _extractor(job.extractor) if job.extractor else None
    expression = face_encoder(job.expression) if job.expression else None

    true = Body(_cut(reference, seconds)) if reference is not None else None
    body = Body(_cut(motion, seconds))
    rows = {}
    samples = int(seconds * 16000)
    for name, who in (("generated motion", body), ("ground truth", true)):
        if who is not None and not np.ptp(who.motion.rotations, axis=0).any():
            notes.append(f"the {name} is constant: its diversity, jerk and range are truly 0, and it has no beats")
    for name, who in (("generated", body), ("ground truth", true)):
        if who is None:
            continue
        speed = (true or body).mean_speed
        values = measure_motion(who, extractor, expression)
        if sound is not None:
            _take(values, measure_audio(who, sound[:samples], speed))
        if other is not None:
            rows[f"{name}, other audio"] = measure_audio(who, fitted(other, samples).astype(np.float32), speed)
        rows[name] = values
    if true is not None:
        _take(rows["generated"], measure_against(body, true, _semantic(job.semantic, len(true.euler), notes)))
    return rows, notes


def _other_sound(path: Path, notes: list[str]) -> NDArray[np.float32] | None:
    """Another file's speech; one that cannot be used costs this file a row and not its measures."""
    try:
        sound = read_sound(path)
        if len(sound) < SHORTEST_S * 16000:
            raise ValueError(f"{path} is shorter than {SHORTEST_S:g} s")
    except (ValueError, OSError) as error:
        notes.append(f"no other audio: {' '.join(str(error).split())}")
        return None
    return sound


def _take(values: Values, more: Values) -> None:
    values.values |= more.values
    values.reasons |= more.reasons


def _cut(motion: Motion, seconds: float) -> Motion:
    return motion[: int(np.ceil(seconds * motion.fps - 1e-6))]


def _semantic(path: Path | None, frames: int, notes: list[str]) -> NDArray[np.float32] | None:
    if path is None:
        return None
    scores = read_semantics(path)
    if not scores:
        notes.append(f"{path.name} holds no line of BEAT's semantic scores (name, start, end, duration, score)")
    return held_at(WINDOW_FPS, frames, scores)


@lru_cache(maxsize=1)
def _extractor(folder: Path) -> GestureFeatures:
    extractor: GestureFeatures = GestureFeatures.from_pretrained(folder)
    return extractor.eval()


@lru_cache(maxsize=1)
def face_encoder(path: Path) -> BlendshapeEncoder:
    """SAiD's encoder with a user's weights; ValueError when the file is none."""
    encoder = BlendshapeEncoder()
    encoder.load(path)
    return encoder


def _key(job: Job) -> str:
    parts: list[object] = [VERSION, job.name]
    faces = [face_beside(path) if path else None for path in (job.motion, job.reference)]
    for path in (job.motion, job.audio, job.reference, job.other_audio, job.semantic, job.expression, *faces):
        parts.append([str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] if path else None)
    parts.append(_extractor(job.extractor).name if job.extractor else None)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
