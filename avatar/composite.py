"""Generated frames and prior into finished ones: composite by confidence, and fill the frames that were not generated.

    out = prior + (1 - confidence) (generated - prior)

With a stride, only every k-th frame is generated. The correction generated - prior of its two neighbours is carried to
a frame between by the optical flow of the prior, which knows where everything moved, and blended by distance.

Letters: F frames, H W image size, k stride. Pictures are float32 RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar.warp.prior import Prior

Array = NDArray[np.float32]


def carried(correction: Array, source: Array, target: Array) -> Array:
    """A correction (h, w, C) made for the picture `source` (h, w, 3), moved to where its pixels are in `target`.

    Follows the dense optical flow between the two pictures, float [0, 1] RGB: both are warps of one photo a few
    frames apart, which is what such a flow does well. About 7 ms at 512² on one core.
    """
    grey = [cv2.cvtColor((np.clip(p, 0, 1) * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for p in (target, source)]
    still = np.zeros((*grey[0].shape, 2), np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST).calc(grey[0], grey[1], still)
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    moved = cv2.remap(
        correction, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32).reshape(correction.shape)


def between(
    prior: Array,  # (H, W, 3) the frame to correct
    before: tuple[Array, Array],  # prior and correction (H, W, 3) of the generated frame before it
    after: tuple[Array, Array] | None,  # and after it; None at the end of the video
    position: float,  # where the frame lies between the two, in (0, 1)
) -> Array:
    """The correction of a frame that was not generated, (H, W, 3), from its generated neighbours."""
    left = carried(before[1], before[0], prior)
    if after is None:
        return left
    right = carried(after[1], after[0], prior)
    return (1 - position) * left + position * right


def doubting_mouth(prior: Prior, mask: Array) -> Prior:
    """The prior with no confidence where the mouth is left to sound: `mask` (F, H, W) of `conditions.mouth_mask`.

    Its edge is soft, inwards, so that no seam shows.
    """
    blurred = [cv2.GaussianBlur(m, (0, 0), 1 + 0.05 * float(m.sum()) ** 0.5) for m in mask]  # ours: 5 px at 80 x 80
    soft = torch.from_numpy(np.clip(2 * np.stack(blurred) - 1, 0, 1))[:, None].to(prior.frames.device)
    return Prior(prior.frames, prior.confidence * (1 - soft))


class Compositor:
    """Takes windows of generated frames and hands out finished frames in order, each exactly once."""

    def __init__(self, stride: int = 1, by_confidence: bool = True) -> None:
        self.stride, self.by_confidence = stride, by_confidence
        self._key: tuple[Array, Array] | None = None  # prior and correction of the last generated frame
        self._waiting: list[tuple[Array, Array]] = []  # prior and doubt of the frames after it

    def add(
        self,
        generated: Tensor,  # (ceil(F / k), 3, H, W): frames 0, k, 2 k, ... of the window
        prior: Prior | None,  # F frames; None: there is no prior, and k is 1
    ) -> Iterator[Tensor]:
        """Finished frames (f, 3, H, W), on the CPU: all but those that wait for the next generated frame."""
        generated = generated.float().cpu()
        if prior is None:
            yield generated
            return
        frames, doubt = prior.frames.float().cpu(), 1 - prior.confidence.float().cpu()
        doubt = doubt if self.by_confidence else torch.ones_like(doubt)
        if self.stride == 1:
            yield frames + doubt * (generated - frames)
            return
        finished: list[Array] = []
        corrections = _pictures(generated - frames[:: self.stride])
        pictures, doubts = _pictures(frames), _pictures(doubt)
        for index, (picture, unsure) in enumerate(zip(pictures, doubts, strict=True)):
            if index % self.stride:
                self._waiting.append((picture, unsure))
                continue
            key = picture, corrections[index // self.stride]
            finished += self._fill(key)
            finished.append(_corrected(picture, key[1], unsure))
            self._key = key
        yield _frames(finished)

    def finish(self) -> Iterator[Tensor]:
        """What waited for another generated frame when the video ended."""
        if self._waiting:
            yield _frames(self._fill(None))

    def state(self) -> dict[str, Tensor]:
        """What the next window goes on from: pictures of the last generated frame and of those that wait."""
        if self._key is None:
            return {}
        found = {"key": torch.from_numpy(np.stack(self._key))}
        if self._waiting:
            pictures, doubts = zip(*self._waiting, strict=True)
            found |= {"pictures": torch.from_numpy(np.stack(pictures)), "doubts": torch.from_numpy(np.stack(doubts))}
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        pictures, doubts = (list(state[name].numpy()) if name in state else [] for name in ("pictures", "doubts"))
        self._key = (state["key"][0].numpy(), state["key"][1].numpy()) if "key" in state else None
        self._waiting = list(zip(pictures, doubts, strict=True))

    def _fill(self, after: tuple[Array, Array] | None) -> list[Array]:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        assert self._key is not None  # the first frame of a window is always generated
        return [
            _corrected(picture, between(picture, self._key, after, (index + 1) / self.stride), unsure)
            for index, (picture, unsure) in enumerate(waiting)
        ]


def _corrected(picture: Array, correction: Array, doubt: Array) -> Array:
    return np.clip(picture + doubt * correction, 0, 1)


def _pictures(frames: Tensor) -> list[Array]:
    """(F, C, H, W) to pictures (H, W, C)."""
    return list(np.ascontiguousarray(frames.permute(0, 2, 3, 1).numpy()))


def _frames(pictures: list[Array]) -> Tensor:
    """Pictures (H, W, 3) to frames (F, 3, H, W)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
