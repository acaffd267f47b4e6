"""Soft classes on a pixel grid as the solution of Laplace's equation between fixed seeds (random walker).

Letters: H W grid size, C classes. The probability that a random walk from a pixel first meets a seed of class c is
harmonic: with links g between neighbours, sum g (p_i - p_j) = 0 (Grady 2006, equation 8).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu

from avatar.warp.body import Array

LEAK = 1e-9  # keeps pockets without a seed solvable; they then take the mean of what leaks in


def diffuse(
    seeds: np.ndarray,  # (H, W) int, -1 where free
    classes: int,
    links_right: Array,  # (H, W-1) strength between a pixel and its right neighbour
    links_down: Array,  # (H-1, W)
    domain: np.ndarray,  # (H, W) bool; pixels outside come back as 0
) -> Array:
    """Probabilities (H, W, C) float32; one-hot at seeds, 0 outside the domain."""
    height, width = seeds.shape
    result = np.zeros((height * width, classes), np.float32)
    flat_seed = np.where(domain, seeds, -1).ravel()
    fixed = flat_seed >= 0
    result[fixed, flat_seed[fixed]] = 1
    free = domain.ravel() & ~fixed
    if not free.any() or not fixed.any():
        return result.reshape(height, width, classes)
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    right = (links_right * (domain[:, :-1] & domain[:, 1:]) + LEAK).ravel()
    down = (links_down * (domain[:-1] & domain[1:]) + LEAK).ravel()
    first = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    second = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    weight = np.concatenate([right, down]).astype(np.float64)
    number = np.full(height * width, -1, np.int32)
    number[free] = np.arange(int(free.sum()), dtype=np.int32)
    n = int(free.sum())
    degree = np.bincount(first, weight, height * width) + np.bincount(second, weight, height * width)
    rhs = np.zeros((n, classes))
    for a, b in ((first, second), (second, first)):
        to_seed = free[a] & fixed[b]
        np.add.at(rhs, (number[a[to_seed]], flat_seed[b[to_seed]]), weight[to_seed])
    inner = free[first] & free[second]
    rows, columns, values = number[first[inner]], number[second[inner]], -weight[inner]
    matrix = sparse.coo_matrix(
        (
            np.concatenate([values, values, degree[free] + 1e-10]),
            (np.concatenate([rows, columns, np.arange(n)]), np.concatenate([columns, rows, np.arange(n)])),
        ),
        (n, n),
    ).tocsc()
    # The matrix is symmetric and diagonally dominant: minimum degree on A+A' without pivoting is 2-3 times as fast.
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    result[free] = factor.solve(rhs)
    return np.clip(result, 0, 1).reshape(height, width, classes)


def smoothstep(x: Array) -> Array:
    """3x² - 2x³ on [0, 1], constant outside."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
