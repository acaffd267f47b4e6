"""TED Gesture (Yoon et al. 2020) and TED Expressive (Liu et al. 2022): talks as directions of bones, 15 fps.

    FOLDER/lmdb_{train,val,test}, or lmdb_*_s_v / the like: one LMDB environment each, key {:010}, one video a value

A video is {"vid", "clips": [{"skeletons_3d" (F, J, 3), "audio_raw" (N,) 16 kHz, "words" [[word, start, end]],
"start_frame_no", "end_frame_no", "start_time", "end_time"}]}. As published the values are written by
`pyarrow.serialize`, which current pyarrow cannot read: convert once, in an environment of its own, by
`pose/datasets/ted_convert.py`; its output, plain .npz values, is what is read here.

J is 10 (TED Gesture) or 43 (Expressive). Bones and their order are `pose.representations.directions`'. In the data y
points down and the left arm to -x (the published mean directions show it); here they are turned to y up, left +x.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.acoustics import SAMPLE_RATE
from pose.datasets.clip import Clip, Recording, resampled_curves
from pose.representations.directions import EXPRESSIVE_BONES
from pose.rotations import normalized
from pose.textgrid import Interval

FPS = 15.0
AXES = np.array((-1.0, -1.0, 1.0), np.float32)  # from the data's axes to ours: half a turn about z
# (from, to) point of each bone: 10 points of TED Gesture in the published order.
TED_PAIRS = ((0, 1), (1, 2), (2, 3), (1, 4), (4, 5), (5, 6), (1, 7), (7, 8), (8, 9))


def _expressive_pairs() -> tuple[tuple[int, int], ...]:
    """(from, to) points of the 42 bones of TED Expressive: trunk, arms, then five chains of three from each hand."""
    names: list[str] = [EXPRESSIVE_BONES[0][0]]
    for bone in EXPRESSIVE_BONES:
        names.append(bone[1])
    return tuple((names.index(start), names.index(end)) for start, end in EXPRESSIVE_BONES)


EXPRESSIVE_PAIRS = _expressive_pairs()
# The published filters of a clip (Yoon et al.): how still, how bent, how little the wrists move.
MINIMUM_MOVEMENT = 0.02
MAXIMUM_LEAN = (30.0, 20.0)  # degrees: largest, mean
MINIMUM_WRIST_VARIANCE = 0.0014
MINIMUM_WORDS = 2


class Ted:
    """A copy of TED Gesture or TED Expressive, converted. There is one style, and a speaker a video."""

    def __init__(self, folder: str | Path, filtered: bool = True) -> None:
        import lmdb

        self._filtered = filtered
        self._environments: dict[Path, Any] = {}
        recordings, self.faults = [], list[tuple[str, str]]()
        for data in sorted(Path(folder).rglob("data.mdb")):
            place = data.parent
            split = next((name for name in ("train", "val", "test") if name in place.name), "train")
            try:
                environment = lmdb.open(str(place), readonly=True, lock=False, readahead=False)
                with environment.begin() as transaction:
                    for key, value in transaction.cursor():
                        recordings += self._listed(place, split, key.decode("ascii", "replace"), bytes(value))
            except lmdb.Error as error:
                self.faults.append((str(place), f"not an LMDB that can be read: {error}"))
                continue
            self._environments[place] = environment
        self.recordings = tuple(recordings)

    def _listed(self, place: Path, split: str, key: str, value: bytes) -> list[Recording]:
        try:
            video = decode_video(value)
        except ValueError as error:
            self.faults.append((f"{place.name}/{key}", str(error)))
            return []
        files = {"motion": place / "data.mdb"}
        return [
            Recording(f"{video['vid']}/{clip}", str(video["vid"]), "talk", split, files, f"{key}/{clip}")
            for clip in range(len(video["clips"]))
        ]

    def load(self, recording: Recording, fps: float = FPS) -> Clip:
        """Directions (F, 9 or 42, 3), the waveform and the words of one clip; no rotations."""
        key, number = recording.part.split("/")
        with self._environments[recording.files["motion"].parent].begin() as transaction:
            value = transaction.get(key.encode("ascii"))
        if value is None:
            raise ValueError(f"{recording.name}: the record {key} is gone")
        clip = decode_video(bytes(value))["clips"][int(number)]
        points = np.asarray(clip["skeletons_3d"], np.float32)
        pairs = {10: TED_PAIRS, 43: EXPRESSIVE_PAIRS}.get(points.shape[1] if points.ndim == 3 else 0)
        if pairs is None or points.shape[2] != 3:
            raise ValueError(f"{recording.name}: skeletons_3d is {points.shape}, expected (F, 10 or 43, 3)")
        points = points * AXES
        if not np.isfinite(points).all():
            raise ValueError(f"{recording.name}: skeletons_3d holds NaN or infinite values")
        duration = float(clip["end_time"] - clip["start_time"])
        if len(points) < 2 or duration <= 0:
            raise ValueError(f"{recording.name}: {len(points)} frames in {duration:.2f} s")
        rate = len(points) / duration
        if not 5 < rate < 65:
            raise ValueError(f"{recording.name}: {len(points)} frames in {duration:.2f} s are {rate:.0f} fps")
        points = resampled_curves(points.reshape(len(points), -1), rate, fps, int(duration * fps)).reshape(
            -1, *points.shape[1:]
        )
        words = tuple(
            Interval(float(start) - clip["start_time"], float(end) - clip["start_time"], str(word))
            for word, start, end in clip["words"]
        )
        directions = normalized(np.stack([points[:, b] - points[:, a] for a, b in pairs], 1)).astype(np.float32)
        if self._filtered:
            reason = unsuitable(directions, points, len(words))
            if reason:
                raise ValueError(f"{recording.name}: {reason} (the dataset's own filter)")
        waveform = np.asarray(clip["audio_raw"], np.float32).ravel()
        if not np.isfinite(waveform).all():
            raise ValueError(f"{recording.name}: the sound holds NaN or infinite samples")
        notes: tuple[str, ...] = ()
        if abs(len(waveform) / SAMPLE_RATE - duration) > 0.5:
            notes = (f"{len(waveform) / SAMPLE_RATE:.1f} s of sound for {duration:.1f} s of motion",)
        return Clip(
            recording.name, recording.speaker, recording.style, recording.split, fps, waveform,
            directions=directions, words=words, notes=notes,
        ).trimmed()  # fmt: skip


def unsuitable(directions: NDArray[np.float32], points: NDArray[np.float32], words: int) -> str:
    """Why the published filters leave a clip out; empty when they do not."""
    if words < MINIMUM_WORDS:
        return f"{words} words, at least {MINIMUM_WORDS} are needed"
    if np.abs(directions - directions.mean(0)).mean() < MINIMUM_MOVEMENT:
        return "hardly any movement"
    lean = np.degrees(np.arccos(np.clip(np.abs(directions[:, 0, 1]), 0, 1)))
    if lean.max() > MAXIMUM_LEAN[0] or lean.mean() > MAXIMUM_LEAN[1]:
        return f"the spine leans {lean.max():.0f}°, {lean.mean():.0f}° on average"
    wrists = (6, 9) if points.shape[1] == 10 else (5, 22)
    if max(points[:, wrist].var(0).sum() for wrist in wrists) < MINIMUM_WRIST_VARIANCE:
        return "the wrists do not move"
    return ""


def decode_video(value: bytes) -> dict[str, Any]:
    """The video in a record that `ted_convert.encode_video` wrote; ValueError for others."""
    if not value.startswith(b"PK"):
        raise ValueError(
            "the record is not converted (pyarrow.serialize) or broken; run pose/datasets/ted_convert.py on the folder"
        )
    try:
        with np.load(io.BytesIO(value), allow_pickle=False) as file:
            video: dict[str, Any] = json.loads(file["json"].tobytes())
            for number, clip in enumerate(video["clips"]):
                for name in ("skeletons_3d", "audio_raw"):
                    clip[name] = file[f"{name}/{number}"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"the record is broken: {error}") from None
    return video
