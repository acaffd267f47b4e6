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

from avatar.warp.mouth import MouthInterior
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


def polygon(points: Array, first: tuple[int, ...], second: tuple[int, ...]) -> Array:
    """The closed outline along `first` and back along `second`, (N, 2)."""
    return points[[*first, *second[-2:0:-1]]]


class FaceWarp:
    """Draws one face, given the photo `image` (H, W, 3) uint8 RGB and its mesh `face` (V, 2)."""

    def __init__(self, image: NDArray[np.uint8], face: Array) -> None:
        if face.shape != (478, 2):
            raise ValueError(f"expected a face of (478, 2) points, got {face.shape}")
        height, width = image.shape[:2]
        self._face = face.astype(np.float32)
        source = self._face[:MESH].copy()
        upper, lower = list(LIPS_INNER_UPPER[1:-1]), list(LIPS_INNER_LOWER[1:-1])
        # Lips that touch are detected as much as half a pixel apart, or crossed: cut them along one line.
        touching = np.linalg.norm(source[upper] - source[lower], axis=1) < 0.8
        middle = (source[upper] + source[lower]) / 2
        source[upper] = np.where(touching[:, None], middle, source[upper])
        source[lower] = np.where(touching[:, None], middle, source[lower])

        # The fading ring: the mesh's outline pushed outwards, further below the chin.
        oval = source[list(FACE_OVAL)]
        tall = float(np.linalg.norm(self._face[10] - self._face[152]))
        down = (self._face[152] - self._face[10]) / tall
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
        self._pixels = np.stack([columns + 0.5, rows + 0.5], axis=-1)  # (h, w, 2) centres
        ramp = [np.minimum(np.arange(n), np.arange(n)[::-1]) / 4.0 for n in self._pixels.shape[:2]]
        self._window = np.clip(np.minimum(ramp[0][:, None], ramp[1][None]), 0, 1).astype(np.float32)[..., None]
        self._nearest_eye = self._nearest_in_eyes()
        self._mouth = MouthInterior(image, self._face)

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
            cv2.fillPoly(mask, [self._fixed_point(outline)], 255, cv2.LINE_8, SHIFT)
        return mask

    def _nearest_in_eyes(self) -> Array:
        """For each pixel of the box the nearest place inside the photo's open eyes, (h, w, 2)."""
        inside = self._mask([polygon(self._face, upper, lower) for upper, lower, _ in EYES])
        _, labels = cv2.distanceTransformWithLabels(255 - inside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
        places = np.zeros((labels.max() + 1, 2), np.float32)
        places[labels[inside > 0]] = self._pixels[inside > 0]
        return places[labels]

    def field(self, face: Array) -> FaceField:
        """How to draw the `face` (V, 2), aligned to the photo's head."""
        shift = face.astype(np.float32) - self._face
        target = self._source.copy()
        target[:MESH] += shift[:MESH]

        # 1. Skin: each pixel's triangle, and each triangle's way back to the photo.
        tables, drawn = self._ways_back(target)
        height, width = self._pixels.shape[:2]
        ids = np.full((height, width), len(self._triangles), np.int32)
        corners = self._fixed_point(target)[self._triangles]
        for index in drawn:
            cv2.fillConvexPoly(ids, corners[index], int(index), cv2.LINE_8, SHIFT)
        ways = tables.take(ids.ravel(), axis=0).reshape(height, width, 7)
        displacement = ways[..., 0:2] * self._pixels[..., :1] + ways[..., 2:4] * self._pixels[..., 1:]
        displacement += ways[..., 4:6]
        confidence = ways[..., 6]

        # 2. Smooth, but for lips and lids.
        lips = polygon(target, LIPS_OUTER_UPPER, LIPS_OUTER_LOWER)
        apertures = [polygon(target, upper, lower) for upper, lower, _ in EYES]
        sharp = cv2.GaussianBlur(self._mask([lips, *apertures]), (0, 0), 1.5 * self._smooth)
        weight = np.clip(1 - sharp.astype(np.float32) / 64, 0, 1)[..., None]
        displacement += weight * (cv2.GaussianBlur(displacement, (0, 0), self._smooth) - displacement)

        # 3. Eyes behind the lids.
        self._turn_eyes(displacement, shift, apertures)

        # 4. Mouth.
        overlay = np.zeros((height, width, 4), np.float32)
        self._mouth.draw(face, target, self._pixels, overlay, displacement)
        confidence = np.minimum(confidence, 1 - overlay[..., 3])
        return FaceField(self.box, displacement * self._window, overlay, confidence)

    def _ways_back(self, target: Array) -> tuple[Array, Ints]:
        """Per triangle the displacement as a plane and its confidence, (T + 1, 7), and which to paint in which order.

        A row is (dx/dx, dy/dx, dx/dy, dy/dy, dx, dy at the origin, confidence); the last one serves uncovered pixels.
        """
        a, b, c = (target[self._triangles[:, corner]] for corner in range(3))
        s, t, u = (self._source[self._triangles[:, corner]] for corner in range(3))
        area = self._areas(target)
        safe = np.where(np.abs(area) < 1e-3, 1, area)[:, None]
        # Columns of the map from target to source edges: by x and by y.
        by_x = ((t - s) * (c - a)[:, 1:] - (u - s) * (b - a)[:, 1:]) / safe
        by_y = ((u - s) * (b - a)[:, :1] - (t - s) * (c - a)[:, :1]) / safe
        by_x[:, 0] -= 1
        by_y[:, 1] -= 1
        origin = s - a - by_x * a[:, :1] - by_y * a[:, 1:]

        # Smallest singular value of the map: its inverse is how far the photo is stretched.
        square = (by_x[:, 0] + 1) ** 2 + by_x[:, 1] ** 2 + by_y[:, 0] ** 2 + (by_y[:, 1] + 1) ** 2
        determinant = (by_x[:, 0] + 1) * (by_y[:, 1] + 1) - by_x[:, 1] * by_y[:, 0]
        least = (square - np.sqrt(np.maximum(square**2 - 4 * determinant**2, 0))) / 2
        stretch = 1 / np.sqrt(np.maximum(least, 1e-6))
        sure = np.clip((STRETCH_BAD - stretch) / (STRETCH_BAD - STRETCH_GOOD), 0, 1)
        front = area * self._turning > 0
        rows = np.column_stack([by_x, by_y, origin, np.where(front, sure, 0)])
        rows = np.concatenate([rows, [[0, 0, 0, 0, 0, 0, 1]]]).astype(np.float32)
        # Triangles turned away go first, so that those in front cover them.
        visible = np.abs(area) >= 1e-3
        return rows, np.concatenate([np.flatnonzero(visible & ~front), np.flatnonzero(visible & front)])

    def _turn_eyes(self, displacement: Array, shift: Array, apertures: list[Array]) -> None:
        """Write the eyeballs' displacement into the open part of the eyes."""
        for (upper, lower, iris), outline in zip(EYES, apertures, strict=True):
            if not shift[[*upper, *lower, *iris]].any():
                continue
            rows, columns = np.nonzero(self._mask([outline]))
            if not len(rows):
                continue
            place = self._pixels[rows, columns]
            # The ball goes with the corners of the eye; the iris turns in it, and less towards the corners.
            first, last = self._face[upper[0]], self._face[upper[-1]]
            along = np.clip((place - first) @ (last - first) / max(float(np.sum((last - first) ** 2)), 1e-6), 0, 1)
            ball = shift[upper[0]] * (1 - along[:, None]) + shift[upper[-1]] * along[:, None]
            centre = self._face[iris[0]]
            half = float(np.linalg.norm(last - first)) / 2
            radius = float(np.linalg.norm(self._face[list(iris[1:])] - centre, axis=1).mean())
            gaze = shift[iris[0]] - (shift[upper[0]] + shift[upper[-1]]) / 2
            gaze *= min(1.0, 0.7 * half / max(float(np.linalg.norm(gaze)), 1e-6))
            away = np.linalg.norm(place - ball - centre - gaze, axis=1)
            follows = np.clip((half - away) / max(half - 1.1 * radius, 1e-3), 0, 1)[:, None]
            wanted = place - ball - gaze * follows - self._corner
            x, y = (np.clip(wanted[:, axis].astype(int), 0, n - 1) for axis, n in ((0, self._pixels.shape[1]),
                                                                                 (1, self._pixels.shape[0])))  # fmt: skip
            nearest = self._nearest_eye[y, x] - self._corner
            # Lids opened further than in the photo: repeat the eye's edge rather than show lid skin.
            inside = np.abs(nearest - wanted).max(axis=1, keepdims=True) <= 0.75
            displacement[rows, columns] = np.where(inside, wanted, nearest) + self._corner - place
