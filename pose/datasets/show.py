"""SHOW (Yi et al., TalkSHOW, CVPR 2023): four talk show hosts as SMPL-X bodies, 30 fps, fitted to video.

    FOLDER/{oliver,chemistry,seth,conan}/{video}/{clip}/{clip}.{pkl,wav}

A pickle holds jaw_pose, leye_pose, reye_pose, global_orient (F, 3), body_pose_axis (F, 63), left_hand_pose and
right_hand_pose (F, 12) as PCA coefficients or (F, 45), expression (F, 100), betas, transl. The 12 coefficients need
the components of the SMPL-X hand model, which are licensed: put the project's `hand_component.json` into FOLDER, or
the fingers rest. The pickles are read without running what is in them.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.datasets.clip import Clip, Recording, read_sound, resampled_curves
from pose.datasets.pickles import load_arrays
from pose.datasets.smplx import smplx_face, smplx_motion

FPS = 30.0
SPEAKERS = ("oliver", "chemistry", "seth", "conan")  # 20 to 23 in the project's code
MINIMUM_S = 2.0
_WIDTHS = {"jaw_pose": 3, "leye_pose": 3, "reye_pose": 3, "global_orient": 3, "body_pose_axis": 63}


class Show:
    """A copy of SHOW. There is one style; speakers are the hosts."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        component = next(iter(sorted(folder.rglob("hand_component.json"))), None)
        self._hands = _read_components(component) if component else None
        recordings, self.faults = [], list[tuple[str, str]]()
        for pkl in sorted(folder.rglob("*.pkl")):
            parts = pkl.relative_to(folder).parts
            speaker = next((name for name in SPEAKERS if name in parts), "")
            if not speaker:
                self.faults.append((str(pkl.relative_to(folder)), f"not inside a folder of {', '.join(SPEAKERS)}"))
                continue
            name = f"{speaker}/{'/'.join(parts[parts.index(speaker) + 1 : -1])}"
            if not pkl.with_suffix(".wav").is_file():
                self.faults.append((name, "no .wav beside the .pkl"))
                continue
            split = next((part for part in ("train", "val", "test") if part in parts), None) or _split(parts[-3])
            recordings.append(
                Recording(name, speaker, "talk show", split, {"motion": pkl, "sound": pkl.with_suffix(".wav")})
            )
        self.recordings = tuple(recordings)

    def load(self, recording: Recording, fps: float = FPS) -> Clip:
        """Motion on the home skeleton; `face` is the jaw's axis angle (3) and FLAME's expression parameters (100)."""
        path, notes = recording.files["motion"], list[str]()
        fields = load_arrays(path)
        if not isinstance(fields, dict):
            raise ValueError(f"{path} holds a {type(fields).__name__}, not a dictionary of arrays")
        parts = {name: _field(fields, name, path) for name in _WIDTHS}
        for name, values in parts.items():
            if values.shape[1] != _WIDTHS[name]:
                raise ValueError(f"{path}: {name} is {values.shape}, expected (F, {_WIDTHS[name]})")
        frames = len(parts["body_pose_axis"])
        hands = [self._fingers(fields, name, path, notes) for name in ("left_hand_pose", "right_hand_pose")]
        expression = _field(fields, "expression", path)
        lengths = {len(values) for values in (*parts.values(), *hands, expression)}
        if lengths != {frames}:
            raise ValueError(f"{path}: the arrays have different numbers of frames: {sorted(lengths)}")
        if frames < MINIMUM_S * FPS:
            raise ValueError(f"{path} lasts {frames / FPS:.1f} s; the dataset's own minimum is {MINIMUM_S:g} s")
        # The pickles' order is jaw, eyes, orientation, body, hands; SMPL-X's is orientation, body, jaw, eyes, hands.
        order = (
            *(parts[n] for n in ("global_orient", "body_pose_axis", "jaw_pose", "leye_pose", "reye_pose")),
            *hands,
        )
        translation = _field(fields, "transl", path) if "transl" in fields else np.zeros((frames, 3), np.float32)
        poses = np.concatenate(order, 1)
        try:
            motion = smplx_motion(poses, translation, FPS).resampled(fps)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return Clip(
            recording.name, recording.speaker, recording.style, recording.split, fps,
            read_sound(recording.files["sound"]), motion,
            face=resampled_curves(smplx_face(poses, expression, frames), FPS, fps, len(motion)), notes=tuple(notes),
        ).trimmed()  # fmt: skip

    def _fingers(self, fields: dict[str, Any], name: str, path: Path, notes: list[str]) -> NDArray[np.float32]:
        """(F, 45) axis angles."""
        values = _field(fields, name, path)
        if values.shape[1] == 45:
            return values
        if self._hands is None:
            note = "no hand_component.json in the folder: fingers at rest"
            if note not in notes:
                notes.append(note)
            return np.zeros((len(values), 45), np.float32)
        component = self._hands[name.split("_")[0]]
        if values.shape[1] != len(component):
            raise ValueError(
                f"{path}: {name} has {values.shape[1]} coefficients, hand_component.json {len(component)}"
            )
        return values @ component


def _field(fields: dict[str, Any], name: str, path: Path) -> NDArray[np.float32]:
    if name not in fields:
        raise ValueError(f"{path} lacks {name}; it has {', '.join(sorted(map(str, fields)))}")
    values = np.asarray(fields[name])
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{path}: {name} holds {values.dtype}, not numbers")
    values = np.atleast_2d(values).reshape(-1, values.shape[-1]).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {name} holds NaN or infinite values")
    return values


def _read_components(path: Path) -> dict[str, NDArray[np.float32]]:
    content = json.loads(path.read_text())
    try:
        return {side: np.array(content[side], np.float32).reshape(12, 45) for side in ("left", "right")}
    except (KeyError, ValueError, TypeError):
        raise ValueError(f"{path} must hold the 12 x 45 components of the left and the right hand") from None


def _split(video: str) -> str:
    """80, 10 and 10 % by video, so that clips of one video never stand on both sides (ours)."""
    place = zlib.crc32(video.encode()) % 10
    return "val" if place == 8 else "test" if place == 9 else "train"
