"""Outlines of lips and lids, and how much of each pixel they enclose."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def polygon(points: Array, first: tuple[int, ...], second: tuple[int, ...]) -> Array:
    """The closed outline along the points `first` and back along `second`, whose ends are the same two, (N, 2)."""
    return points[[*first, *second[-2:0:-1]]]


def rounded(row: Array) -> Array:
    """A row of points (N, 2) with three more between each two, on a Catmull-Rom curve, (4 N - 3, 2)."""
    before, after = np.concatenate([row[:1], row[:-1]]), np.concatenate([row[1:], row[-1:]])
    slope = (after - before) / 2
    t = np.arange(4, dtype=np.float32)[:, None] / 4
    first, second = row[:-1, None], row[1:, None]
    curve = (2 * t**3 - 3 * t**2 + 1) * first + (t**3 - 2 * t**2 + t) * slope[:-1, None]
    curve = curve + (3 * t**2 - 2 * t**3) * second + (t**3 - t**2) * slope[1:, None]
    return np.concatenate([curve.reshape(-1, 2), row[-1:]])


def coverage(outline: Array, size: tuple[int, ...]) -> Array:
    """How much of each pixel of a box of `size` (height, width) lies inside an outline, in [0, 1], by 4 x 4 samples.

    The outline's coordinates count from the box's corner, pixel (0, 0) is centred on (0.5, 0.5).
    """
    mask = np.zeros((size[0] * 4, size[1] * 4), np.uint8)
    cv2.fillPoly(mask, [np.round((outline * 4 - 0.5) * 16).astype(np.int32)], (255,), cv2.LINE_8, 4)
    cover = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    # OpenCV fills the outline too, an eighth of a pixel to both sides: a closed mouth would leave a thin line.
    return np.clip((cover - 0.3) / 0.7, 0, 1)


def seam(upper: Array, lower: Array, strength: Array, size: tuple[int, ...], width: float) -> Array:
    """A soft line `width` pixels wide where two edges (N, 2) touch, fading as they part, in [0, 1].

    `strength` (N,) in [0, 1] weakens it by place; coordinates as in `coverage`. Each pixel is sampled from one place
    of the photo, so that edges pressed together meet in steps: this covers them with the dark line that is seen there.
    """
    line = np.zeros((size[0] * 4, size[1] * 4), np.uint8)
    middle = np.round(((upper + lower) / 2 * 4 - 0.5) * 16).astype(np.int32)
    levels = strength * np.clip(1.5 - np.linalg.norm(lower - upper, axis=1), 0, 1)
    for first, second, level in zip(middle, middle[1:], (levels[1:] + levels[:-1]) / 2, strict=False):
        if level > 0:
            start, end = (int(first[0]), int(first[1])), (int(second[0]), int(second[1]))
            cv2.line(line, start, end, (int(255 * level),), max(1, round(4 * width)), cv2.LINE_8, 4)
    return cv2.resize(line, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def sample(image: NDArray[Any], places: Array, outside: float | None = None) -> Array:
    """The image (H, W, ...) at places (h, w, 2), bilinear; beyond it the value `outside`, or its border.

    Pixel (0, 0) is centred on (0.5, 0.5).
    """
    x, y = (np.ascontiguousarray(places[..., axis] - 0.5, np.float32) for axis in range(2))
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    found = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border, borderValue=(outside or 0.0,) * 4)
    return np.asarray(found, np.float32)


def bounds(outline: Array, size: tuple[int, ...]) -> tuple[slice, slice] | None:
    """Rows and columns around an outline, a pixel wider, inside a box of `size` (height, width); None outside it."""
    low = np.floor(outline.min(axis=0)).astype(int) - 1
    high = np.ceil(outline.max(axis=0)).astype(int) + 1
    x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], size[1]), min(high[1], size[0])
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def smoothstep(x: Any) -> Any:
    """0 below 0, 1 above 1, smooth between; numbers or arrays."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
