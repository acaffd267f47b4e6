"""The stages of one track: keypoints and mattes, sound, speech states, rendered clips, latents.

Each looks first whether its result lies in the work folder, under a name made from the names of what it depends on,
and returns that name. Letters: F frames, H W size, V frames beside one whose sound counts, L D states, C h w latents.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.conditions import hand_clarity, region_boxes, square_crop
from avatar.data.clips import FPS, FRAME_SAMPLES
from avatar.data.pixels import MATTE, decode_video, encode_jpeg, encode_video
from avatar.metrics.lips import lip_sync
from avatar.sizes import resize
from pose.detect import PersonDetector
from pose.face_rig import lip_opening
from pose.images import load_image
from pose.keypoints import FACE, Detection, Keypoints
from pose.speech import speech_features
from train.prepare_cache import Work, key_of
from train.prepare_media import Media, read_frames, read_sound, shrunk
from train.prepare_report import thumbnail
from train.prepare_settings import PrepareConfig
from train.prepare_tracks import OVAL, Crop, smoothed_keypoints

Array = NDArray[np.float32]
Frame = NDArray[np.uint8]
MATTE_CHUNK = 125  # frames of mattes coded at a time: 115 MB at 1280 x 720
_LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
SAME_PERSON = 0.7  # share of looked-at frames in which the detector must be at the face that the scan saw


@dataclass(frozen=True)
class Networks:
    """Identities of the networks in use, "" for none: they are part of names."""

    audio: str = ""
    vae: str = ""


@dataclass(frozen=True)
class Track:
    """One person in `frames` frames from `start_s` of a file (digest `file`), with the faces that the scan saw."""

    source: str  # relative path
    file: str
    media: Media
    number: int
    start_s: float
    frames: int
    faces: tuple[tuple[int, tuple[float, float, float, float]], ...]  # frame, box


@lru_cache(maxsize=1)
def finder() -> PersonDetector:
    """One detector for single pictures in each process; also sets the process up."""
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)  # one thread: the same sums in the same order on every machine
    # glibc gives every thread of MediaPipe's graphs a heap of its own and keeps it when they end: eight detectors one
    # after the other leave 590 MB, with two heaps and `free_memory` 190 MB.
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(-8, 2)  # M_ARENA_MAX
    return PersonDetector()


def free_memory() -> None:
    """Give back to the system what a track has left unused."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def clip_path(work: Work, render_key: str, start: int, suffix: str) -> Path:
    """A piece of the rendered clip that begins at frame `start` of its track."""
    return work.path("render", render_key) / f"{start:06d}{suffix}"


def load_points(work: Work, key: str, track: Track, smooth: bool) -> tuple[Keypoints, Array]:
    """Keypoints of a track in pixels of its file, and depth (F, 543)."""
    with np.load(work.path("detect", key, ".npz")) as file:
        size = (track.media.height, track.media.width)
        keypoints = Keypoints(file["points"], file["confidence"], size, None if track.media.photo else FPS)
        depth = file["depth"]
    return (smoothed_keypoints(keypoints) if smooth and not track.media.photo else keypoints), depth


