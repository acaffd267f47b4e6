"""The way through the house: a photo and speech to frames, stage by stage, as streams (DESIGN §1).

Every stage is a generator of chunks, so memory does not depend on the length of the recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from avatar.shipped import WEIGHTS
from avatar.sizes import MULTIPLE, crop_to_aspect, resize, working_size
from pose.keypoints import Keypoints
from pose.motion import Motion

if TYPE_CHECKING:
    from torch import Tensor

    from avatar.layer_choice import ChosenPrior
    from avatar.models.layer_chooser import LayerChooser
    from avatar.pipeline import AvatarPipeline
    from avatar.video_io import VideoWriter
    from avatar.warp.prior import Prior
    from pose.pipeline import GesturePipeline
    from pose.speech import SpeechFeatures, SpeechFile
    from pose.speech_models import SpeechModel

A, B = TypeVar("A"), TypeVar("B")

DETECTION_SIDE = 1536  # the longer side of what the detector sees: beyond it no hand or face was found better (ours)
BATCH = 8  # frames warped at a time: 16 MB of float frames at 512², and enough to keep both cores busy (ours)


class Synthesis:
    """One person, ready to move: detects and prepares the photo at construction (about 3 s on two cores).

    `photo` (H, W, 3) uint8 RGB. `size`: (height, width) of the finished frames; the work is done at `work_size`, the
    next multiples of 64. ValueError when the photo shows nobody.
    """

    def __init__(
        self, photo: NDArray[np.uint8], size: tuple[int, int], fps: float = 25.0, seed: int = 0, device: str = "cpu"
    ) -> None:
        # Heavy imports are here so that a refused input costs no wait.
        from avatar.warp.prior import GeometricPrior
        from pose.detect import PersonDetector
        from pose.retarget import Retargeter

        self.fps, self.seed, self.size = fps, seed, size
        self.work_size = (-(-size[0] // MULTIPLE) * MULTIPLE, -(-size[1] // MULTIPLE) * MULTIPLE)
        photo = crop_to_aspect(photo, size)
        reduction = DETECTION_SIDE / max(photo.shape[:2])
        if reduction < 1:
            photo = resize(photo, (round(photo.shape[0] * reduction), round(photo.shape[1] * reduction)))
        self.image = resize(photo, self.work_size)
        with PersonDetector() as detector:
            self.detection = detector.image(photo).resized(self.work_size)
        self.retargeter = Retargeter(self.detection, fps=fps)
        reference = self.detection.keypoints
        self.prior = GeometricPrior(
            self.image, reference, self.detection.depth[0], self.detection.matte[0], device=device
        )
        self.moved: GeometricPrior | ChosenPrior = self.prior

    def mend_with(self, chooser: LayerChooser) -> None:
        """From now on the layers of the photo are chosen by a network where their order and borders are in doubt."""
        from avatar.layer_choice import ChosenPrior

        self.moved = ChosenPrior(self.prior, chooser)

    def speech_motion(self, speech: SpeechFile, lips: bool = True) -> Iterator[Motion]:
        """Motion from speech alone, by rule, as many frames as cover the sound; `lips`: that say its phones."""
        from pose.prosody import ProsodyMotion

        features = speech.features(self.fps)
        return ProsodyMotion(self.seed, self.fps).stream(with_phones(features) if lips else features)

    def with_speech_face(self, motions: Iterable[Motion], speech: SpeechFile) -> Iterator[Motion]:
        """Motion as it comes; where it does not know the face (BVH, gestures alone), lips and eyes of the speech."""
        spoken = self.speech_motion(speech)
        held: Motion | None = None
        for motion in motions:
            if motion.expression is None:
                own, held = next_frames(held, spoken, len(motion))
                motion = replace(motion, expression=own.expression)
            yield motion

    def with_speech_eyes(self, motions: Iterable[Motion], speech: SpeechFile) -> Iterator[Motion]:
        """Motion with the eyes and brows of the prosody motion, which look where they would on that one's head."""
        from pose.eye_contact import head_turn, with_eyes

        spoken = self.speech_motion(speech, lips=False)
        held: Motion | None = None
        first = None
        for motion in motions:
            own, held = next_frames(held, spoken, len(motion))
            first = (head_turn(motion[:1])[0], head_turn(own[:1])[0]) if first is None else first
            yield with_eyes(motion, own, first)

    def gesture_motion(
        self, pipeline: GesturePipeline, speech: SpeechFile, speech_model: SpeechModel | None = None, **choice: Any
    ) -> Iterator[Motion]:
        """Motion of a trained gesture model at this video's rate, which goes on from the photo's own pose.

        `speech_model` is what it hears through, if it needs one; `choice`: style and speaker, as for its `stream`.
        Eyes are the prosody motion's for models that say so.
        """
        from infer.gesture import on_one_thread, resampled_stream
        from pose.photo_pose import photo_motion

        before = photo_motion(self.retargeter.body, pipeline.mean_pose)
        features = speech.features(pipeline.fps)
        features = features if speech_model is None else speech_model.stream(features)
        made = on_one_thread(pipeline.stream(features, seed=self.seed, seed_motion=before, **choice))
        moves = resampled_stream(made, self.fps)
        finished = self.with_speech_face if pipeline.config.own_eyes else self.with_speech_eyes
        return finished(moves, speech)

    def keypoints(self, motion: Iterator[Motion]) -> Iterator[Keypoints]:
        """The photo's own body and face under a motion."""
        return self.retargeter.stream(motion)

    def driven_keypoints(self, driving: Path) -> Iterator[Keypoints]:
        """The photo's own body and face led by the person in another video."""
        from pose.detect import video_keypoints

        return self.retargeter.stream_driving(video_keypoints(driving, self.fps))

    def priors(
        self, keypoints: Iterator[Keypoints], skip: int = 0, still: bool = False
    ) -> Iterator[tuple[Keypoints, Prior]]:
        """The photo moved, in batches, with the keypoints that moved it; `skip` frames are left out.

        `still`: the mouth stays the photo's own, for models that draw it from sound.
        """
        from avatar.still_mouth import still_mouth

        own, depth = self.detection.keypoints, self.detection.depth[0]
        waiting: list[Keypoints] = []
        for chunk in keypoints:
            skipped = min(skip, len(chunk))
            skip -= skipped
            waiting.append(chunk[slice(skipped, None)])
            ready = Keypoints.concatenated(waiting)
            whole = len(ready) // BATCH * BATCH  # full batches keep both cores busy; the rest waits for its fellows
            for start in range(0, whole, BATCH):
                part = ready[slice(start, start + BATCH)]
                yield part, self.moved.render(still_mouth(part, own, depth) if still else part)
            waiting = [ready[slice(whole, None)]]
        if waiting and len(waiting[0]):
            part = waiting[0]
            yield part, self.moved.render(still_mouth(part, own, depth) if still else part)

    def generated(
        self,
        pipeline: AvatarPipeline,
        keypoints: Iterator[Keypoints],
        speech: SpeechFile,
        writer: VideoWriter,
        **options: Any,
    ) -> Iterator[Tensor]:
        """Frames (F, 3, H, W) of the video model, which starts from the priors; options as for its `stream`.

        Goes on where the frames of `writer` end, and lets it keep what that takes.
        """
        import torch

        from avatar.resume import WindowState

        still = (options.get("mouth") or pipeline.config.mouth) == "sound"
        state = WindowState.load(writer.state) if writer.written else None
        latest: list[WindowState] = []  # the window that is being written
        writer.save_state = lambda path: latest[-1].save(path)
        drive, begin = unzipped(self.priors(keypoints, 0 if state is None else state.frame, still))
        video = pipeline.stream(
            self.image,
            self.detection.keypoints,
            audio=(part.waveform for part in speech.features(self.fps)),
            keypoints=drive,
            prior=begin,
            generator=torch.Generator().manual_seed(self.seed),
            start=state,
            on_window=lambda window: latest.__setitem__(slice(None), [window]),
            **options,
        )
        passed = 0 if state is None else writer.written - state.finished
        for part in video:
            if len(part) > passed:
                yield part[passed:]
            passed = max(0, passed - len(part))

    def pictures(self, frames: Tensor) -> NDArray[np.uint8]:
        """Frames (F, 3, H, W) in [0, 1] at `work_size` as (F, H, W, 3) uint8 at `size`, on the CPU."""
        from torch.nn import functional

        if self.work_size != self.size:
            frames = functional.interpolate(frames, self.size, mode="bicubic", antialias=True)
        return to_uint8(frames)


