"""Windows of a long recording made into one stream: each frame once, no seam.

    window 0   [s s|a a a a a a|t t]
    window 1                   [t t|b b b b b b|t t]        s seed frames, t the overlap of S frames
    out             a a a a a a  x x b b b b b b  x x …     x: cross-fade over the whole overlap

Letters: B clips, F frames of a window, S frames of the overlap, n frames of a piece, P width of a pose vector.
"""

from __future__ import annotations

import torch
from scipy.signal import savgol_filter
from torch import Tensor


def crossfade_weights(overlap: int, fidelity: str = "paper") -> Tensor:
    """(S,) weight of the new window in each frame of the overlap: 1 / (S + 1) to S / (S + 1).

    "released": DiffuseStyleGesture's code, which means the same but blends the first frame alone, half and half.
    """
    if fidelity == "released":
        return torch.tensor([0.5] + [1.0] * (overlap - 1))[:overlap]
    return torch.arange(1, overlap + 1) / (overlap + 1)


class Stitcher:
    """Joins windows that overlap by S frames. Frames come out as soon as no later window can change them.

    `tail` (B, S, P) is what the next window starts from: the end of what was made, not yet put out. The first window's
    first S frames lie before the recording and are left out. `weights` (S,): the new window's share of the overlap.
    """

    def __init__(self, tail: Tensor, weights: Tensor) -> None:
        if tail.ndim != 3 or weights.shape != tail.shape[1:2]:
            raise ValueError(f"the tail must be (B, S, P) and its weights (S,), got {tail.shape} and {weights.shape}")
        self.overlap, self.tail = len(weights), tail
        self.weights = weights[:, None].to(tail)
        self.begun = False

    def push(self, window: Tensor) -> Tensor:
        """A window (B, F, P) to the F - S frames that are now finished; F - 2 S for the first."""
        overlap = self.overlap
        if window.shape[1] < 2 * overlap:
            raise ValueError(f"a window must hold two overlaps of {overlap} frames, got {window.shape[1]} frames")
        joined = self.tail + self.weights * (window[:, :overlap] - self.tail)
        finished = torch.cat([joined, window[:, overlap : window.shape[1] - overlap]], 1)
        finished = finished if self.begun else finished[:, overlap:]
        self.tail, self.begun = window[:, window.shape[1] - overlap :], True
        return finished


class Smoother:
    """Savitzky-Golay filter of a stream: a polynomial through `window` frames about each (released code: 15, order 2).

    The same as the filter of the whole, whatever the pieces; frames come out half a window late. Of P numbers only the
    first `width` are smoothed: lips close for a tenth of a second.
    """

    def __init__(self, window: int = 15, order: int = 2, width: int | None = None) -> None:
        if window % 2 == 0 or window <= order:
            raise ValueError(f"the smoothing window must be odd and longer than its order {order}, got {window}")
        self.window, self.order, self.width = window, order, width
        self.held: Tensor | None = None  # frames still to be put out, and those before that they are fitted with
        self.late = 0  # of the held frames, how many are out already

    def push(self, piece: Tensor) -> Tensor:
        """(B, n, P) to the frames (B, ?, P) that are certain now."""
        self.held = piece if self.held is None else torch.cat([self.held, piece], 1)
        certain = self.held.shape[1] - self.window // 2
        if self.held.shape[1] < self.window or certain <= self.late:
            return piece[:, :0]
        result = self._filtered()[:, self.late : certain]
        keep = max(certain - self.window // 2 - 1, 0)  # a whole window stays: the end is fitted to it
        self.held, self.late = self.held[:, keep:], certain - keep
        return result

    def finish(self) -> Tensor | None:
        """The last frames."""
        if self.held is None:
            return None
        if self.held.shape[1] < self.window:  # shorter than the filter: nothing to smooth with
            return self.held[:, self.late :]
        return self._filtered()[:, self.late :]

    def _filtered(self) -> Tensor:
        assert self.held is not None
        width = self.held.shape[2] if self.width is None else self.width
        body, rest = self.held[..., :width], self.held[..., width:]
        filtered = savgol_filter(body.cpu().double().numpy(), self.window, self.order, axis=1)
        return torch.cat([torch.as_tensor(filtered).to(body), rest], -1)
