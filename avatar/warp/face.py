"""The face layer of the geometric prior: the photo's face redrawn for other positions of its mesh points.

Letters: V = 478 mesh points, T triangles, h w size of the box around the face. Coordinates are the photo's pixels, x
right, y down, pixel (0, 0) centred on (0.5, 0.5).

The skin is carried by the triangles of the mesh, from each place in the new frame back to the photo, smoothed away
from lips and lids where the triangles' edges would show. Lids slide over the eyeball, which keeps its own place and
turns with the iris. Between the lips `MouthInterior` paints teeth, tongue and cavity.

face_triangles.npy holds the mesh's 852 triangles (uint16, turning clockwise on screen): all triples of the 1322 edges
of MediaPipe's FACEMESH_TESSELATION that are connected pairwise, but for the two (49, 64, 129) and (279, 294, 358) that
merely enclose other triangles. Lips and eyes are holes in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.warp.eyes import Eyeball
from avatar.warp.mouth import MouthInterior
from avatar.warp.outline import polygon
from pose.keypoints import (
    FACE_OVAL,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    LIPS_INNER_LOWER,
    LIPS_INNER_UPPER,
    LIPS_OUTER_LOWER,
    LIPS_OUTER_UPPER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
)

Array = NDArray[np.float32]
Ints = NDArray[np.int32]

MESH = 468  # points that carry triangles; the ten of the irises only tell the gaze
EYES = ((RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_IRIS), (LEFT_EYE_UPPER, LEFT_EYE_LOWER, LEFT_IRIS))
UPPER, LOWER = list(LIPS_INNER_UPPER[1:-1]), list(LIPS_INNER_LOWER[1:-1])
LIDS = [(list(upper[1:-1]), list(lower[1:-1])) for upper, lower, _ in EYES]
LID_SKIN = (  # outlines half-way up the upper and down the lower lids
    (33, 247, 30, 29, 27, 28, 56, 190, 133, 112, 26, 22, 23, 24, 110, 25),
    (263, 467, 260, 259, 257, 258, 286, 414, 362, 341, 256, 252, 253, 254, 339, 255),
)
RING_SIDE, RING_BELOW = 0.16, 0.30  # width of the fading ring in parts of the face's height; below, chins drop into it
SHIFT = 4  # fractional bits of polygon corners in OpenCV's drawing
STRETCH_GOOD, STRETCH_BAD = 1.2, 2.5  # confidence falls from 1 to 0 between them (prototype: 33 of 38 photos clean)


@dataclass(frozen=True)
class FaceField:
    """What to draw in the photo's `box` (x0, y0, x1, y1), which never leaves the image.

    `displacement` (h, w, 2): where to sample the photo, minus the pixel's own place; 0 on the box's border.
    `overlay` (h, w, 4): what to draw over that, RGB times alpha and alpha, in [0, 1]: the inside of the mouth.
    `confidence` (h, w) in [0, 1].
    """

    box: tuple[int, int, int, int]
    displacement: Array
    overlay: Array
    confidence: Array


def strip(first: tuple[int, ...], second: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Triangles between two rows of points of equal length; those at shared ends have two equal corners."""
    pairs = zip(first, second, first[1:], second[1:], strict=False)
    triangles = [t for a, b, c, d in pairs for t in ((a, d, b), (a, c, d))]
    return [t for t in triangles if len(set(t)) == 3]


# How much of the smoothed field a pixel takes, by how much of a blurred mask of lips and lids it has (of 255).
SMOOTHED = np.clip(1 - np.arange(256, dtype=np.float32) / 64, 0, 1)


