"""A prepared clip: some seconds of one person with everything that is computed once and learned from often.

One clip is one sample of a tar shard, WebDataset's KEY.ext:

    KEY.json         meta: what NEEDED names, and whatever else the maker writes (measures, identities of networks)
    KEY.mp4          pixels; KEY.matte.mp4 mattes; KEY.flac 16 kHz sound with context on both sides
    KEY.safetensors  the arrays of `Clip`, and more that a maker wants (`extra`)

Lengths are pixels of the clip's own frames, x right, y down. A photo is a clip of one frame.

Letters: F frames at 25 a second, H W size, K = 543 keypoints, C h w latents, V frames around one whose sound counts,
W = 2V + 1, L D states a frame and their width (avatar/models/audio_encoder.py), S side of an identity crop.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from avatar.data.pixels import (
    MATTE,
    decode_jpeg,
    decode_sound,
    decode_video,
    encode_jpeg,
    encode_sound,
    encode_video,
)
from pose.keypoints import COUNT, Keypoints

Array = NDArray[np.floating[Any]]
Image = NDArray[np.uint8]

FPS = 25.0
SAMPLE_RATE = 16000
FRAME_SAMPLES = 640  # SAMPLE_RATE / FPS
FRAMES = (25, 125)  # of a clip of a video; agreed with the trainers
SPLITS = ("train", "val")
NEEDED: dict[str, Any] = {
    "key": str, "source": str, "track": int, "start_s": (int, float), "frames": int, "fps": (int, float),
    "height": int, "width": int, "split": str, "sound": bool,
}  # fmt: skip
PARTS = ("face", "left hand", "right hand")


@dataclass(frozen=True, repr=False)
class Clip:
    """One clip. `make_clip` builds one from frames; shards give them back.

    `meta["sound_before"]`: frames of sound in front of the clip's first (context), where there is sound.
    `meta["audio_window"]`: V, where there are audio states.
    """

    meta: dict[str, Any]
    video: bytes
    points: Array  # (F, 543, 2) float32
    confidence: Array  # (F, 543) float32 in [0, 1]
    depth: Array  # (F, 543) float32, pose.keypoints.Detection's
    clarity: Array  # (F, 2) float32 as avatar.conditions.hand_clarity measures it, not standardised; NaN: no hand
    movement_box: Array  # (4,) float32 with `enlarge` 1: training enlarges it at random; NaN without shoulders
    boxes: Array  # (F, 3, 4) float32, face, left hand, right hand; NaN where not in view
    matte_video: bytes | None = None
    sound: bytes | None = None  # FLAC
    latents: Array | None = None  # (F, C, h, w) float16, scaled
    audio_states: Array | None = None  # (V + F + V, L, D) float16, before the trained projection
    crops_jpeg: tuple[bytes, ...] | None = None  # F strips (S, 3S, 3): face, left hand, right hand; black: not in view
    extra: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_meta(self.meta)
        frames = len(self)
        for name, shape in (
            ("points", (frames, COUNT, 2)),
            ("confidence", (frames, COUNT)),
            ("depth", (frames, COUNT)),
            ("clarity", (frames, 2)),
            ("movement_box", (4,)),
            ("boxes", (frames, 3, 4)),
        ):
            if getattr(self, name).shape != shape:
                raise ValueError(f"clip {self.key}: {name} must be {shape}, got {getattr(self, name).shape}")
        if self.latents is not None and len(self.latents) != frames:
            raise ValueError(f"clip {self.key}: {len(self.latents)} latents for {frames} frames")
        if self.audio_states is not None:
            expected = frames + 2 * int(self.meta.get("audio_window", 0))
            if len(self.audio_states) != expected:
                raise ValueError(f"clip {self.key}: {len(self.audio_states)} audio states, expected {expected}")
        if self.crops_jpeg is not None and len(self.crops_jpeg) != frames:
            raise ValueError(f"clip {self.key}: {len(self.crops_jpeg)} crops for {frames} frames")
        if (self.sound is not None) != self.meta["sound"]:
            raise ValueError(f"clip {self.key}: meta says sound={self.meta['sound']}, the clip says otherwise")

    def __repr__(self) -> str:
        return f"Clip({self.key}, {len(self)} frames of {self.size[0]} x {self.size[1]})"

    def __len__(self) -> int:
        return int(self.meta["frames"])

    @property
    def key(self) -> str:
        return str(self.meta["key"])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return int(self.meta["height"]), int(self.meta["width"])

    @property
    def split(self) -> str:
        return str(self.meta["split"])

    @property
    def keypoints(self) -> Keypoints:
        return Keypoints(self.points, self.confidence, self.size, FPS)

    @property
    def audio(self) -> Array | None:
        """Windows of audio states (F, W, L, D), a view: what AudioEncoder.forward takes, without its batch axis."""
        if self.audio_states is None:
            return None
        width = 2 * int(self.meta["audio_window"]) + 1
        return np.moveaxis(np.lib.stride_tricks.sliding_window_view(self.audio_states, width, axis=0), -1, 1)

    def frames(self, start: int = 0, stop: int | None = None) -> Image:
        """Pixels (f, H, W, 3) of frames `start` to `stop`, decoded now: 0.1 to 0.5 s for a whole clip at 512²."""
        return self._decoded(self.video, start, stop, grey=False)

    def mattes(self, start: int = 0, stop: int | None = None) -> Image:
        """The person (f, H, W), 0 to 255; ValueError where none was made."""
        if self.matte_video is None:
            raise ValueError(f"clip {self.key} has no matte; prepare the data with mattes")
        return self._decoded(self.matte_video, start, stop, grey=True)

    def _decoded(self, data: bytes, start: int, stop: int | None, grey: bool) -> Image:
        first, end, _ = slice(start, stop).indices(len(self))
        found = decode_video(data, self.size, first, end, grey)
        if len(found) != max(end - first, 0):
            raise ValueError(f"clip {self.key} gives {len(found)} frames, not {end - first}; prepare the data again")
        return found

    def crops(self, frame: int) -> Image:
        """Identity crops (3, S, S, 3) of one frame, face, left hand, right hand; black where not in view."""
        if self.crops_jpeg is None:
            raise ValueError(f"clip {self.key} has no identity crops; prepare the data with them")
        strip = decode_jpeg(self.crops_jpeg[frame])
        return np.stack(np.split(strip, 3, axis=1))

    def waveform(self, context: bool = False) -> NDArray[np.float32]:
        """Sound (N,) of the clip, F · 640 samples, or with all its context; ValueError for a silent clip."""
        if self.sound is None:
            raise ValueError(f"clip {self.key} is silent")
        samples = decode_sound(self.sound)
        first = int(self.meta["sound_before"]) * FRAME_SAMPLES
        return samples if context else samples[first : first + len(self) * FRAME_SAMPLES]

    def files(self) -> dict[str, bytes]:
        """Extension to content, as the shard holds them."""
        arrays: dict[str, NDArray[Any]] = {
            "points": self.points.astype(np.float32),
            "confidence": self.confidence.astype(np.float16),
            "depth": self.depth.astype(np.float16),
            "clarity": self.clarity.astype(np.float32),
            "movement_box": self.movement_box.astype(np.float32),
            "boxes": self.boxes.astype(np.float32),
            **self.extra,
        }
        if self.latents is not None:
            arrays["latents"] = self.latents.astype(np.float16)
        if self.audio_states is not None:
            arrays["audio_states"] = self.audio_states.astype(np.float16)
        if self.crops_jpeg is not None:
            arrays["crops_jpeg"] = np.frombuffer(b"".join(self.crops_jpeg), np.uint8)
            arrays["crops_length"] = np.array([len(part) for part in self.crops_jpeg], np.int64)
        arrays = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
        files = {
            "json": json.dumps(self.meta, sort_keys=True, allow_nan=False).encode(),
            "mp4": self.video,
            "safetensors": safetensors.numpy.save(arrays),
        }
        if self.matte_video is not None:
            files["matte.mp4"] = self.matte_video
        if self.sound is not None:
            files["flac"] = self.sound
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Clip:
        """The clip of a sample; ValueError when a file is missing or damaged."""
        missing = {"json", "mp4", "safetensors"} - set(files)
        if missing:
            raise ValueError(f"a sample lacks {', '.join(sorted(missing))}: these shards hold no prepared clips")
        try:
            meta = json.loads(files["json"])
            arrays = safetensors.numpy.load(files["safetensors"])
        except (ValueError, safetensors.SafetensorError) as error:
            raise ValueError(f"a sample is damaged ({error}); prepare the data again") from None
        absent = [name for name in _ARRAYS if name not in arrays]
        if absent:
            raise ValueError(f"clip {meta.get('key')} lacks {', '.join(absent)}; prepare the data again")
        needed: dict[str, Any] = {name: arrays.pop(name).astype(np.float32) for name in _ARRAYS}
        crops = arrays.pop("crops_jpeg", None)
        lengths = arrays.pop("crops_length", None)
        strips = None
        if crops is not None and lengths is not None:
            ends = np.cumsum(lengths)
            strips = tuple(crops[a:b].tobytes() for a, b in zip(ends - lengths, ends, strict=True))
        return cls(
            meta=meta, video=files["mp4"], matte_video=files.get("matte.mp4"), sound=files.get("flac"),
            latents=arrays.pop("latents", None), audio_states=arrays.pop("audio_states", None), crops_jpeg=strips,
            **needed, extra=arrays,
        )  # fmt: skip


_ARRAYS = ("points", "confidence", "depth", "clarity", "movement_box", "boxes")


def make_clip(
    meta: Mapping[str, Any],  # frames, fps, height, width and sound are filled in
    frames: Image,  # (F, H, W, 3)
    mattes: Image | None = None,  # (F, H, W)
    waveform: NDArray[np.float32] | None = None,  # (N,) 16 kHz, at least F · 640 from `sound_before` frames on
    sound_before: int = 0,
    crops: Iterable[Image] | None = None,  # F of (3, S, S, 3)
    **arrays: Any,  # the arrays of Clip, `extra` too
) -> Clip:
    """A clip from raw frames, mattes, sound and crops, encoded now."""
    count, height, width = frames.shape[:3]
    whole = {**meta, "frames": count, "fps": FPS, "height": height, "width": width, "sound": waveform is not None}
    sound = None
    if waveform is not None:
        if len(waveform) < (sound_before + count) * FRAME_SAMPLES:
            raise ValueError(f"{len(waveform)} samples are too few for {sound_before} + {count} frames of sound")
        whole["sound_before"] = sound_before
        sound = encode_sound(waveform, SAMPLE_RATE)
    strips = None if crops is None else tuple(encode_jpeg(np.concatenate(list(crop), axis=1)) for crop in crops)
    return Clip(
        meta=whole,
        video=encode_video(frames, FPS),
        matte_video=None if mattes is None else encode_video(mattes, FPS, MATTE),
        sound=sound,
        crops_jpeg=strips,
        **arrays,
    )


def _check_meta(meta: Mapping[str, Any]) -> None:
    for name, kind in NEEDED.items():
        if not isinstance(meta.get(name), kind):
            raise ValueError(f"a clip's meta needs {name}, got {meta.get(name)!r}")
    if "." in meta["key"] or "/" in meta["key"]:
        raise ValueError(f"a clip's key must have neither dots nor slashes, got {meta['key']!r}")
    if meta["split"] not in SPLITS:
        raise ValueError(f"clip {meta['key']}: split must be one of {', '.join(SPLITS)}, got {meta['split']!r}")
    if meta["height"] % 64 or meta["width"] % 64:
        raise ValueError(
            f"clip {meta['key']}: height and width must be multiples of 64, got {meta['height']} × {meta['width']}"
        )
