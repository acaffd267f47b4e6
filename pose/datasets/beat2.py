"""BEAT2 (Liu et al., CVPR 2024): BEAT's English speakers as SMPL-X bodies with FLAME faces, 30 fps.

    FOLDER/{smplxflame_30,wave16k,textgrid,sem}/2_scott_0_1_1.{npz,wav,TextGrid,txt}    FOLDER/train_test_split.csv

The split file gives train, val, test or additional by name; without it the division of BEAT by number serves. A folder
of .npz with .wav beside them works too. Sessions of five of the 30 speakers are unusable and are not in the release.
"""

from __future__ import annotations

import csv
import re
import zipfile
from pathlib import Path

import numpy as np

from pose.datasets.beat import emotion_of, read_semantics, split_of, words_of
from pose.datasets.clip import Clip, Recording, held_at, read_sound, resampled_curves
from pose.datasets.smplx import smplx_face, smplx_motion

_NAME = re.compile(r"(\d+)_([^_]+)_(\d)_(\d+)_(\d+)$")
_SPLITS = ("train", "val", "test", "additional")
_NEEDED = ("poses", "trans", "expressions", "mocap_frame_rate")
# Folders of the release and the kinds of their files.
_PARTS = (("sound", "wave16k", ".wav"), ("words", "textgrid", ".TextGrid"), ("semantic", "sem", ".txt"))


class Beat2:
    """A copy of BEAT2."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        listed = next(iter(sorted(folder.rglob("train_test_split.csv"))), None)
        splits = _read_splits(listed) if listed else {}
        recordings, self.faults = [], list[tuple[str, str]]()
        seen: set[str] = set()
        for npz in sorted(folder.rglob("*.npz")):
            match = _NAME.match(npz.stem)
            if not match:
                continue  # weights and statistics lie beside the data
            files = {"motion": npz}
            for kind, part, suffix in _PARTS:
                places = (npz.parent.parent / part / f"{npz.stem}{suffix}", npz.with_suffix(suffix))
                found = next((place for place in places if place.is_file()), None)
                if found:
                    files[kind] = found
            seen.add(npz.stem)
            if "sound" not in files:
                self.faults.append((npz.stem, "no .wav in wave16k or beside the .npz"))
                continue
            speaker, _, kind_, first, _ = match.groups()
            split = splits.get(npz.stem) if splits else split_of(int(kind_), int(first))
            if split is None:
                self.faults.append((npz.stem, "not listed in train_test_split.csv"))
                continue
            recordings.append(Recording(npz.stem, speaker, emotion_of(int(kind_), int(first)), split, files))
        self.faults += [(name, "listed in train_test_split.csv, no .npz") for name in sorted(set(splits) - seen)]
        self.recordings = tuple(recordings)

    def load(self, recording: Recording, fps: float = 30.0) -> Clip:
        """Motion on the home skeleton; `face` is the jaw's axis angle (3) and FLAME's expression parameters (100)."""
        path, notes = recording.files["motion"], list[str]()
        try:
            with np.load(path, allow_pickle=False) as file:
                fields = {name: file[name] for name in file.files if name in _NEEDED}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.error) as error:
            raise ValueError(f"{path} is no whole .npz of plain arrays: {error}") from None
        if set(_NEEDED) - set(fields):
            raise ValueError(f"{path} lacks {', '.join(sorted(set(_NEEDED) - set(fields)))}")
        rate = float(fields["mocap_frame_rate"])
        if not 1 <= rate <= 240:
            raise ValueError(f"{path}: mocap_frame_rate is {rate:g}")
        lengths = {len(fields[name]) for name in ("poses", "trans", "expressions")}
        if len(lengths) > 1:
            notes.append(f"poses, trans and expressions have {sorted(lengths)} frames; cut to the shortest")
        frames = min(lengths)
        try:
            motion = smplx_motion(fields["poses"][:frames], fields["trans"][:frames], rate).resampled(fps)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        face = resampled_curves(smplx_face(fields["poses"], fields["expressions"], frames), rate, fps, len(motion))
        words = words_of(recording.files["words"]) if "words" in recording.files else None
        if words is None:
            notes.append("no TextGrid: no words")
        semantic = None
        if "semantic" in recording.files:
            semantic = held_at(fps, len(motion), read_semantics(recording.files["semantic"]))
        return Clip(
            recording.name, recording.speaker, recording.style, recording.split, fps,
            read_sound(recording.files["sound"]), motion, words=words, semantic=semantic, face=face,
            notes=tuple(notes),
        ).trimmed()  # fmt: skip


def _read_splits(path: Path) -> dict[str, str]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"id", "type"} <= set(rows[0]):
        raise ValueError(f"{path} must have the columns id and type")
    unknown = sorted({row["type"] for row in rows} - set(_SPLITS))
    if unknown:
        raise ValueError(f"{path}: unknown splits {', '.join(unknown)}; known are {', '.join(_SPLITS)}")
    return {row["id"]: row["type"] for row in rows}
