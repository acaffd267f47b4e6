"""Everything that is measured in one video file, read once as a stream and kept on disk, so that a run can go on.

Letters: F frames, E every Nth frame, D features. Frames are read at `fps` (repeated or left out to reach it) and no
larger than `max_side`; slow measures (paired distances, FID, identity) look at every Nth frame only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from infer.saved_scores import Job, Scores, Settings
from infer.spool import Spool
from pose.keypoints import COUNT, FACE, Keypoints

Array = NDArray[np.float32]
Frame = NDArray[np.uint8]

SYNC_S = 60.0  # SyncNet looks at the first minute: its crops are 150 kB a frame
SURE = 0.5  # confidence of a face from which it is looked at
PEOPLE = 0.1  # of the segmentation: from here on a pixel may be a person's
OTHER_SIZE = "the true video is {} x {} and this one {} x {}; make them of one size"
MARGIN = 0.03  # of the frame's width, around people


@lru_cache(maxsize=1)
def load_networks(weights: tuple[tuple[str, str], ...], device: str) -> dict[str, Any]:
    """The networks that were given, once for each process."""
    from avatar.metrics.identity import FaceEmbedding
    from avatar.metrics.perceptual import LPIPS, ClipFeatures, ImageFeatures
    from avatar.metrics.sync import SyncScorer

    makers = {
        "lpips": LPIPS,
        "fid": ImageFeatures,
        "fvd": ClipFeatures,
        "arcface": FaceEmbedding,
        "syncnet": SyncScorer,
    }
    return {name: makers[name](path, device) for name, path in weights}


def score(job: Job, settings: Settings, stem: Path) -> None:
    """Measure one file and save the result as STEM.json and STEM.npz; ValueError when the video cannot be read."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    networks = load_networks(tuple(sorted(settings.weights.items())), settings.device)
    scores, watch = Scores(), _Watch(job, settings, networks)
    for number, (frame, keypoints, people) in enumerate(_detected(job.video, settings)):
        watch.see(number, frame, keypoints, people)
    watch.finish(scores)
    scores.save(stem)
    del watch
    _return_memory()


