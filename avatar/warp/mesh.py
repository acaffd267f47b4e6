"""Triangle meshes over a layer of the photo and their rasterisation to inverse maps.

Letters: H W image size, N vertices, T triangles, B bones, F frames, h w box size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.warp.body import Array

Ints = NDArray[np.int32]
# Largest side of a triangle's bounding box handled at once; larger boxes come from stretched cells and are rare.
BUCKETS = (6, 10, 20, 48, 128)
# Confidence of stretch: 1 up to 1.2 times, 0 from 2.5 times in either direction (chosen on the trial's sheets).
STRETCH_ZERO, STRETCH_RANGE = 0.4, 0.45


@dataclass(frozen=True)
class Mesh:
    """`vertices` (N, 2) where they are in the photo, `texture` (N, 2) where they sample it (differs only for cells
    added beyond the frame), `triangles` (T, 3) in painting order, `weights` (N, B)."""

    vertices: Array
    texture: Array
    triangles: Ints
    weights: Array


@dataclass(frozen=True)
class Raster:
    """Inverse map of one layer in a box (x0, y0, x1, y1): `source` (F, h, w, 2) pixel of the photo, `hit` (F, h, w)
    bool, `sound` (F, h, w): 1 where the texture keeps its shape, 0 where it is stretched 2.5 times."""

    box: tuple[int, int, int, int]
    source: Array
    hit: NDArray[np.bool_]
    sound: Array


def grid_cells(active: NDArray[np.bool_], cell: int, margin: int) -> tuple[Array, Ints]:
    """Vertices (N, 2) and triangles (T, 3) of the square cells that contain an active pixel.

    `active` covers the photo plus `margin` pixels on each side; vertices are in the photo's pixel coordinates.
    """
    rows, columns = (-(-n // cell) for n in active.shape)
    padded = np.zeros((rows * cell, columns * cell), bool)
    padded[: active.shape[0], : active.shape[1]] = active
    full = padded.reshape(rows, cell, columns, cell).any((1, 3))
    i, j = np.nonzero(full)
    stride = columns + 1
    corner = i * stride + j
    triangles = np.stack(
        [corner, corner + 1, corner + stride + 1, corner, corner + stride + 1, corner + stride], -1
    ).reshape(-1, 3)
    used, triangles = np.unique(triangles, return_inverse=True)
    y, x = np.divmod(used, stride)
    vertices = np.stack([x * cell - margin - 0.5, y * cell - margin - 0.5], -1).astype(np.float32)
    return vertices, triangles.reshape(-1, 3).astype(np.int32)


def skin(mesh: Mesh, bones: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vertices (F, N, 2) under bone transforms (F, B, 2, 3)."""
    frames, count = bones.shape[:2]
    flat = bones.reshape(frames, count, 6).transpose(1, 0, 2).reshape(count, frames * 6)
    blended = (mesh.weights @ flat).reshape(-1, frames, 2, 3).transpose(1, 0, 2, 3)
    return np.einsum("fnij,nj->fni", blended[..., :2], mesh.vertices.astype(np.float64)) + blended[..., 2]


def rasterise(
    mesh: Mesh,
    moved: NDArray[np.float64],  # (F, N, 2) where the vertices are in each frame
    faith: NDArray[np.float64],  # (F, N) in [0, 1]: lowers `sound` where bones show what the photo does not
    size: tuple[int, int],
) -> Raster | None:
    """Inverse map of a mesh; None when it lies outside of the frame."""
    frames, count = len(moved), len(mesh.triangles)
    low = np.maximum(np.floor(moved.min((0, 1))).astype(int), 0)
    high = np.minimum(np.ceil(moved.max((0, 1))).astype(int) + 1, [size[1], size[0]])
    if (high <= low).any():
        return None
    width, height = (high - low).tolist()
    corners = moved[:, mesh.triangles].reshape(frames * count, 3, 2)
    edges = np.swapaxes(corners[:, 1:] - corners[:, :1], 1, 2)
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    proper = np.abs(area) > 1e-3
    safe = np.where(proper, area, 1.0)
    inverse = np.stack([edges[:, 1, 1], -edges[:, 0, 1], -edges[:, 1, 0], edges[:, 0, 0]], -1) / safe[:, None]
    # Barycentric coordinates of a pixel p: (b1, b2) = inverse (p - corner 0), b0 = 1 - b1 - b2; all >= 0 inside.
    offset = -np.einsum("tij,tj->ti", inverse.reshape(-1, 2, 2), corners[:, 0])
    painted = _paint(corners, inverse, offset, proper, frames, (low[0], low[1]), (height, width))

    rest = mesh.texture[mesh.triangles].astype(np.float64)  # (T, 3, 2)
    rest_edges = np.swapaxes(rest[:, 1:] - rest[:, :1], 1, 2)
    linear = np.tile(rest_edges, (frames, 1, 1)) @ inverse.reshape(-1, 2, 2)
    shift = np.tile(rest[:, 0], (frames, 1)) - np.einsum("tij,tj->ti", linear, corners[:, 0])
    sound = soundness(linear) * faith[:, mesh.triangles].mean(-1).ravel()
    table = np.concatenate([linear.reshape(-1, 4), shift, sound[:, None]], 1).astype(np.float32)
    chosen = table[np.maximum(painted, 0)]  # (F, h, w, 7)
    x = np.arange(low[0], high[0], dtype=np.float32)
    y = np.arange(low[1], high[1], dtype=np.float32)[:, None]
    source = np.stack(
        [
            chosen[..., 0] * x + chosen[..., 1] * y + chosen[..., 4],
            chosen[..., 2] * x + chosen[..., 3] * y + chosen[..., 5],
        ],
        -1,
    )
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    hit = painted >= 0
    return Raster(box, source, hit, np.stack([_smooth(*frame) for frame in zip(chosen[..., 6], hit, strict=True)]))


