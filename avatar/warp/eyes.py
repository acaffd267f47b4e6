"""An eyeball behind its lids: small turns move the photo's own pixels, larger ones show a rebuilt ball.

Letters: h w size of the box that is drawn, N pixels inside the open lids. Coordinates are the photo's pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.warp.outline import bounds, coverage, polygon, seam, smoothstep

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
        self._half = float(np.linalg.norm(self._last - self._first)) / 2
        self._centre = face[iris[0]]
        self._radius = float(np.linalg.norm(face[list(iris[1:])] - self._centre, axis=1).mean())
        # Eyes closed in the photo need no line of lashes; beneath 1.5 pixels lids count as touching.
        gap = np.linalg.norm(face[list(upper[2:-2])] - face[list(lower[2:-2])], axis=1).mean()
        self._own_closed = float(np.clip(2.5 - gap, 0, 1))
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
        x, y = columns + low[0], rows + low[1]
        colour = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32) / 255
        # Lashes: the darkest part of the upper lid's edge.
        rim = self._face[list(self._upper[2:-1])] - self._patch_corner - 0.5
        lashes = cv2.remap(colour, rim[None], None, cv2.INTER_LINEAR)[0]
        self._lashes = lashes[np.argsort(lashes.sum(axis=1))[: len(lashes) // 2]].mean(axis=0) * 0.8
        open_eye = coverage(outline - low, (height, width))
        self._own_opening = open_eye
        inner = cv2.erode(open_eye, np.ones((3, 3), np.uint8)) * (open_eye > 0.9)
        if inner.sum() < 6:  # an eye of few pixels or a closed one
            inner = open_eye
        away = np.hypot(x + 0.5 - self._centre[0], y + 0.5 - self._centre[1])

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
        mirrored_y = 2 * (self._centre[1] - 0.5) - y
        position = columns, mirrored_y - low[1]
        mirrored = cv2.remap(colour, *position, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mirrored_seen = cv2.remap(inner, *position, cv2.INTER_LINEAR)
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
        points = [*self._upper, *self._lower, *self._iris]
        shift = face[points] - self._face[points]
        corner = pixels[0, 0] - 0.5
        window = bounds(aperture - corner, pixels.shape[:2])
        if window is None or not shift.any():
            return
        place = pixels[window]
        inside = coverage(aperture - place[0, 0] + 0.5, place.shape[:2]) > 0.5

        # The ball goes with the corners of the eye; the iris turns in it, and less towards the corners.
        line = self._last - self._first
        along = np.clip((place - self._first) @ line / float(line @ line), 0, 1)[..., None]
        first, last = shift[0], shift[len(self._upper) - 1]
        ball = first * (1 - along) + last * along
        gaze = face[self._iris[0]] - self._centre - (first + last) / 2
        turned = float(np.linalg.norm(gaze))
        gaze = gaze * min(1.0, GAZE_LIMIT * self._half / max(turned, 1e-6))
        away = np.linalg.norm(place - ball - self._centre - gaze, axis=-1)
        follows = np.clip((self._half - away) / max(self._half - 1.1 * self._radius, 1e-3), 0, 1)[..., None]
        # Only what lies between the lids turns, not their wet rims.
        cover = coverage(polygon(face, self._upper, self._lower) - place[0, 0] + 0.5, place.shape[:2])
        moved = -gaze * follows * cover[..., None]
        where = place - ball - self._patch_corner - 0.5
        own = cv2.remap(self._own_opening, where + moved, None, cv2.INTER_LINEAR)
        moved = np.where(own[..., None] > 0.9, moved, 0) - ball
        displacement[window][inside] = moved[inside]

        # Where that would show lids, or too much turns: the rebuilt ball, in the shade of the upper lid.
        white = cv2.remap(self._white, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        disc = cv2.remap(self._disc, where - gaze, None, cv2.INTER_LINEAR, borderValue=0)
        colour = white * (1 - disc[..., 3:]) + disc[..., :3]
        share = np.maximum(smoothstep(np.float32(np.linalg.norm(gaze) / (0.12 * self._half) - 0.25)), 1 - own)
        upper, lower = (face[list(lid)] for lid in (self._upper, self._lower))
        if upper[0, 0] > upper[-1, 0]:  # np.interp wants rising x
            upper, lower = upper[::-1], lower[::-1]
        under = place[..., 1] - np.interp(place[..., 0], upper[:, 0], upper[:, 1])
        shade = 0.62 + 0.38 * smoothstep(under / (0.3 * self._half))
        # Lids less than a pixel apart count as closed.
        parted = np.interp(place[..., 0], upper[:, 0], lower[:, 1] - upper[:, 1])
        alpha = cover * share * smoothstep(parted - 0.3)
        edges = face[list(self._upper)], face[list(self._lower)]
        closed = 0.7 * seam(
            *(edge - place[0, 0] + 0.5 for edge in edges), place.shape[:2], max(0.9, 0.09 * self._half)
        )
        closed *= 1 - self._own_closed
        colour = (colour * (shade * alpha)[..., None]) * (1 - closed[..., None]) + self._lashes * closed[..., None]
        alpha = alpha + (1 - alpha) * closed
        overlay[window] = np.concatenate([colour, alpha[..., None]], axis=-1)
        confidence[window] = np.where(inside, 1 - 0.5 * share, confidence[window])
