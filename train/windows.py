"""Windows of clips as a dataset for training.

Letters: F frames of a window, S seed frames, P pose vector, A speech features, N samples, K styles and speakers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pose.acoustics import SAMPLE_RATE
from pose.representations.vectors import MotionVectors
from train.features import ClipArrays


class GestureWindows(Dataset):
    """Windows of F frames, `stride` frames apart; a clip's first one begins S frames before it, as in the pipeline.

    Before a clip its first pose stands still, speech is silent and there is no seed. An item holds "vectors" (F, P)
    normalised, "seed" (S, P), zeros where there is none, "speech" (F, A) or (N,), and "style" (K,).
    """

    def __init__(
        self,
        clips: Sequence[ClipArrays],
        representation: MotionVectors,
        frames: int,
        seed_frames: int,
        stride: int,
        styles: Sequence[str] = (),
        speakers: Sequence[str] = (),
    ) -> None:
        self.clips, self.frames, self.seed_frames = list(clips), frames, seed_frames
        self.styles, self.speakers = list(styles), list(speakers)
        self.fps = float(representation.config.fps)
        self._mean, self._deviation = representation.mean.clone(), representation.deviation.clone()
        self.places = [
            (number, first)
            for number, clip in enumerate(self.clips)
            for first in range(-seed_frames, len(clip) - frames + 1, stride)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, first = self.places[index]
        clip = self.clips[number]
        rows = np.clip(np.arange(first, first + self.frames), 0, None)
        vectors = (torch.from_numpy(clip.vectors[rows]) - self._mean) / self._deviation
        seed = vectors[: self.seed_frames] if first >= 0 else torch.zeros_like(vectors[: self.seed_frames])
        return {"vectors": vectors, "seed": seed, "speech": self._speech(clip, first), "style": self.style_of(clip)}

    def _speech(self, clip: ClipArrays, first: int) -> Tensor:
        if not clip.waveform_rate:
            return torch.from_numpy(np.array(clip.speech[first + self.seed_frames :][: self.frames]))
        rate = SAMPLE_RATE / self.fps
        begin, count = round(first * rate), round(self.frames * rate)
        sound = np.array(clip.speech[max(begin, 0) : max(begin + count, 0)])
        before = min(max(-begin, 0), count)
        return torch.from_numpy(np.pad(sound, (before, count - before - len(sound))))

    def style_of(self, clip: ClipArrays) -> Tensor:
        """(K,): one for the clip's style and one for its speaker, where they are known."""
        names = [(name == clip.style) for name in self.styles] + [(name == clip.speaker) for name in self.speakers]
        return torch.tensor(names, dtype=torch.float32)
