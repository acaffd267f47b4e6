"""ZeroEGGS (Ghorbani et al. 2022): one speaker, 19 styles, BVH at 60 fps (z, y, x angles, 75 joints).

    FOLDER/original/001_Neutral_0.{bvh,wav} and FOLDER/info.csv       as released: cut here to the acting times
    FOLDER/{train,valid}/001_Neutral_0_x_1_0.{bvh,wav}                processed: already cut, with mirrored copies

Recordings named in info.csv with a validation flag, or in a folder called valid, are the validation set. The licence
(CC BY-NC-ND) does not allow passing on what is derived from the data.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from pose.acoustics import SAMPLE_RATE
from pose.bvh import read_bvh
from pose.datasets.clip import Clip, Recording, read_sound
from pose.datasets.mapping import on_home

_NAME = re.compile(r"(\d{3})_([A-Za-z]+)_(\d+)")
_TIMES = ("anim_start_time", "audio_start_time", "acting_start_time", "acting_end_time")


class ZeroEggs:
    """A copy of ZeroEGGS. `mirrored` keeps the mirrored and stretched copies of the processed set."""

    def __init__(self, folder: str | Path, mirrored: bool = False) -> None:
        folder = Path(folder)
        self._info = _read_info(folder / "info.csv") if (folder / "info.csv").is_file() else {}
        recordings, self.faults = [], list[tuple[str, str]]()
        for bvh in sorted(folder.rglob("*.bvh")):
            match = _NAME.match(bvh.stem)
            if not match:
                self.faults.append((bvh.name, "the name is not take_Style_part"))
                continue
            if not mirrored and ("mirror" in bvh.stem or re.search(r"_x_(?!1_0$)", bvh.stem)):
                continue
            row = self._info.get(bvh.name, {})
            sound = bvh.parent / row["audio_filename"] if row else bvh.with_suffix(".wav")
            if not sound.is_file():
                self.faults.append((bvh.stem, f"no {sound.name}"))
                continue
            held_out = "valid" in bvh.parts[-2] or row.get("validation", "").lower() in ("1", "true", "yes")
            recordings.append(
                Recording(
                    bvh.stem, "zeroeggs", match[2], "val" if held_out else "train", {"motion": bvh, "sound": sound}
                )
            )
        self.recordings = tuple(recordings)

    def load(self, recording: Recording, fps: float = 20.0) -> Clip:
        """Motion on the home skeleton; words are not aligned."""
        path = recording.files["motion"]
        motion, waveform = read_bvh(path), read_sound(recording.files["sound"])
        row = self._info.get(path.name)
        if row:
            anim, audio, start, end = (_seconds(row[name], name, path) for name in _TIMES)
            if start < max(anim, audio) - 1e-6 or end <= start:
                raise ValueError(f"{path}: info.csv has impossible times {', '.join(row[name] for name in _TIMES)}")
            motion = motion[round((start - anim) * motion.fps) : round((end - anim) * motion.fps)]
            waveform = waveform[round((start - audio) * SAMPLE_RATE) : round((end - audio) * SAMPLE_RATE)]
        return Clip(
            recording.name, recording.speaker, recording.style, recording.split, fps, waveform,
            on_home(motion.resampled(fps)), notes=("no words",),
        ).trimmed()  # fmt: skip


def _seconds(code: str, column: str, path: Path) -> float:
    """hours:minutes:seconds:frames; the sound's frames are of 30 a second, the others' of 60."""
    try:
        hours, minutes, seconds, frames = (int(part) for part in code.split(":"))
    except ValueError:
        raise ValueError(f"{path}: {column} in info.csv is {code!r}, not hours:minutes:seconds:frames") from None
    return 3600 * hours + 60 * minutes + seconds + frames / (30 if column == "audio_start_time" else 60)


def _read_info(path: Path) -> dict[str, dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {"anim_bvh", "audio_filename", *_TIMES} - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    return {row["anim_bvh"]: row for row in rows}
