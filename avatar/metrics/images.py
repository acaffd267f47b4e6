"""Distances between two videos of the same size, frame by frame: MSE, MAE, PSNR, SSIM, MS-SSIM.

Letters: F frames, H W image size, C channels. Videos are (F, H, W) or (F, H, W, C), both uint8 or both float with
values in [0, `peak`]; every function gives one number a frame, (F,) float64. Colour is averaged over its channels
after the measure, as scikit-image and torchmetrics do.

SSIM is ours because the well-kept libraries differ in the second decimal by what they do at the border: torchmetrics
reflects and averages all pixels; here, as in the paper and in scikit-video, only windows that lie wholly inside count.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]
Video = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, "Image quality assessment", section III-C
K1, K2 = 0.01, 0.03  # the same
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, "Multi-scale structural similarity"


def mse(first: Video, second: Video, inside: NDArray[np.bool_] | None = None) -> Double:
    """Mean squared error, squared units of the pixels; `inside` (H, W): of these pixels only."""
    _check(first, second)
    if inside is not None and (inside.shape != first.shape[1:3] or not inside.any()):
        raise ValueError(f"inside must be {first.shape[1:3]} with at least one pixel, got {inside.shape}")
    squares = ((a.astype(np.float64) - b) ** 2 for a, b in zip(first, second, strict=True))
    return np.array([np.mean(square if inside is None else square[inside]) for square in squares])


def mae(first: Video, second: Video) -> Double:
    """Mean absolute error, units of the pixels."""
    _check(first, second)
    return np.array([np.mean(np.abs(a.astype(np.float64) - b)) for a, b in zip(first, second, strict=True)])


def psnr(first: Video, second: Video, peak: float = 255.0, inside: NDArray[np.bool_] | None = None) -> Double:
    """Peak signal-to-noise ratio, dB; inf for a frame that is equal in every pixel; `inside` as in `mse`."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / mse(first, second, inside))


def mean_psnr(values: Double) -> tuple[float, int]:
    """PSNR of a video from that of its frames: mean over the frames that differ, and how many were equal.

    One equal frame would make the plain mean infinite. A video of equal frames only is inf.
    """
    if len(values) == 0:
        raise ValueError("no frames to average; pass at least one")
    differ = np.isfinite(values)
    return (float(values[differ].mean()) if differ.any() else float("inf")), int((~differ).sum())


def ssim(first: Video, second: Video, peak: float = 255.0) -> Double:
    """Structural similarity in [-1, 1], 1 for equal frames: Gaussian window 11, sigma 1.5, population covariances."""
    _check(first, second)
    if min(first.shape[1:3]) < WINDOW:
        raise ValueError(f"SSIM needs frames of at least {WINDOW} pixels a side, got {first.shape[1:3]}")
    return np.array([_similarity(*_double(a, b), peak)[0].mean() for a, b in zip(first, second, strict=True)])


def ms_ssim(
    first: Video, second: Video, peak: float = 255.0, variant: Literal["paper", "scikit-video"] = "paper"
) -> Double:
    """Multi-scale structural similarity over five scales, each half the last; needs at least 176 pixels a side.

    `paper`: every scale raised to its weight (Wang et al. 2003, eq. 7). `scikit-video`: the coarsest scale is not
    raised to its weight, as that package has it. Negative contrast terms count as 0.
    """
    _check(first, second)
    least = WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)
    if min(first.shape[1:3]) < least:
        raise ValueError(
            f"MS-SSIM needs frames of at least {least} pixels a side, got {first.shape[1:3]}; pad both alike (np.pad) "
            "as scikit-video does with its own pair, or enlarge both"
        )
    released = variant == "scikit-video"
    scores = []
    for pair in zip(first, second, strict=True):
        images, score = list(_double(*pair)), np.ones(1)
        for scale, weight in enumerate(SCALE_WEIGHTS):
            similarity, contrast = _similarity(images[0], images[1], peak)
            last = scale == len(SCALE_WEIGHTS) - 1
            term = np.maximum((similarity if last else contrast).mean(axis=(0, 1)), 0)
            score = score * (term if released and last else term**weight)
            images = [_halved(image) for image in images]
        scores.append(score.mean())
    return np.array(scores)


def _similarity(first: Double, second: Double, peak: float) -> tuple[Double, Double]:
    """SSIM and its contrast-structure term at every whole window, (H - 10, W - 10, C)."""
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mean_a, mean_b = _window(first), _window(second)
    variance_a = _window(first * first) - mean_a**2
    variance_b = _window(second * second) - mean_b**2
    covariance = _window(first * second) - mean_a * mean_b
    contrast = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return contrast * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1), contrast


def _window(image: Double) -> Double:
    """Weighted mean in each whole window, (H - 10, W - 10, C)."""
    blurred = cv2.GaussianBlur(image, (WINDOW, WINDOW), SIGMA).reshape(image.shape)  # OpenCV drops a single channel
    half = WINDOW // 2
    return blurred[half:-half, half:-half].astype(np.float64)


def _halved(image: Double) -> Double:
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    # The anchor of OpenCV's even kernel is its right half: each pixel becomes the mean of itself and the one before.
    return cv2.blur(image, (2, 2)).reshape(image.shape)[1::2, 1::2].astype(np.float64)


def _double(first: Video, second: Video) -> tuple[Double, Double]:
    """Two images as (H, W, C) float64."""
    return np.atleast_3d(first).astype(np.float64), np.atleast_3d(second).astype(np.float64)


def _check(first: Video, second: Video) -> None:
    if first.shape != second.shape or first.ndim not in (3, 4):
        raise ValueError(
            f"videos must be (F, H, W) or (F, H, W, C) of one shape, got {first.shape} and {second.shape}; "
            "cut them to the same frames and resize one of them"
        )
    if len(first) == 0:
        raise ValueError("no frames to compare; pass at least one")
    if (first.dtype == np.uint8) != (second.dtype == np.uint8):
        raise ValueError(f"videos must have the same range of values, got {first.dtype} and {second.dtype}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("the videos hold NaN or infinite pixels")