def _smooth(sound: NDArray[np.float32], hit: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean over the hit ones of 7 x 7 pixels: the two halves of each cell differ and would show as hatching."""
    weight = hit.astype(np.float32)
    return cv2.blur(sound * weight, (7, 7)) / np.maximum(cv2.blur(weight, (7, 7)), 1 / 49)


def soundness(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where an inverse map keeps lengths, 0 where it stretches or squeezes 2.5 times (its singular values)."""
    square = (linear**2).sum((-2, -1))
    det = np.abs(linear[..., 0, 0] * linear[..., 1, 1] - linear[..., 0, 1] * linear[..., 1, 0])
    root = np.sqrt(np.maximum(square**2 / 4 - det**2, 0))
    largest, smallest = np.sqrt(square / 2 + root), np.sqrt(np.maximum(square / 2 - root, 1e-9))
    worst = np.minimum(smallest, 1 / np.maximum(largest, 1e-3))
    return np.clip((worst - STRETCH_ZERO) / STRETCH_RANGE, 0, 1)


def _paint(
    corners: NDArray[np.float64],  # (F*T, 3, 2)
    inverse: NDArray[np.float64],  # (F*T, 4)
    offset: NDArray[np.float64],  # (F*T, 2)
    proper: NDArray[np.bool_],
    frames: int,
    origin: tuple[int, int],
    size: tuple[int, int],
) -> Ints:
    """Which triangle each pixel shows, (F, h, w), -1 for none: the last one in order wins."""
    height, width = size
    count = len(corners) // frames
    low = np.ceil(corners.min(1) - origin - 1e-3).astype(np.int32)
    extent = (np.floor(corners.max(1) - origin + 1e-3).astype(np.int32) - low + 1).max(1)
    seen = proper & (low[:, 0] < width) & (low[:, 1] < height) & (extent > 0)
    seen &= (low[:, 0] + extent > 0) & (low[:, 1] + extent > 0)
    pixels, winners = [], []
    smallest = 0
    for bucket in BUCKETS:
        at = np.nonzero(seen & (extent > smallest) & (extent <= bucket))[0]
        smallest = bucket
        if len(at) == 0:
            continue
        step = np.arange(bucket, dtype=np.float32)
        base = (low[at] + np.array(origin)).astype(np.float64)
        m = inverse[at]
        first = (m[:, 0] * base[:, 0] + m[:, 1] * base[:, 1] + offset[at, 0]).astype(np.float32)
        second = (m[:, 2] * base[:, 0] + m[:, 3] * base[:, 1] + offset[at, 1]).astype(np.float32)
        m = m.astype(np.float32)
        b1 = (first[:, None] + m[:, 1, None] * step)[:, :, None] + (m[:, 0, None] * step)[:, None, :]
        b2 = (second[:, None] + m[:, 3, None] * step)[:, :, None] + (m[:, 2, None] * step)[:, None, :]
        inside = (b1 >= -1e-4) & (b2 >= -1e-4) & (b1 + b2 <= 1 + 1e-4)
        t, dy, dx = np.nonzero(inside)
        px, py = low[at[t], 0] + dx, low[at[t], 1] + dy
        inside_box = (px >= 0) & (px < width) & (py >= 0) & (py < height)
        t, px, py = at[t[inside_box]], px[inside_box], py[inside_box]
        pixels.append((t // count * height + py) * width + px)
        winners.append(t)
    painted = np.full(frames * height * width, -1, np.int32)
    if pixels:
        pixel, winner = np.concatenate(pixels), np.concatenate(winners)
        if len(pixels) > 1:  # several buckets: restore the painting order
            order = np.argsort(winner, kind="stable")
            pixel, winner = pixel[order], winner[order]
        painted[pixel] = winner
    return painted.reshape(frames, height, width)