def _return_memory() -> None:
    """Give freed memory back to the system: MediaPipe's graphs leave holes, and a worker grew by 100 MB a file."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _detected(path: Path, settings: Settings) -> Iterator[tuple[Frame, Keypoints, NDArray[np.bool_]]]:
    """Each frame with its keypoints and where people are."""
    import cv2

    from pose.detect import PersonDetector
    from pose.images import read_video

    held: list[Frame] = []

    def held_frames() -> Iterator[Frame]:
        for frame in read_video(path, settings.fps, settings.max_side):
            held.append(frame)
            yield frame

    with PersonDetector(tracking=True) as detector:
        for detection in detector.video(held_frames(), settings.fps):
            frame = held.pop()
            side = 2 * max(1, round(MARGIN * frame.shape[1])) + 1
            people = (detector.people_mask(frame) > PEOPLE).astype(np.uint8)
            yield frame, detection.keypoints, cv2.dilate(people, np.ones((side, side), np.uint8)) > 0


class _Watch:
    """Collects the measures of one video, frame by frame."""

    def __init__(self, job: Job, settings: Settings, networks: dict[str, Any]) -> None:
        from avatar.metrics.identity import FaceEmbedding

        self.job, self.settings, self.networks = job, settings, networks
        self.embed = networks.get("arcface") or FaceEmbedding()
        self.points, self.confidence = Spool(COUNT, 2), Spool(COUNT)
        self.size = (0, 0)
        self.last: deque[tuple[Frame, NDArray[np.bool_]]] = deque(maxlen=3)
        self.first: tuple[Frame, NDArray[np.bool_]] | None = None
        self.lists: dict[str, list[Any]] = {}
        self.clip: list[Frame] = []
        self.real = self._real_frames()
        self.pair_error = "" if job.real else "no true video"
        self.real_frames = 0

    def _real_frames(self) -> Iterator[Frame]:
        from pose.images import read_video

        if self.job.real is not None:
            yield from read_video(self.job.real, self.settings.fps, self.settings.max_side)

    def add(self, name: str, value: Any) -> None:
        self.lists.setdefault(name, []).append(value)

    def see(self, number: int, frame: Frame, keypoints: Keypoints, people: NDArray[np.bool_]) -> None:
        """One frame (H, W, 3), its keypoints (F = 1) and where people are, (H, W)."""
        from avatar.metrics.identity import aligned_face
        from avatar.metrics.stability import background_change, flicker
        from avatar.metrics.sync import mouth_crop

        self.points.add(keypoints.points[0])
        self.confidence.add(keypoints.confidence[0])
        self.size = keypoints.size
        face = keypoints.points[0, FACE]
        seen = bool(face_seen(keypoints)[0])
        self.add("opening", mouth_opening(keypoints)[0])
        chosen = number % self.settings.every == 0
        self.last.append((frame, people))
        self.first = self.first or (frame, people)
        if len(self.last) == 3:
            still = ~np.logical_or.reduce([mask for _, mask in self.last])
            if still.any():
                self.add("flicker", flicker(np.stack([image for image, _ in self.last]), still)[0])
        if chosen and number:
            either = (people | self.first[1])[None]
            self.add("background", background_change(frame[None], self.first[0], either)[0])
        if chosen:
            vector = self.embed(aligned_face(frame, face)[None])[0] if seen else None
            self.add("identity", vector)
            if "fid" in self.networks:
                self.add("fid", self.networks["fid"](frame[None])[0])
        if "syncnet" in self.networks and number < SYNC_S * self.settings.fps:
            self.add("crops", mouth_crop(frame, face) if seen else None)
        if "fvd" in self.networks:
            self.clip.append(frame)
            if len(self.clip) == 16:
                self.add("fvd", self.networks["fvd"](np.stack(self.clip))[0])
                self.clip.clear()
        self.compare(frame, chosen)

    def compare(self, frame: Frame, chosen: bool) -> None:
        """The distances of this frame to the same frame of the true video."""
        from avatar.metrics.images import mae, ms_ssim, mse, psnr, ssim

        if self.pair_error:
            return
        try:
            true = next(self.real, None)
        except ValueError as error:
            self.pair_error = str(error)
            return
        if true is None:
            return
        self.real_frames += 1
        if true.shape != frame.shape:
            (height, width), (high, wide) = frame.shape[:2], true.shape[:2]
            self.pair_error = OTHER_SIZE.format(wide, high, width, height)
            return
        if not chosen:
            return
        first, second = frame[None], true[None]
        for name, measure in (("psnr", psnr), ("mse", mse), ("mae", mae), ("ssim", ssim)):
            self.add(name, measure(first, second)[0])
        if min(frame.shape[:2]) >= 176:
            self.add("ms_ssim", ms_ssim(first, second)[0])
        if "lpips" in self.networks:
            self.add("lpips", self.networks["lpips"](first, second)[0])

    def finish(self, scores: Scores) -> None:
        """Numbers of the whole video."""
        from avatar.metrics.keypoint_measures import hand_confidence, hand_variance
        from avatar.metrics.stability import WINDOW_S, identity_drift

        if not len(self.points):
            raise ValueError(f"{self.job.video} has no frames; make it again")
        fps, every = self.settings.fps, self.settings.every
        keypoints = Keypoints(self.points.rows(), self.confidence.rows(), self.size, fps)
        opening = np.array(self.lists["opening"], np.float32)
        duration = len(keypoints) / fps
        scores.facts = {
            "frames": len(keypoints),
            "seconds": duration,
            "size": list(keypoints.size),
            "no face, frames": int(np.isnan(opening).sum()),
            **declared(self.job.video),
        }
        scores.arrays |= {
            "points": keypoints.points,
            "confidence": keypoints.confidence,
            "size": np.array(keypoints.size),
        }

        # 1. Hands, light, background.
        scores.put("hkc", lambda: hand_confidence(keypoints))
        scores.put("hkc_view", lambda: hand_confidence(keypoints, "in_view"))
        scores.put("hkc_seen", lambda: hand_confidence(keypoints, "seen"))
        scores.put("hkv", lambda: hand_variance(keypoints))
        scores.put("hkv_sw", lambda: hand_variance(keypoints, "shoulders"))
        for name in ("flicker", "background"):
            scores.put(name, lambda name=name: self.mean(name, "no background was seen beside the person"))

        # 2. Distances to the true video.
        for name in ("psnr", "mse", "mae", "ssim", "ms_ssim", "lpips") if self.job.real else ():
            if name != "lpips" or "lpips" in self.networks:
                scores.put(name, lambda name=name: self.paired(name, scores))
        if self.job.real and not self.pair_error:
            scores.facts["frames compared"] = len(self.lists.get("psnr", []))

        # 3. Identity.
        vectors = self.lists["identity"]
        width = max((len(v) for v in vectors if v is not None), default=1)
        identity = np.stack([np.full(width, np.nan, np.float32) if v is None else v for v in vectors])
        window = min(WINDOW_S, duration / 2)
        scores.facts["drift windows, s"] = round(window, 2)
        clock = fps / every
        scores.put("drift", lambda: identity_drift(identity, clock, np.floor(window * clock) / clock))
        if "arcface" in self.networks:
            scores.put("csim", lambda: self.csim(identity))

        # 4. Sound and mouth; correlations come later, with this and with another's sound.
        scores.arrays["opening"] = opening
        self.hear(scores)

        # 5. The driving skeleton.
        if self.job.driving is not None:
            for group in ("body", "hands", "face"):
                scores.put(f"kpe_{group}", lambda group=group: driving_error(keypoints, self.job.driving, group))
        for name in ("fid", "fvd"):
            if name in self.lists:
                scores.arrays[name] = np.stack(self.lists[name])

    def mean(self, name: str, otherwise: str) -> float:
        values = np.array(self.lists.get(name, []), np.float64)
        values = values[~np.isnan(values)]
        if not len(values):
            raise ValueError(otherwise)
        return float(values.mean())

    def paired(self, name: str, scores: Scores) -> float:
        from avatar.metrics.images import mean_psnr

        if self.pair_error:
            raise ValueError(self.pair_error)
        if name not in self.lists:
            raise ValueError("MS-SSIM needs 176 pixels a side" if name == "ms_ssim" else "no frame to compare")
        if name != "psnr":
            return self.mean(name, "no frame to compare")
        value, equal = mean_psnr(np.array(self.lists["psnr"]))
        if equal:
            scores.facts["frames equal to the true video's"] = equal
        if np.isinf(value):
            raise ValueError("every frame equals the true video's: PSNR is infinite")
        return value

    def csim(self, identity: Array) -> float:
        """Mean cosine with the photo's face."""
        from avatar.metrics.identity import aligned_face, csim
        from pose.detect import PersonDetector
        from pose.images import load_image

        if self.job.photo is None:
            raise ValueError("no photo of this name; pass --photos")
        photo = load_image(self.job.photo)
        with PersonDetector() as detector:
            face = detector.image(photo, matte=False).keypoints.points[0, FACE]
        known = identity[np.isfinite(identity).all(axis=1)]
        if not len(known):
            raise ValueError("no face was found in any frame")
        return float(csim(known, self.embed(aligned_face(photo, face)[None])[0]).mean())

    def hear(self, scores: Scores) -> None:
        """Loudness on the video's clock, and SyncNet's embeddings of mouth and sound."""
        from pose.speech import SpeechFeatures, open_speech

        names = ("lip_r", "lip_best", "lip_lag", *(("sync_c", "sync_d") if "syncnet" in self.networks else ()))
        source = self.job.audio or self.job.video
        try:
            speech = open_speech(source)
        except ValueError as error:
            reason = " ".join(
                str(error).replace(str(source), "the recording" if self.job.audio else "its own sound").split()
            )
            scores.excluded |= dict.fromkeys(names, reason)
            return
        features = SpeechFeatures.join(list(speech.features(self.settings.fps)))
        scores.arrays["loudness"] = features.blocks["energy"][:, 0]
        if "syncnet" not in self.networks:
            return
        crops = self.lists["crops"]
        if self.settings.fps != 25:
            reason = f"SyncNet knows 25 frames a second only, this run has {self.settings.fps:g}"
        elif any(crop is None for crop in crops):
            reason = f"no face in {sum(crop is None for crop in crops)} of {len(crops)} frames"
        else:
            waveform = first_seconds(speech.chunks(), SYNC_S)
            try:
                scores.arrays["mouths"] = self.networks["syncnet"].mouths(np.stack(crops))
                scores.arrays["sounds"] = self.networks["syncnet"].sound(waveform)
                return
            except ValueError as error:
                reason = str(error)
        scores.excluded |= {"sync_c": reason, "sync_d": reason}


