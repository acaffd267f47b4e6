"""What drives a video, read together in equal pieces: audio tokens, keypoints and prior, each whole or as a stream.

Letters: F frames, f frames of a piece, T audio tokens a frame, H W image size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.warp.prior import Prior
from avatar.windows import FrameReader
from pose.keypoints import Keypoints

PASSED_FRAMES = 250  # of sound passed over at a time
SILENCE_FRAMES = 1  # frames that sound may end early by: both are rounded to whole frames


@dataclass(frozen=True)
class Piece:
    """`frames` consecutive frames of everything that drives them; None is what is not there at all."""

    frames: int
    audio: Tensor | None  # (f, T, audio_dim)
    keypoints: Keypoints | None
    prior: Prior | None


class Sources:
    """Aligned streams.

    Prior and keypoints must have the same number of frames and set the video's length; sound may be longer (the rest
    is not used). Sound alone sets the length itself. `frames` cuts, and gives the length where nothing else does.
    `start`: frame of the video that prior and keypoints begin with; sound begins at 0 and is passed over until there.
    """

    def __init__(
        self,
        audio: Iterable[Tensor] | None,  # tokens, (f, T, audio_dim) each
        keypoints: Iterable[Keypoints] | None,
        prior: Iterable[Prior] | None,
        size: tuple[int, int],  # H W
        fps: float,
        frames: int | None = None,
        start: int = 0,
    ) -> None:
        if frames is None and audio is None and keypoints is None and prior is None:
            raise ValueError("nothing says how long the video is; pass audio, keypoints, a prior or `frames`")
        self.size, self.fps, self.frames = size, fps, frames
        self.taken = start
        self._audio = None if audio is None else FrameReader(audio, _joined, lambda x, i, j: x[i:j])
        self._keypoints = (
            None if keypoints is None else FrameReader(keypoints, Keypoints.concatenated, lambda x, i, j: x[i:j])
        )
        self._prior = None if prior is None else FrameReader(prior, _joined_prior, _cut_prior)
        self._last_audio: Tensor | None = None
        self._start, self._passed = start, 0

    def take(self, frames: int) -> Piece | None:
        """The next `frames` frames, fewer at the end, None after it."""
        while self._audio is not None and self._passed < self._start:
            part = self._audio.take(min(PASSED_FRAMES, self._start - self._passed))
            if part is None:
                break
            self._passed, self._last_audio = self._passed + len(part), part[-1:]
        wanted = frames if self.frames is None else min(frames, self.frames - self.taken)
        if wanted <= 0:
            return None
        prior = None if self._prior is None else self._prior.take(wanted)
        keypoints = None if self._keypoints is None else self._keypoints.take(wanted)
        self._check(prior, keypoints)
        led = self._prior is not None or self._keypoints is not None
        count = len(prior or keypoints or ()) if led else wanted
        audio = None if self._audio is None or count == 0 else self._audio.take(count)
        if self._audio is not None and not led:
            count = 0 if audio is None else len(audio)
        if count == 0:
            return None
        if self._audio is not None:
            audio = self._with_silence(audio, count)
        self.taken += count
        return Piece(count, audio, keypoints, prior)

    def _check(self, prior: Prior | None, keypoints: Keypoints | None) -> None:
        if self._prior is not None and self._keypoints is not None:
            frames = [0 if part is None else len(part) for part in (prior, keypoints)]
            if frames[0] != frames[1]:
                raise ValueError(
                    f"the prior ends after {self.taken + frames[0]} frames and the keypoints after "
                    f"{self.taken + frames[1]}; render the prior from the same keypoints"
                )
        if prior is not None:
            expected = (len(prior), 3, *self.size), (len(prior), 1, *self.size)
            if (tuple(prior.frames.shape), tuple(prior.confidence.shape)) != expected:
                raise ValueError(
                    f"the prior has frames {tuple(prior.frames.shape)} and confidence "
                    f"{tuple(prior.confidence.shape)}; expected {expected[0]} and {expected[1]}, the photo's size"
                )
        if keypoints is not None:
            if keypoints.size != self.size:
                raise ValueError(
                    f"keypoints are for images of {keypoints.size}, the photo is {self.size}; use Keypoints.resized"
                )
            if keypoints.fps is not None and abs(keypoints.fps - self.fps) > 1e-3:
                raise ValueError(
                    f"keypoints have {keypoints.fps:g} frames a second and the model {self.fps:g}; resample the "
                    "motion to the model's rate first"
                )

    def _with_silence(self, audio: Tensor | None, count: int) -> Tensor:
        """Tokens for all frames: where the sound ends a frame early, its last tokens again."""
        have = 0 if audio is None else len(audio)
        last = audio[-1:] if audio is not None else self._last_audio
        if count - have > SILENCE_FRAMES or last is None:
            raise ValueError(
                f"the sound ends after {self.taken + have} frames and the video has at least {self.taken + count}; "
                "cut the motion to the sound, or append silence to the sound"
            )
        self._last_audio = last
        return torch.cat([*([] if audio is None else [audio]), *[last] * (count - have)])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts))


def _joined_prior(parts: Sequence[Prior]) -> Prior:
    return Prior(torch.cat([part.frames for part in parts]), torch.cat([part.confidence for part in parts]))


def _cut_prior(prior: Prior, start: int, stop: int) -> Prior:
    return Prior(prior.frames[start:stop], prior.confidence[start:stop])