def unzipped(pairs: Iterator[tuple[A, B]]) -> tuple[Iterator[A], Iterator[B]]:
    """The first and the second of each pair as streams that may be read in turn; nothing that was read is kept.

    `itertools.tee` keeps up to 57 items that both have read: a gigabyte of priors.
    """
    waiting: tuple[deque[Any], deque[Any]] = deque(), deque()

    def side(number: int) -> Iterator[Any]:
        while waiting[number] or (pair := next(pairs, None)) is not None:
            if not waiting[number]:
                for queue, part in zip(waiting, pair, strict=True):
                    queue.append(part)
                del pair
            yield waiting[number].popleft()

    return side(0), side(1)


def next_frames(held: Motion | None, stream: Iterator[Motion], frames: int) -> tuple[Motion, Motion]:
    """The next frames of a stream, of which past the end the last one stays; and what is held then.

    `held`: the frame that was given out last and what was read beyond it; None at first.
    """
    parts, given = ([], 0) if held is None else ([held], 1)
    while sum(map(len, parts)) < given + frames and (more := next(stream, None)) is not None:
        parts.append(more)
    joined = Motion.concatenated(parts)
    places = np.minimum(np.arange(given, given + frames), len(joined) - 1)
    return joined[places], joined[slice(places[-1], None)]


def with_phones(features: Iterable[SpeechFeatures]) -> Iterable[SpeechFeatures]:
    """Features with the shipped reader's phones, for lips that say them; as they are where no reader ships."""
    if not (WEIGHTS / "audio").is_dir():
        return features
    from pose.phone_reader import PhoneReader

    return PhoneReader(WEIGHTS / "audio").stream(features)


def to_uint8(frames: Tensor) -> NDArray[np.uint8]:
    """Frames (F, 3, H, W) in [0, 1] as (F, H, W, 3) uint8 on the CPU."""
    return (frames * 255 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def frame_size(photo: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Height and width of the frames for a photo when only the size `side` is given (square root of the area)."""
    return working_size(*photo.shape[:2], side)
