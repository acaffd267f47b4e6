"""What should stay still in time: the light (flicker), the background, the face's identity.

Letters: F frames, H W image size, D features. Videos are uint8 RGB (F, H, W, 3); numbers are of 255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]
Video = NDArray[np.uint8]
Masks = NDArray[np.bool_]

WINDOW_S = 60.0  # first against last minute


def flicker(video: Video, still: Masks | None = None) -> Double:
    """|I[t-1] - 2 I[t] + I[t+1]| / 2, mean over pixels and colours, (F - 2,) of 255, lower is better.

    Steady change costs nothing; a picture that alternates between two values costs half of its jump twice, that is the
    jump. `still` (H, W): count only there, where nothing moves (motion bends in time too, so without it moving
    videos score higher); ValueError when it is empty.
    """
    if len(video) < 3:
        raise ValueError(f"flicker needs three frames, got {len(video)}")
    if still is not None and not still.any():
        raise ValueError("the person fills the whole picture in some frame, so nothing is still")
    values = []
    before, now = video[0].astype(np.float32), video[1].astype(np.float32)
    for frame in video[2:]:
        after = frame.astype(np.float32)
        bend = np.abs(before - 2 * now + after).mean(axis=2) / 2
        values.append(float(bend.mean() if still is None else bend[still].mean()))
        before, now = now, after
    return np.array(values)


def background_change(video: Video, reference: NDArray[np.uint8], people: Masks) -> Double:
    """Mean absolute difference from `reference` (H, W, 3) where `people` (F, H, W) is false, (F,) of 255.

    `people` marks whoever is in the frame or in the reference, with a margin. NaN for a frame without background.
    """
    if video.shape[1:] != reference.shape or people.shape != video.shape[:3]:
        raise ValueError(f"video {video.shape}, reference {reference.shape} and people {people.shape} do not fit")
    base = reference.astype(np.float32)
    values = [
        float(np.abs(frame.astype(np.float32) - base).mean(axis=2)[~person].mean()) if not person.all() else np.nan
        for frame, person in zip(video, people, strict=True)
    ]
    return np.array(values)


def identity_drift(embeddings: NDArray[np.floating], fps: float, window_s: float = WINDOW_S) -> float:
    """1 - cosine of the mean embedding of the first and of the last `window_s` seconds, in [0, 2], lower is better.

    `embeddings` (F, D), one a frame, NaN rows where no face was found. The windows must not overlap.
    """
    count = round(window_s * fps)
    if count < 1 or len(embeddings) < 2 * count:
        raise ValueError(
            f"two windows of {window_s:g} s do not fit into {len(embeddings) / fps:.1f} s; pass a shorter window_s"
        )
    means = []
    for part in (embeddings[:count], embeddings[-count:]):
        known = part[np.isfinite(part).all(axis=1)].astype(np.float64)
        if not len(known):
            raise ValueError("no face was found in the first or in the last window")
        means.append((known / np.linalg.norm(known, axis=1, keepdims=True)).mean(axis=0))
    return float(1 - means[0] @ means[1] / (np.linalg.norm(means[0]) * np.linalg.norm(means[1])))
