"""The Fréchet distance between two sets of features taken for Gaussians: the core of FGD, FED, FMD and FD.

    d² = |μ1 - μ2|² + Tr Σ1 + Tr Σ2 - 2 Tr √(Σ1 Σ2)        (Dowson and Landau 1982; covariances with N - 1)

Letters: N samples, D width of a feature. Three numerical forms are in use and differ in the third digit when the
covariances are nearly singular:

- "symmetric" (ours, the default): with Σ = X'X, the trace is the sum of the singular values of X1 X2'. Never complex,
  exact for singular covariances, 0 for equal sets up to rounding; features need no covariance at all, so that 16 clips
  of 400 numbers cost nothing.
- "pytorch_fid" (BEAT, DiffGesture, TalkSHOW, DiffSHEG, SAiD): matrix root of Σ1 Σ2; 1e-6 is added to both diagonals
  only if the root is not finite; an imaginary part above 1e-3 on the diagonal is an error (the released wrappers turn
  it into 1e10).
- "emage_evaltools": 1e-6 is always added inside the root and the imaginary part is dropped. The distance of a set to
  itself is about -2e-6 D instead of 0.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from pose.metrics.arrays import Double, finite, known

VARIANTS = ("symmetric", "pytorch_fid", "emage_evaltools")
_OFFSET = 1e-6


def frechet_distance(first: ArrayLike, second: ArrayLike, variant: str = "symmetric") -> float:
    """Distance between features (N, D) and (M, D), N and M at least 2. With N <= D it is biased high; compare equal N.

    The unit is that of the features, squared.
    """
    a, b = finite(first, "first", dimensions=2, least=2), finite(second, "second", dimensions=2, least=2)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"features must have one width, got {a.shape[1]} and {b.shape[1]}: are they of one extractor?"
        )
    known(variant, VARIANTS)
    if variant != "symmetric":
        return gaussian_distance(*moments(a), *moments(b), variant)
    shift = a.mean(0) - b.mean(0)
    return _symmetric(shift, *((part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (a, b)))


def moments(features: Double) -> tuple[Double, Double]:
    """Mean (D,) and covariance (D, D), with N - 1."""
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def gaussian_distance(
    mean1: ArrayLike, covariance1: ArrayLike, mean2: ArrayLike, covariance2: ArrayLike, variant: str = "symmetric"
) -> float:
    """Distance between two Gaussians: means (D,), covariances (D, D)."""
    known(variant, VARIANTS)
    mean1, mean2 = (finite(mean, "mean", dimensions=1) for mean in (mean1, mean2))
    covariance1, covariance2 = (finite(c, "covariance", dimensions=2) for c in (covariance1, covariance2))
    width = len(mean1)
    if len(mean2) != width or {covariance1.shape, covariance2.shape} != {(width, width)}:
        raise ValueError(
            f"means (D,) and covariances (D, D) must have one D, got {mean1.shape}, {covariance1.shape}, "
            f"{mean2.shape}, {covariance2.shape}"
        )
    shift = mean1 - mean2
    if variant == "symmetric":
        return _symmetric(shift, _factor(covariance1), _factor(covariance2))
    root = _root_trace(covariance1, covariance2, variant)
    return float(shift @ shift + np.trace(covariance1) + np.trace(covariance2) - 2 * root)


def _symmetric(shift: Double, root1: Double, root2: Double) -> float:
    """The distance of shift (D,) and factors X (K, D) with X'X = Σ; below 0 by rounding only."""
    # Of more rows than columns the triangle of a QR decomposition is a smaller factor of the same covariance.
    root1, root2 = (np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x for x in (root1, root2))
    shared = np.linalg.svd(root1 @ root2.T, compute_uv=False).sum()
    return max(float(shift @ shift + np.square(root1).sum() + np.square(root2).sum() - 2 * shared), 0.0)


def _factor(covariance: Double) -> Double:
    """X (D, D) with X'X a covariance, by eigenvalues: it may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))).T


def _root_trace(covariance1: Double, covariance2: Double, variant: str) -> float:
    """Tr √(Σ1 Σ2) as released."""
    offset = _OFFSET * np.eye(len(covariance1))
    if variant == "emage_evaltools":
        return float(np.trace(scipy.linalg.sqrtm((covariance1 + offset) @ (covariance2 + offset))).real)
    root = scipy.linalg.sqrtm(covariance1 @ covariance2)
    if not np.isfinite(root).all():
        root = scipy.linalg.sqrtm((covariance1 + offset) @ (covariance2 + offset))
    if np.iscomplexobj(root) and not np.allclose(np.diagonal(root).imag, 0, atol=1e-3):
        raise ValueError(
            f"the matrix root is complex (up to {np.abs(root.imag).max():.3g}): too few samples for this width; "
            "pass more, or take variant='symmetric'"
        )
    return float(np.trace(root).real)