def _frames(root: Path, track: Track, size: tuple[int, int], crop: Crop | None = None) -> Iterator[Frame]:
    """Frames of a track at `size` of the whole picture, or the crop at the file's own size."""
    if track.media.photo:
        photo = load_image(root / track.source)
        if crop is not None:
            yield photo[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
        else:
            yield cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
        return
    box = None if crop is None else (crop.x, crop.y, crop.width, crop.height)
    count = 0
    for count, frame in enumerate(  # noqa: B007 - counted
        read_frames(root / track.source, track.start_s, track.frames / FPS, size, box), start=1
    ):
        yield frame
    if count != track.frames:
        raise ValueError(f"{track.frames} frames were seen and {count} can be read again")


def detect(work: Work, root: Path, track: Track, config: PrepareConfig) -> str:
    """Keypoints, depth and mattes of a track, in pixels of the file; returns their name."""
    settings = config.detect
    key = key_of("detect", track.file, track.start_s, track.frames, settings.side, settings.matte_every)
    if work.path("detect", key, ".npz").exists():
        return key
    size = shrunk(track.media.height, track.media.width, settings.side)
    factor = np.float32(track.media.height / size[0])
    every = settings.matte_every
    parts: list[Detection] = []
    mattes, coded = _Mattes(), list[bytes]()
    if track.media.photo:
        found: Iterator[Detection] = iter([finder().image(next(_frames(root, track, size)), bool(every))])
        detector = None
    else:
        detector = PersonDetector(tracking=True)
        found = detector.video(_frames(root, track, size), FPS, every)
    try:
        for detection in found:
            mattes.add(detection.matte[0])
            parts.append(replace(detection, matte=np.zeros((1, 0, 0), np.float32)))  # mattes of a minute are 5 GB
            while every and len(mattes.ready) >= MATTE_CHUNK:
                coded.append(encode_video(mattes.taken(MATTE_CHUNK), FPS, MATTE))
    finally:
        if detector is not None:
            detector.close()
            free_memory()
    mattes.end()
    while every and mattes.ready:
        coded.append(encode_video(mattes.taken(MATTE_CHUNK), FPS, MATTE))
    arrays = {
        "points": np.concatenate([part.keypoints.points for part in parts]) * factor,
        "confidence": np.concatenate([part.keypoints.confidence for part in parts]),
        "depth": np.concatenate([part.depth for part in parts]) * factor,
        **{f"matte_{number:03d}": np.frombuffer(data, np.uint8) for number, data in enumerate(coded)},
    }
    with work.writing("detect", key, ".npz") as path, open(path, "wb") as file:
        np.savez(file, **arrays)
    return key


class _Mattes:
    """Mattes in order as uint8; frames without one get the blend of those before and after them."""

    def __init__(self) -> None:
        self.ready: list[Frame] = []
        self._waiting = 0
        self._last: Array | None = None

    def add(self, matte: Array) -> None:
        """A matte (H, W) in [0, 1], or an empty one."""
        if not matte.size:
            self._waiting += 1
            return
        before = matte if self._last is None else self._last
        for number in range(1, self._waiting + 1):
            self.ready.append(_as_bytes(before + (matte - before) * np.float32(number / (self._waiting + 1))))
        self.ready.append(_as_bytes(matte))
        self._waiting, self._last = 0, matte

    def end(self) -> None:
        """After the last frame: what still waits is like the last matte."""
        if self._last is not None:
            self.ready += [_as_bytes(self._last)] * self._waiting
        self._waiting = 0

    def taken(self, count: int) -> Frame:
        """The first `count` mattes, (count, H, W)."""
        first, self.ready = self.ready[:count], self.ready[count:]
        return np.stack(first)


def _as_bytes(matte: Array) -> Frame:
    return (matte * 255 + 0.5).astype(np.uint8)


def _mattes(work: Work, key: str, track: Track, side: int) -> Iterator[Frame]:
    """Mattes (H, W) of a track one by one, at the size of detection."""
    size = shrunk(track.media.height, track.media.width, side)
    with np.load(work.path("detect", key, ".npz")) as file:
        for name in sorted(name for name in file.files if name.startswith("matte_")):
            yield from decode_video(file[name].tobytes(), size, grey=True)


def followed(keypoints: Keypoints, track: Track) -> bool:
    """Whether the detector was at the faces that the scan saw."""
    near = []
    for frame, (x0, y0, x1, y1) in track.faces:
        if frame < len(keypoints) and keypoints.confidence[frame, OVAL].max() > 0:
            x, y = keypoints.points[frame, OVAL].mean(axis=0)
            near.append(abs(x - (x0 + x1) / 2) < (x1 - x0) and abs(y - (y0 + y1) / 2) < (y1 - y0))
    return not near or float(np.mean(near)) >= SAME_PERSON


def hear(work: Work, root: Path, track: Track, keypoints: Keypoints, config: PrepareConfig) -> dict[str, Any]:
    """The track's sound with context: its name, frames of context, measures, and the reason against it."""
    settings = config.sound
    if not track.media.sound:
        return {"key": "", "before": 0, "measures": {}, "reason": "silent: the file has no sound"}
    before = round(min(settings.context_s, track.start_s) * FPS)
    key = key_of("sound", track.file, track.start_s, track.frames, settings.context_s)
    path = work.path("sound", key, ".npy")
    if not path.exists():
        seconds = (before + track.frames) / FPS + settings.context_s
        sound = read_sound(root / track.source, track.start_s - before / FPS, seconds)
        least = (before + track.frames) * FRAME_SAMPLES  # a sound that ends early ends in silence
        sound = np.pad(sound, (0, max(0, least - len(sound))))
        with work.writing("sound", key, ".npy") as part, open(part, "wb") as file:
            np.save(file, np.round(sound * 32767).astype(np.int16))
    waveform = load_sound(work, key)
    result: dict[str, Any] = {"key": key, "before": before, "measures": {}, "reason": ""}
    inside = slice(before * FRAME_SAMPLES, (before + track.frames) * FRAME_SAMPLES)
    blocks = speech_features(waveform[inside], FPS).blocks
    speech = float(blocks["speech"][: track.frames].mean())
    result["measures"]["speech"] = round(speech, 4)
    if speech < settings.speech:
        result["reason"] = f"no speech: in {speech:.0%} of the frames, at least {settings.speech:.0%}"
        return result
    if track.frames < settings.judge_s * FPS:
        return result
    seen = np.median(keypoints.confidence[:, FACE], axis=1) > 0.5
    opening = np.full(track.frames, np.nan)
    opening[seen] = lip_opening(keypoints.points[seen][:, FACE])
    try:
        # Loudness of the formants, which falls when lips close: of GRID's clips it tells own from others' sound better
        # than loudness does (means 1.7 deviations apart, not 1.4).
        sync = lip_sync(opening, blocks["formants"][: track.frames].mean(axis=1), FPS)
    except ValueError:
        return result  # the face filter speaks of faces that are not there
    near = np.abs(sync.lags_s) <= settings.lag_s + 1e-6
    fits = float(sync.curve[near].max())
    result["measures"] |= {"lip_r": round(fits, 4), "lip_best": round(sync.best, 4), "lip_lag_s": round(sync.lag_s, 3)}
    if fits < settings.lip_r:
        result["reason"] = f"lips do not move with the sound: r {fits:.2f}, at least {settings.lip_r:g}"
    elif abs(sync.lag_s) > settings.lag_s and sync.best - fits > settings.lag_gain:
        result["reason"] = f"lips are {sync.lag_s:+.2f} s off the sound (r {sync.best:.2f}, {fits:.2f} near 0)"
    return result


def load_sound(work: Work, key: str) -> Array:
    """16 kHz sound (N,) in [-1, 1] of a track, with its context."""
    return np.load(work.path("sound", key, ".npy")).astype(np.float32) / 32767


def states(
    work: Work, track: Track, sound: dict[str, Any], config: PrepareConfig, networks: Networks
) -> dict[str, Any]:
    """Speech states (V + F + V, L, D) of a track; where the sound ends, the outermost states again."""
    from train.prepare_networks import load_audio

    assert config.audio is not None
    encoder = load_audio(config.audio, config.device)
    window = int(encoder.config.window)
    key = key_of("states", sound["key"], track.frames, networks.audio)
    if not work.path("states", key, ".npy").exists():
        states = encoder.states(load_sound(work, sound["key"])).cpu().numpy().astype(np.float16)
        index = np.arange(-window, track.frames + window) + sound["before"]
        with work.writing("states", key, ".npy") as part, open(part, "wb") as file:
            np.save(file, states[index.clip(0, len(states) - 1)])
    return {"key": key, "window": window}


def render(
    work: Work,
    root: Path,
    track: Track,
    detect_key: str,
    crop: Crop,
    keypoints: Keypoints,
    ranges: list[tuple[int, int]],
    config: PrepareConfig,
) -> str:
    """Pixels, mattes, clarity and identity crops of clips; returns the name of their folder."""
    smooth = config.detect.smooth
    key = key_of("render", detect_key, smooth, asdict(crop), ranges, config.crop.identity_side)
    if work.path("render", key).exists():
        return key
    pictures = _frames(root, track, (track.media.height, track.media.width), crop)
    mattes = _mattes(work, detect_key, track, config.detect.side) if config.detect.matte_every else None
    matte_size = shrunk(track.media.height, track.media.width, config.detect.side)
    to_matte = matte_size[0] / track.media.height
    # The crop in the matte's pixels, as an affine map from the clip's: crops do not fall on whole pixels there.
    zoom = to_matte / crop.scale
    to_source = np.array([[zoom, 0, crop.x * to_matte], [0, zoom, crop.y * to_matte]], np.float64)
    to_source[:, 2] += 0.5 * zoom - 0.5  # cv2 counts from pixel centres, we from corners
    number = 0
    with work.writing("render", key) as folder:
        folder.mkdir()
        for start, stop in ranges:
            frames = np.empty((stop - start, *crop.size, 3), np.uint8)
            alpha = np.empty((stop - start, *crop.size), np.uint8)
            while number < stop:
                picture, matte = next(pictures), None if mattes is None else next(mattes)
                if number >= start:
                    frames[number - start] = resize(picture, crop.size)
                    if matte is not None:
                        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
                        smaller = cv2.GaussianBlur(matte, (0, 0), 0.4 * zoom) if zoom > 1 else matte
                        alpha[number - start] = cv2.warpAffine(
                            smaller, to_source, crop.size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
                        )
                number += 1
            shown = alpha if mattes is not None else None
            _save_clip(folder / f"{start:06d}", frames, shown, keypoints[start:stop], config.crop.identity_side)
    pictures.close()  # type: ignore[attr-defined]
    return key


def _save_clip(stem: Path, frames: Frame, mattes: Frame | None, keypoints: Keypoints, side: int) -> None:
    """What is made of a clip's pixels (F, H, W, 3), under names that begin with `stem`."""
    stem.with_suffix(".mp4").write_bytes(encode_video(frames, FPS))
    if mattes is not None:
        stem.with_suffix(".matte.mp4").write_bytes(encode_video(mattes, FPS, MATTE))
    sharpness = np.full(len(frames), np.nan, np.float32)
    strips: list[bytes] = []
    black = np.zeros((side, side, 3), np.uint8)
    for number, (image, boxes) in enumerate(zip(frames, part_boxes(keypoints), strict=True)):
        if np.isfinite(boxes[0, 0]):
            face = cv2.cvtColor(square_crop(image, boxes[0], 128), cv2.COLOR_RGB2GRAY)
            sharpness[number] = np.log1p(cv2.Laplacian(face, cv2.CV_32F).std())
        if side:
            crops = [square_crop(image, box, side) if np.isfinite(box[0]) else black for box in boxes]
            strips.append(encode_jpeg(np.concatenate(crops, axis=1)))
    middle = len(frames) // 2
    matte = None if mattes is None else mattes[middle]
    with open(stem.with_suffix(".npz"), "wb") as file:
        np.savez(
            file,
            clarity=hand_clarity(frames, keypoints),
            sharpness=sharpness,
            crops=np.frombuffer(b"".join(strips), np.uint8),
            lengths=np.array([len(strip) for strip in strips], np.int64),
            thumbnail=thumbnail(frames[middle], matte, keypoints[middle : middle + 1]),
        )


def part_boxes(keypoints: Keypoints) -> Array:
    """Boxes (F, 3, 4) of face, left and right hand."""
    return np.concatenate([region_boxes(keypoints, "face"), region_boxes(keypoints, "hands")], axis=1)


def latents(
    work: Work, render_key: str, start: int, size: tuple[int, int], config: PrepareConfig, networks: Networks
) -> str:
    """Latents (F, C, h, w) of a rendered clip; returns their name."""
    import torch

    from avatar.latents import encode
    from train.prepare_networks import load_vae

    key = key_of("latents", render_key, start, networks.vae)
    if not work.path("latents", key, ".npy").exists():
        assert config.vae is not None
        frames = decode_video(clip_path(work, render_key, start, ".mp4").read_bytes(), size)
        images = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2)
        vae = load_vae(config.vae, config.device)
        latents = [encode(vae, part.float() / 255).cpu() for part in images.split(4)]
        with work.writing("latents", key, ".npy") as part, open(part, "wb") as file:
            np.save(file, torch.cat(latents).numpy().astype(np.float16))
    return key
