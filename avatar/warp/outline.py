"""Outlines of lips and lids, and how much of each pixel they enclose."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def polygon(points: Array, first: tuple[int, ...], second: tuple[int, ...]) -> Array:
    """The closed outline along the points `first` and back along `second`, whose ends are the same two, (N, 2)."""
    return points[[*first, *second[-2:0:-1]]]


def coverage(outline: Array, size: tuple[int, int]) -> Array:
    """How much of each pixel of a box of `size` (height, width) lies inside an outline, in [0, 1], by 4 x 4 samples.

    The outline's coordinates count from the box's corner, pixel (0, 0) is centred on (0.5, 0.5).
    """
    mask = np.zeros((size[0] * 4, size[1] * 4), np.uint8)
    cv2.fillPoly(mask, [np.round((outline * 4 - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    cover = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    # OpenCV fills the outline too, an eighth of a pixel to both sides: a closed mouth would leave a thin line.
    return np.clip((cover - 0.3) / 0.7, 0, 1)


def seam(upper: Array, lower: Array, size: tuple[int, int], width: float) -> Array:
    """A soft line `width` pixels wide where two edges (N, 2) of equal length touch, fading as they part, in [0, 1].

    Coordinates as in `coverage`. Each pixel is sampled from one place of the photo, so that edges pressed together
    meet in steps: this covers them with the dark line that is seen there.
    """
    line = np.zeros((size[0] * 4, size[1] * 4), np.uint8)
    middle = np.round(((upper + lower) / 2 * 4 - 0.5) * 16).astype(np.int32)
    apart = np.linalg.norm(lower - upper, axis=1)
    for first, second, gap in zip(middle, middle[1:], np.maximum(apart[1:], apart[:-1]), strict=False):
        level = int(255 * np.clip(1.5 - gap, 0, 1))
        if level:
            cv2.line(line, first.tolist(), second.tolist(), level, max(1, round(4 * width)), cv2.LINE_8, 4)
    return cv2.resize(line, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def bounds(outline: Array, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """Rows and columns around an outline, a pixel wider, inside a box of `size` (height, width); None outside it."""
    low = np.floor(outline.min(axis=0)).astype(int) - 1
    high = np.ceil(outline.max(axis=0)).astype(int) + 1
    x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], size[1]), min(high[1], size[0])
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def smoothstep(x: Array) -> Array:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
