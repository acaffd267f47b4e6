"""How varied motion is: five quantities that are all called diversity, and multimodality.

Letters: N samples, F frames, D numbers a frame, J joints. None of them knows good from bad: noise raises them all, a
value above that of the ground truth is not better. A constant has 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.metrics.arrays import finite, known, same_shape

PAIR_CHUNK = 50  # clips; DiffSHEG after Ye et al. (ECCV 2022)
LATENT_PAIRS = 500


def l1_diversity(clips: Sequence[ArrayLike] | NDArray, variant: str = "emage") -> float:
    """BEAT's L1div: sum over frames and numbers of |x - mean of the clip|, divided by the number of all frames.

    "emage": clips (F, D), in the papers positions of 55 joints in metres, whole files. "beat": clips (W, F, D), the
    windows of one file laid end to end, in the papers 141 Euler angles in degrees, 34 frames every 10; or laid so
    already, (F, D). A single array (F, D) is one clip.
    The unit is that of the input times D: numbers of different widths cannot be compared.
    """
    known(variant, ("emage", "beat"))
    if isinstance(clips, np.ndarray) and clips.ndim == 2:
        clips = [clips]
    if not len(clips):
        raise ValueError("no clips; pass at least one")
    total, frames = 0.0, 0
    for number, clip in enumerate(clips):
        values = finite(clip, f"clip {number}", dimensions=(2, 3) if variant == "beat" else 2)
        values = values.reshape(-1, values.shape[-1])
        values = values - values[0]  # a constant then has exactly 0: the mean of equal numbers is rounded
        total += np.abs(values - values.mean(0)).sum()
        frames += len(values)
    return float(total / frames)


def latent_diversity(features: ArrayLike, order: ArrayLike | None = None, seed: int = 0) -> float:
    """DiffGesture's and HA2G's: mean L1 distance between the first 500 features and 500 in a random order.

    `features` (N, D) of an FGD extractor, or (N, B, D) when N batches of B are shuffled as in the released code.
    `order` (N,) is the permutation; otherwise it is drawn from `seed`. A feature may meet itself, which lowers the
    value by 1 in N.
    """
    values = finite(features, "features", dimensions=(2, 3), least=2)
    places = np.random.default_rng(seed).permutation(len(values)) if order is None else np.asarray(order)
    if sorted(places.tolist()) != list(range(len(values))):
        raise ValueError(f"order must be a permutation of {len(values)} features")
    return float(np.abs(values[:LATENT_PAIRS] - values[places[:LATENT_PAIRS]]).sum(-1).mean())


def pair_diversity(clips: ArrayLike, chunk: int = PAIR_CHUNK) -> float:
    """DiffSHEG's: mean |difference| over all pairs of clips of a chunk, mean over whole chunks of 50.

    `clips` (N, F, …) normalised pose parameters; clips after the last whole chunk are not used, fewer than `chunk`
    make one chunk.
    """
    values = finite(clips, "clips", dimensions=(3, 4), least=2)
    chunk = min(chunk, len(values))
    if chunk < 2:
        raise ValueError(f"a chunk must hold at least 2 clips, got {chunk}")
    values = values.reshape(len(values), -1)
    means = []
    for start in range(0, len(values) - chunk + 1, chunk):
        part = values[start : start + chunk]
        sums = sum(np.abs(part[i + 1 :] - part[i]).mean(1).sum() for i in range(chunk - 1))
        means.append(sums * 2 / (chunk * (chunk - 1)))
    return float(np.mean(means))


def sample_variance(samples: ArrayLike) -> float:
    """TalkSHOW's "diverse": variance over B motions for one speech, its length over x, y, z, sum over J, mean over F.

    `samples` (B, F, J, 3), B at least 2; with N - 1.
    """
    values = finite(samples, "samples", dimensions=4, least=2)
    values = values - values[0]
    return float(np.linalg.norm(values.var(0, ddof=1), axis=-1).sum(-1).mean())


def multimodality(first: ArrayLike, second: ArrayLike) -> float:
    """SAiD's: mean L2 distance between features (N, D) of two motions for each of N speeches."""
    a, b = finite(first, "first", dimensions=2), finite(second, "second", dimensions=2)
    same_shape(a, b, "the two halves")
    return float(np.linalg.norm(a - b, axis=1).mean())
