"""WInD, the Wasserstein distance between Gaussian mixtures (SAiD): optimal transport between components.

Letters: K components, D width of a feature, N samples. The cost of moving one component onto another is the Fréchet
distance. The fit of a mixture starts from random numbers, so that values of different fits agree to about two digits;
on given mixtures the value is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from pose.metrics.arrays import Double, finite
from pose.metrics.frechet import gaussian_distance


@dataclass(frozen=True)
class Mixture:
    """`means` (K, D), `covariances` (K, D, D), `weights` (K,) that sum to 1."""

    means: Double
    covariances: Double
    weights: Double

    def __post_init__(self) -> None:
        count, width = np.shape(self.means)
        if np.shape(self.covariances) != (count, width, width) or np.shape(self.weights) != (count,):
            raise ValueError(
                f"means {np.shape(self.means)} need covariances ({count}, {width}, {width}) and weights ({count},), "
                f"got {np.shape(self.covariances)} and {np.shape(self.weights)}"
            )
        if abs(np.sum(self.weights) - 1) > 1e-6 or np.min(self.weights) < 0:
            raise ValueError(f"weights must be 0 or more and sum to 1, got {self.weights}")


def fit_mixture(features: ArrayLike, components: int = 5, seed: int | np.random.RandomState = 0) -> Mixture:
    """Fit a full-covariance mixture to features (N, D) with scikit-learn's expectation maximisation."""
    from sklearn.mixture import GaussianMixture

    values = finite(features, "features", dimensions=2, least=2 * components)
    fitted = GaussianMixture(n_components=components, random_state=seed).fit(values)
    return Mixture(fitted.means_, fitted.covariances_, fitted.weights_)


def mixture_distance(first: Mixture, second: Mixture, variant: str = "pytorch_fid") -> float:
    """The cheapest plan (K1, K2) with the weights as its sums; `variant` of the Fréchet distance."""
    rows, columns = len(first.weights), len(second.weights)
    cost = np.array(
        [
            gaussian_distance(first.means[i], first.covariances[i], second.means[j], second.covariances[j], variant)
            for i in range(rows)
            for j in range(columns)
        ]
    )
    sums = np.concatenate([np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))])
    wanted = np.concatenate([first.weights / first.weights.sum(), second.weights / second.weights.sum()])
    # The last condition follows from the others; leaving it out spares the solver a contradiction by rounding.
    plan = linprog(cost, A_eq=sums[:-1], b_eq=wanted[:-1], bounds=(0, None), method="highs")
    if not plan.success:
        raise ValueError(f"no transport plan between the mixtures: {plan.message}")
    return float(plan.fun)


def wind(
    first: ArrayLike, second: ArrayLike, components: int = 5, repeats: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation over `repeats` fits of the distance between features (N, D) and (M, D)."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    random = np.random.RandomState(seed)
    values = [
        mixture_distance(fit_mixture(first, components, random), fit_mixture(second, components, random))
        for _ in range(repeats)
    ]
    return float(np.mean(values)), float(np.std(values))
