"""How much of the true motion is hit: SRGR, PCK and PCM, mean squared error.

Letters: F frames, J joints, C numbers a joint, N clips. For speech there are many right gestures: these measures
reward one of them, and a mean pose can score well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pose.metrics.arrays import finite, known, same_shape

SEMANTIC_SHARE = 0.165  # mean semantic score of BEAT: SRGR is 1 when everything is hit there


def srgr(
    predicted: ArrayLike,  # (F, J * C) or (F, J, C)
    target: ArrayLike,  # the same shape
    semantic: ArrayLike | None = None,  # (F,) in [0, 1]; None: every frame counts 1 and the share is 1
    variant: str = "beat_v1",
    threshold: float = 4.0,
    joints: int = 47,
) -> float:
    """Semantic-relevant gesture recall: share of joints nearer than `threshold`, weighted by `semantic` / 0.165.

    "beat_v1": the L1 distance over the C numbers of a joint, in the paper Euler angles in degrees below 4.
    "emage_evaltools": the L2 distance; its default threshold is 0.1. Files are averaged by their frames. A semantic
    score that is 0 everywhere is an error here; the released code counts such a file as 0.
    """
    known(variant, ("beat_v1", "emage_evaltools"))
    a, b = finite(predicted, "predicted", dimensions=(2, 3)), finite(target, "target", dimensions=(2, 3))
    same_shape(a, b, "predicted and target")
    if joints < 1 or a[0].size % joints:
        raise ValueError(f"{a[0].size} numbers a frame are not a multiple of {joints} joints")
    difference = (a - b).reshape(len(a), joints, -1)
    distance = np.abs(difference).sum(-1) if variant == "beat_v1" else np.linalg.norm(difference, axis=-1)
    hit = (distance < threshold).mean(1)
    if semantic is None:
        if variant == "beat_v1":
            raise ValueError("BEAT's SRGR needs semantic scores (F,); without them take variant='emage_evaltools'")
        return float(hit.mean())
    weight = finite(semantic, "semantic", dimensions=1)
    if len(weight) != len(a):
        raise ValueError(f"semantic must be ({len(a)},), got {weight.shape}")
    if not weight.any():
        raise ValueError("no frame has a semantic score: SRGR is not defined for this clip")
    return float((hit * weight).mean() / SEMANTIC_SHARE)


def pck(predicted: ArrayLike, target: ArrayLike, variant: str = "beat", threshold: float = 0.5) -> float:
    """Share of correct keypoints or motion (PCK, PCM) after DiffSHEG, on *normalised* pose parameters (..., D).

    "beat": triples of numbers count as a joint, their L2 distance is below `threshold`. "show": each number alone.
    """
    known(variant, ("beat", "show"))
    a, b = finite(predicted, "predicted", dimensions=(1, 2, 3)), finite(target, "target", dimensions=(1, 2, 3))
    same_shape(a, b, "predicted and target")
    if variant == "show":
        return float((np.abs(a - b) < threshold).mean())
    if a.shape[-1] % 3:
        raise ValueError(f"the last axis must hold triples, got {a.shape[-1]} numbers; take variant='show'")
    return float((np.linalg.norm((a - b).reshape(*a.shape[:-1], -1, 3), axis=-1) < threshold).mean())


def mean_squared_error(predicted: ArrayLike, target: ArrayLike) -> float:
    """Mean of squared differences of arrays of any one shape: DiffSHEG's MSE on parameters, evaltools' on vertices.

    The papers on BEAT2 print it times 1e8 (EMAGE) or 1e5.
    """
    a, b = (finite(value, "input", dimensions=(1, 2, 3, 4)) for value in (predicted, target))
    same_shape(a, b, "predicted and target")
    return float(np.square(a - b).mean())
