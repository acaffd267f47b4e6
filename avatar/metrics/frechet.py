"""Fréchet distance of two sets of features: the last step of FID and FVD.

Letters: N, M samples, D features. A number means nothing without the name of the network that made the features and
the two counts: the distance falls as the counts rise, and with N <= D the covariance is singular.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frechet_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """|m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½) of features (N, D) and (M, D), squared units of the features.

    Heusel et al. 2017, "GANs trained by a two time-scale update rule", eq. 6; unbiased covariances. The trace of the
    root is the sum of the singular values of S1^½ S2^½, which needs neither a complex root nor an offset.
    """
    for features in (first, second):
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"a Fréchet distance needs features (N, D) with N > 1, got {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError("the features hold NaN or infinite values; check the network and its input")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features must be of one network, got {first.shape[1]} and {second.shape[1]} of them")
    first, second = first.astype(np.float64), second.astype(np.float64)
    step = first.mean(axis=0) - second.mean(axis=0)
    # With X centred and divided by sqrt(N - 1), S = X'X, and the singular values of S1^½ S2^½ are those of X1 X2':
    # of min(N, D) size, so 16 clips of 400 features cost nothing.
    roots = [_root(features - features.mean(axis=0)) for features in (first, second)]
    trace = sum(float((root**2).sum()) for root in roots)
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return max(float(step @ step + trace - 2 * shared), 0.0)


def _root(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix X (K, D), K <= D, with X'X the covariance of centred samples (N, D)."""
    root = centred / np.sqrt(len(centred) - 1)
    return np.asarray(np.linalg.qr(root, mode="r")) if len(root) > root.shape[1] else root