class FaceWarp:
    """Draws one face, given the photo `image` (H, W, 3) uint8 RGB and its mesh `face` (V, 2)."""

    def __init__(self, image: NDArray[np.uint8], face: Array) -> None:
        if face.shape != (478, 2):
            raise ValueError(f"expected a face of (478, 2) points, got {face.shape}")
        height, width = image.shape[:2]
        self._face = face.astype(np.float32)
        source = self._face[:MESH].copy()
        tall = float(np.linalg.norm(self._face[10] - self._face[152]))
        self._down = down = (self._face[152] - self._face[10]) / tall
        # Lips that touch are detected as much as half a pixel apart, or crossed: cut them along one line.
        self._part(source, 0.8)
        self._cut = source.copy()
        self._place_lids(source, self._cut)

        # The fading ring: the mesh's outline pushed outwards, further below the chin.
        oval = source[list(FACE_OVAL)]
        outwards = oval - oval.mean(axis=0)
        outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
        below = np.clip(outwards @ down, 0, 1)[:, None] ** 2
        ring = oval + outwards * tall * (RING_SIDE + (RING_BELOW - RING_SIDE) * below)
        ring = np.clip(ring, 0, (width, height))
        self._source = np.concatenate([source, ring]).astype(np.float32)

        low, high = np.floor(ring.min(axis=0)).astype(int) - 4, np.ceil(ring.max(axis=0)).astype(int) + 4
        x0, y0 = (int(v) for v in np.maximum(low, 0))
        x1, y1 = (int(v) for v in np.minimum(high, (width, height)))
        self.box = (x0, y0, x1, y1)
        self._corner = np.array([x0, y0], np.float32)
        self._smooth = 0.012 * tall  # sigma in pixels: about a fifth of the edges of the cheeks' triangles

        holes = [*strip(LIPS_INNER_UPPER, LIPS_INNER_LOWER)]
        for lid, other, _ in EYES:
            holes += strip(lid, other)
        count = len(FACE_OVAL)
        numbers, after = range(MESH, MESH + count), [*range(MESH + 1, MESH + count), MESH]
        rim = [t for a, b, c, d in zip(FACE_OVAL, (*FACE_OVAL[1:], FACE_OVAL[0]), numbers, after, strict=True)
               for t in ((a, c, d), (a, d, b))]  # fmt: skip
        skin = np.load(Path(__file__).with_name("face_triangles.npy")).astype(np.int32)
        # Painted in this order: what closes the holes must not cover the edges of lips and lids.
        self._triangles = np.concatenate([np.array(holes), np.array(rim), skin]).astype(np.int32)
        self._turning = np.sign(self._areas(self._source))

        rows, columns = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        self._x, self._y = columns + 0.5, rows + 0.5
        self._pixels = np.stack([self._x, self._y], axis=-1)  # (h, w, 2) centres
        ramp = [np.minimum(np.arange(n), np.arange(n)[::-1]) / 4.0 for n in self._pixels.shape[:2]]
        self._window = np.clip(np.minimum(ramp[0][:, None], ramp[1][None]), 0, 1).astype(np.float32)
        self._eyes = [Eyeball(image, self._face, *eye) for eye in EYES]
        self._mouth = MouthInterior(image, self._face)

    def _part(self, points: Array, least: float) -> None:
        """Bring lips and lids that are crossed or less than `least` pixels open to their middle line, in place."""
        for upper, lower in ((UPPER, LOWER), *LIDS):
            gap = (points[lower] - points[upper]) @ self._down
            middle = (points[upper] + points[lower]) / 2
            points[upper] = np.where(gap[:, None] < least, middle, points[upper])
            points[lower] = np.where(gap[:, None] < least, middle, points[lower])

    def _place_lids(self, points: Array, own: Array) -> None:
        """Set the edges of the skin below the eyes a little outside the mesh's lower lids, in place.

        The mesh's lower lid runs inside the wet rim: without this, closed lids show a line of white. The more a lid
        closes against the photo's `own`, the less it is set off.
        """
        for upper, lower in LIDS:
            gap = points[lower] - points[upper]
            wide = np.linalg.norm(gap, axis=1, keepdims=True)
            full = np.linalg.norm(own[lower] - own[upper], axis=1, keepdims=True)
            outwards = np.minimum(wide / np.maximum(full, 1e-3), 1) * gap / np.maximum(wide, 1e-3)
            points[lower] += 0.12 * gap + 0.4 * outwards

    def _areas(self, points: Array) -> Array:
        """Twice the signed area of every triangle, (T,)."""
        a, b, c = (points[self._triangles[:, corner]] for corner in range(3))
        return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]

    def _fixed_point(self, points: Array) -> Ints:
        """Coordinates in the box for OpenCV's drawing, with SHIFT fractional bits."""
        return np.round((points - self._corner - 0.5) * (1 << SHIFT)).astype(np.int32)

    def _mask(self, outlines: list[Array]) -> NDArray[np.uint8]:
        mask = np.zeros(self._pixels.shape[:2], np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self._fixed_point(outline)], (255,), cv2.LINE_8, SHIFT)
        return mask

    def _blurred(self, plane: Array) -> Array:
        size = 2 * int(np.ceil(2.5 * self._smooth)) + 1  # OpenCV's own choice for floats, 4 sigma, costs much more
        return np.asarray(cv2.GaussianBlur(plane, (size, size), self._smooth), np.float32)

    def field(self, face: Array) -> FaceField:
        """How to draw the `face` (V, 2), aligned to the photo's head."""
        shift = face.astype(np.float32) - self._face
        target = self._source.copy()
        target[:MESH] = self._cut + shift[:MESH]
        self._part(target, 0.0)
        self._place_lids(target, self._cut)

        # 1. Skin: each pixel's triangle, and each triangle's way back to the photo.
        tables, drawn = self._ways_back(target)
        height, width = self._pixels.shape[:2]
        ids = np.full((height, width), len(self._triangles), np.int32)
        corners = self._fixed_point(target)[self._triangles]
        for index in drawn:
            cv2.fillConvexPoly(ids, corners[index], (int(index),), cv2.LINE_8, SHIFT)
        ids = ids.astype(np.intp)
        x_plane, y_plane = (
            by_x.take(ids) * self._x + by_y.take(ids) * self._y + origin.take(ids)
            for by_x, by_y, origin in tables[:6].reshape(3, 2, -1).swapaxes(0, 1)
        )
        confidence = self._blurred(tables[6].take(ids))

        # 2. Smooth, but for lips and lids.
        lips = polygon(target, LIPS_OUTER_UPPER, LIPS_OUTER_LOWER)
        apertures = [polygon(target, upper, lower) for upper, lower, _ in EYES]
        eyes = [target[list(points)] for points in LID_SKIN]
        sharp = cv2.GaussianBlur(self._mask([lips, *eyes]), (0, 0), 1.5 * self._smooth)
        weight = cv2.LUT(sharp, SMOOTHED)
        displacement = np.empty((height, width, 2), np.float32)
        for axis, plane in enumerate((x_plane, y_plane)):
            displacement[..., axis] = (plane + weight * (self._blurred(plane) - plane)) * self._window

        # 3. Eyes behind the lids.
        overlay = np.zeros((height, width, 4), np.float32)
        for eye, aperture in zip(self._eyes, apertures, strict=True):
            eye.draw(face, aperture, self._pixels, displacement, overlay, confidence)

        # 4. Mouth.
        self._mouth.draw(face, target, self._pixels, displacement, overlay, confidence)
        return FaceField(self.box, displacement, overlay, confidence)

    def _ways_back(self, target: Array) -> tuple[Array, Ints]:
        """Per triangle the displacement as a plane and its confidence, (7, T + 1), and which to paint in which order.

        Rows: dx/dx, dy/dx, dx/dy, dy/dy, dx and dy at the origin, confidence; the last column is for uncovered pixels.
        """
        a, b, c = (target[self._triangles[:, corner]] for corner in range(3))
        s, t, u = (self._source[self._triangles[:, corner]] for corner in range(3))
        area = self._areas(target)
        safe = np.where(np.abs(area) < 1e-3, 1, area)[:, None]
        # Columns of the map from target to source: what a step along x, along y leads to.
        by_x = ((t - s) * (c - a)[:, 1:] - (u - s) * (b - a)[:, 1:]) / safe
        by_y = ((u - s) * (b - a)[:, :1] - (t - s) * (c - a)[:, :1]) / safe
        # Smallest singular value of the map: its inverse is how far the photo is stretched.
        square = (by_x**2 + by_y**2).sum(axis=1)
        determinant = by_x[:, 0] * by_y[:, 1] - by_x[:, 1] * by_y[:, 0]
        least = (square - np.sqrt(np.maximum(square**2 - 4 * determinant**2, 0))) / 2
        stretch = 1 / np.sqrt(np.maximum(least, 1e-6))
        sure = np.clip((STRETCH_BAD - stretch) / (STRETCH_BAD - STRETCH_GOOD), 0, 1)
        by_x[:, 0] -= 1
        by_y[:, 1] -= 1
        origin = s - a - by_x * a[:, :1] - by_y * a[:, 1:]
        # A triangle seen edge on has a wild plane, which would reach over its outline: shift it as a whole.
        sliver = square > 64
        by_x[sliver], by_y[sliver] = 0, 0
        origin[sliver] = ((s - a + t - b + u - c) / 3)[sliver]

        front = area * self._turning > 0
        rows = np.column_stack([by_x, by_y, origin, np.where(front, sure, 0)])
        rows = np.concatenate([rows, [[0, 0, 0, 0, 0, 0, 1]]]).T.astype(np.float32)
        # Triangles turned away go first, so that those in front cover them.
        visible = np.abs(area) >= 1e-3
        return rows, np.concatenate([np.flatnonzero(visible & ~front), np.flatnonzero(visible & front)])