def declared(path: Path) -> dict[str, float]:
    """What the file says of itself: its frames a second and its length, which a file that is cut off does not keep."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        meta = next(reader)
    except (OSError, RuntimeError, StopIteration):
        return {}
    finally:
        reader.close()
    return {f"declared {key}": float(meta[key]) for key in ("fps", "duration") if meta.get(key)}


def first_seconds(chunks: Iterator[Array], seconds: float) -> Array:
    """The start of 16 kHz sound that comes in pieces; the rest is not read."""
    parts: list[Array] = []
    wanted = round(seconds * 16000)
    while wanted > sum(map(len, parts)) and (part := next(chunks, None)) is not None:
        parts.append(part)
    return np.concatenate(parts)[:wanted]


def face_seen(keypoints: Keypoints) -> NDArray[np.bool_]:
    """Whether the face was found, (F,); points beyond the picture's border have less confidence, hence the median."""
    return np.median(keypoints.confidence[:, FACE], axis=1) > SURE


def mouth_opening(keypoints: Keypoints) -> Array:
    """Opening of the mouth over the distance of the eyes, (F,), NaN where no face was found."""
    from pose.face_rig import lip_opening

    seen = face_seen(keypoints)
    opening = np.full(len(keypoints), np.nan, np.float32)
    if seen.any():
        opening[seen] = lip_opening(keypoints.points[seen][:, FACE])
    return opening


def driving_error(keypoints: Keypoints, path: Path, group: Any) -> float:
    """Mean distance to the keypoints that drove the video, in shoulder widths."""
    from avatar.metrics.keypoint_measures import keypoint_distance

    try:
        driving = Keypoints.load(path)
    except (OSError, BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as keypoints ({error}); write it again with --keypoints-out"
        ) from None
    if driving.fps is not None and abs(driving.fps - (keypoints.fps or 0)) > 1e-3:
        raise ValueError(f"{path} has {driving.fps:g} frames a second; run with --fps {driving.fps:g}")
    aspects = [size[1] / size[0] for size in (driving.size, keypoints.size)]
    if abs(aspects[0] / aspects[1] - 1) > 0.02:
        raise ValueError(f"{path} is for frames of {driving.size} and the video has {keypoints.size}")
    frames = min(len(driving), len(keypoints))
    if abs(len(driving) - len(keypoints)) > 2:
        raise ValueError(
            f"{path} has {len(driving)} frames and the video {len(keypoints)}; they do not belong together"
        )
    return keypoint_distance(
        keypoints[:frames], driving[:frames].resized(keypoints.size), "shoulders", group
    ).mean_or_error()
