"""An eyeball behind its lids: small turns move the photo's own pixels, larger ones show a rebuilt ball.

Letters: h w size of the box that is drawn, N pixels inside the open lids. Coordinates are the photo's pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.warp.outline import bounds, coverage, polygon, rounded, sample, seam, smoothstep

Array = NDArray[np.float32]

GAZE_LIMIT = 0.5  # of half the eye's width: what a detector says beyond that is an error of a closing eye


class Eyeball:
    """One eye of the photo `image` (H, W, 3) uint8 RGB with mesh `face` (V, 2).

    `upper`, `lower`: the lids from the outer to the inner corner; `iris`: its centre and four points of its rim.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        face: Array,
        upper: tuple[int, ...],
        lower: tuple[int, ...],
        iris: tuple[int, ...],
    ) -> None:
        self._face, self._upper, self._lower, self._iris = face, upper, lower, iris
        self._first, self._last = face[upper[0]], face[upper[-1]]
        self._half = max(float(np.linalg.norm(self._last - self._first)) / 2, 1e-3)
        # The eye's own axes: from its outer to its inner corner, and down across that.
        self._along = (self._last - self._first) / (2 * self._half)
        down = np.array([-self._along[1], self._along[0]], np.float32)
        self._down = down * (1 if (face[lower[4]] - face[upper[4]] + face[152] - face[10]) @ down > 0 else -1)
        self._centre = face[iris[0]]
        self._radius = float(np.linalg.norm(face[list(iris[1:])] - self._centre, axis=1).mean())
        self._gap = np.linalg.norm(face[list(upper)] - face[list(lower)], axis=1)  # of the lids, pixels
        self._rebuild(image)

    def _rebuild(self, image: NDArray[np.uint8]) -> None:
        """The ball without its lids: white everywhere, and the iris as a whole disc, each (h', w', 3 or 4)."""
        outline = polygon(self._face, self._upper, self._lower)
        margin = int(np.ceil(self._half))
        low = np.floor(outline.min(axis=0)).astype(int) - margin
        high = np.ceil(outline.max(axis=0)).astype(int) + margin
        self._patch_corner = low.astype(np.float32)
        width, height = (int(v) for v in high - low)
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        place = np.stack([columns, rows], axis=-1) + self._patch_corner + 0.5
        self._photo = colour = sample(image, place) / 255
        # Lashes: the darkest part of the upper lid's edge.
        lashes = sample(image, self._face[None, list(self._upper[2:-1])])[0] / 255
        self._lashes = lashes[np.argsort(lashes.sum(axis=1))[: len(lashes) // 2]].mean(axis=0) * 0.8
        open_eye = coverage(outline - low, (height, width))
        self._own_opening = open_eye
        inner = cv2.erode(open_eye, np.ones((3, 3), np.uint8)) * (open_eye > 0.9)
        if inner.sum() < 6:  # an eye of few pixels or a closed one
            inner = open_eye
        away = np.linalg.norm(place - self._centre, axis=-1)

        # White from what is seen of it, blurred wider and wider outwards; lids shade it, so the top is no guide.
        white = inner * (away > 1.15 * self._radius)
        seen = inner.sum()
        filled, weight = np.zeros_like(colour), np.full((height, width), 1e-6, np.float32)
        for sigma in (0.7, 0.15 * self._half, 0.5 * self._half, 2 * self._half):
            spread = cv2.GaussianBlur(white, (0, 0), max(sigma, 0.3))
            share = np.minimum(np.clip(spread * 4, 0, 1), 1 - np.clip(weight, 0, 1))
            mean = cv2.GaussianBlur(colour * white[..., None], (0, 0), max(sigma, 0.3)) / (spread + 1e-6)[..., None]
            filled += share[..., None] * mean
            weight += share
        self._white = filled / weight[..., None]
        if white.sum() < 1:
            self._white = np.full_like(colour, 0.6 * float(colour[inner > 0].max()) if seen > 0 else 0.5)

        # Iris: what lids hide is taken from its mirror image below, then from the mean of its ring.
        below = self._down * ((place - self._centre) @ self._down)[..., None]
        mirror = place - 2 * below - self._patch_corner
        mirrored, mirrored_seen = sample(colour, mirror), sample(inner, mirror, outside=0)
        disc = (away < self._radius) * inner
        mean = (colour * disc[..., None]).sum(axis=(0, 1)) / max(float(disc.sum()), 1e-6)
        iris = inner[..., None] * colour + (1 - inner[..., None]) * (
            mirrored_seen[..., None] * mirrored + (1 - mirrored_seen[..., None]) * mean
        )
        edge = max(0.6, 0.12 * self._radius)
        alpha = np.clip((self._radius + edge / 2 - away) / edge, 0, 1) if disc.any() else 0 * away
        self._disc = np.concatenate([iris * alpha[..., None], alpha[..., None]], axis=-1).astype(np.float32)

    def draw(
        self, face: Array, aperture: Array, pixels: Array, displacement: Array, overlay: Array, confidence: Array
    ) -> None:
        """Write the eye of `face` (V, 2) into a box.

        `aperture` (N, 2) is where the skin around the eye ends, a little outside the lids' edges; `pixels` (h, w, 2)
        are the box's pixel centres; the three others (h, w, ...) are written in place.
        """
        upper, lower, iris = (face[list(part)] for part in (self._upper, self._lower, self._iris))
        points = [*self._upper, *self._lower, *self._iris]
        window = bounds(aperture - pixels[0, 0] + 0.5, pixels.shape[:2])
        if window is None or np.array_equal(face[points], self._face[points]):
            return
        place = pixels[window]
        corner, size = place[0, 0] - 0.5, place.shape[:2]
        # The lids' curved edges; below, the skin ends a little further out and the wet rim shows between.
        lid_edge, rim = rounded(upper), rounded(aperture[[0, *range(len(aperture) - 1, len(upper) - 2, -1)]])
        visible = coverage(np.concatenate([lid_edge, rim[-2:0:-1]]) - corner, size)
        cover = coverage(np.concatenate([lid_edge, rounded(lower)[-2:0:-1]]) - corner, size)

        # The ball goes with the corners of the eye; the iris turns in it, and less towards the corners.
        first, last = upper[0] - self._first, upper[-1] - self._last
        along = np.clip((place - self._first) @ self._along / (2 * self._half), 0, 1)[..., None]
        ball = first * (1 - along) + last * along
        gaze = iris[0] - self._centre - (first + last) / 2
        gaze = gaze * min(1.0, GAZE_LIMIT * self._half / max(float(np.linalg.norm(gaze)), 1e-6))
        turned = float(np.linalg.norm(gaze)) / self._half
        away = np.linalg.norm(place - ball - self._centre - gaze, axis=-1)
        follows = np.clip((self._half - away) / max(self._half - 1.1 * self._radius, 1e-3), 0, 1)[..., None]
        # Only what lies between the lids turns, not their wet rims, and it must not drag lids along.
        moved = -gaze * follows * cover[..., None]
        where = place - ball - self._patch_corner
        own = sample(self._own_opening, where + moved, outside=0)
        moved = np.where(own[..., None] > 0.9, moved, 0)
        inside = visible > 0.98
        displacement[window][inside] = (moved - ball)[inside]

        # What was hidden, or all when too much turns, is the rebuilt ball in the shade of the upper lid.
        across, depth = place @ self._along, place @ self._down
        lid, end, far = (np.interp(across, row @ self._along, row @ self._down) for row in (upper, lower, rim))
        alpha = np.maximum(cover * smoothstep((turned - 0.05) / 0.2), np.clip(1.2 * (cover - own) - 0.2, 0, 1))
        alpha *= smoothstep(end - lid - 0.3)  # lids less than a pixel apart count as closed
        colour = np.zeros((*size, 3), np.float32)
        if alpha.any():
            disc = sample(self._disc, where - gaze, outside=0)
            ball_colour = sample(self._white, where) * (1 - disc[..., 3:]) + disc[..., :3]
            shade = 0.62 + 0.38 * smoothstep((depth - lid) / (0.3 * self._half))
            colour = ball_colour * (shade * alpha)[..., None]

        # Lids that have closed meet in a line of lashes; at the corners, and in narrow eyes, they always touch.
        gap = np.linalg.norm(upper - lower, axis=1)
        closing = smoothstep((0.6 - gap / np.maximum(self._gap, 1e-3)) / 0.4) * (self._gap > 0.05 * self._half)
        if closing.any():
            line = 0.7 * seam(upper - corner, lower - corner, closing, size, max(0.9, 0.09 * self._half))
            colour = colour * (1 - line[..., None]) + self._lashes * line[..., None]
            alpha = alpha + (1 - alpha) * line
        # A pixel has one displacement: those cut by a lid show its skin, and the photo's own eye over it in part.
        part = np.where(inside, 0, visible * smoothstep(far - lid - 0.3)) * (1 - alpha)
        colour += part[..., None] * sample(self._photo, where + moved)
        overlay[window] = np.dstack([colour, alpha + part])
        confidence[window] = np.where(inside, 1 - 0.5 * alpha, confidence[window])
