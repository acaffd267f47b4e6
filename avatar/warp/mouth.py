"""The inside of a mouth: teeth that stay with the skull and with the jaw, tongue, dark cavity.

Letters: V = 478 mesh points, h w size of the box that is drawn. Lengths are mm of an average face, whose outer corners
of the eyes are 88 mm apart; x towards the person's left along the mouth, y down.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.warp.outline import bounds, coverage, rounded, sample, seam, smoothstep
from pose.keypoints import (
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LIPS_INNER_LOWER,
    LIPS_INNER_UPPER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
)

Array = NDArray[np.float32]

INNER = [*LIPS_INNER_UPPER, *LIPS_INNER_LOWER[-2:0:-1]]  # outline of the opening
SKULL = [2, 94, 98, 327]  # base of the nose: goes with the upper teeth
CHIN = [152, 175, 199, 200]  # goes with the lower teeth
# Edges between teeth from the middle outwards, mm as seen from the front (the arch turns the side teeth away):
# widths of Wheeler's Dental Anatomy, 8.5 6.5 7.5 7 7 mm, foreshortened.
UPPER_TEETH = np.array([0, 8.3, 14.0, 18.8, 22.3, 25.0])
LOWER_TEETH = np.array([0, 5.0, 10.2, 15.2, 19.2, 22.4])


class MouthInterior:
    """Draws the inside of the mouth of the photo `image` (H, W, 3) uint8 RGB with mesh `face` (V, 2)."""

    def __init__(self, image: NDArray[np.uint8], face: Array) -> None:
        self._face = face
        eyes = face[263] - face[33]
        tall = float(np.linalg.norm(face[10] - face[152]))
        # A turned head narrows the eyes' distance but not the height, 164 mm in the mesh's mean face.
        self.mm = max(float(np.linalg.norm(eyes)) / 88, tall / 175)
        across = eyes / np.linalg.norm(eyes) + (face[291] - face[61]) / np.linalg.norm(face[291] - face[61])
        across /= np.linalg.norm(across)
        self._axes = np.array([across, (-across[1], across[0])], np.float32)  # rows x, y in pixels
        gap = self._rows(face[14] - face[13])
        self._own_gap = max(0.0, float(gap[1]))  # mm
        self._own_half = max(float(self._rows(face[308] - face[78])[0]) / 2, 1.0)
        # Where the closed lips would meet: a third of the way from the upper lip (as pose/face_rig.py closes them).
        self._origin = face[13] + (face[14] - face[13]) * 0.3
        self._light(image)
        self._reuse(image)

    def _rows(self, points: Array) -> Array:
        return points @ self._axes.T / self.mm

    def _light(self, image: NDArray[np.uint8]) -> None:
        """Colours from the photo's light: the white of the eyes tells how bright and how tinted white things are."""
        mask = np.zeros(image.shape[:2], np.uint8)
        for upper, lower in ((RIGHT_EYE_UPPER, RIGHT_EYE_LOWER), (LEFT_EYE_UPPER, LEFT_EYE_LOWER)):
            cv2.fillPoly(mask, [np.round(self._face[[*upper, *lower[-2:0:-1]]] - 0.5).astype(np.int32)], (255,))
        height, width = image.shape[:2]
        near = np.round(self._face[[50, 280, 205, 425, 1, 9]] - 0.5).astype(int).clip(0, (width - 1, height - 1))
        skin = np.median(image[near[:, 1], near[:, 0]], axis=0) / 255
        eyes = image[mask > 0] / 255
        white = skin * 1.1
        if len(eyes) >= 8:
            bright = eyes.mean(axis=1)
            white = eyes[bright >= np.quantile(bright, 0.85)].mean(axis=0)
        white = 0.35 * white + 0.65 * white.mean()  # small eyes are mixed with the skin around them
        level = float(np.clip(max(white.mean(), 0.8 * skin.mean()), 0.25, 0.85))
        tint = white / white.mean()
        self._teeth = np.clip(level * 1.02 * tint * (1.05, 0.99, 0.93), 0, 0.92)
        lips = np.round(self._face[[0, 17, 84, 314, 37, 267]] - 0.5).astype(int).clip(0, (width - 1, height - 1))
        lip = np.median(image[lips[:, 1], lips[:, 0]], axis=0) / 255
        self._tongue = np.clip(0.55 * lip + 0.35 * level * np.array([0.85, 0.45, 0.45]), 0, 1)
        # The line between closed lips: the photo's own where its lips touch, else a dark shade of the lips.
        self._line = 0.45 * lip
        if self._own_gap < 1.5:
            where = (self._face[[82, 13, 312]] + self._face[[87, 14, 317]]) / 2
            own = sample(image, where[None])[0].mean(axis=0) / 255
            self._line = np.minimum(own, 0.7 * lip)
        self._dark = level * np.array([0.21, 0.08, 0.07])

    def _reuse(self, image: NDArray[np.uint8]) -> None:
        """Find out whether the photo's own open mouth is worth showing, and where its upper teeth end."""
        self._tooth_edge = 1.5  # mm below the closed lips' line: rest shows about 2 mm of the upper incisors
        self._shows_teeth = False
        if self._own_gap < 3.5 or self._own_gap * self.mm < 1.5:
            return
        steps = np.linspace(0.05, 0.95, 19)
        columns = np.linspace(-8, 8, 9) * self.mm
        line = self._face[13] + (self._face[14] - self._face[13]) * steps[:, None]
        where = line[:, None] + columns[None, :, None] * self._axes[0]
        rows = sample(image, where).mean(axis=1) / 255  # (19, 3) from the upper to the lower lip
        level = rows.mean(axis=1)
        brightest = rows[level.argmax()]
        # Green over red is below 0.6 for lips and dark gaps and above 0.68 for teeth, in the 22 of 39 photos at hand
        # with parted lips.
        if brightest[1] < 0.66 * brightest[0] or level.max() < 0.25:
            return
        self._shows_teeth = True
        self._teeth = np.clip(brightest, 0, 0.92)
        last = steps[np.flatnonzero(level > 0.6 * level.max())[-1]]
        self._tooth_edge = max(self._tooth_edge, (last - 0.3) * self._own_gap)
        # How far a pixel lies inside the photo's own opening, 0 to 1 over a sixth of its height.
        outline = self._face[INNER]
        low, high = np.floor(outline.min(axis=0)), np.ceil(outline.max(axis=0))
        self._known_corner = low.astype(np.float32)
        soft = float(np.clip(self._own_gap * self.mm / 6, 0.5, None))
        self._known = np.array([
            [cv2.pointPolygonTest(outline, (x, y), True) / soft for x in np.arange(low[0] + 0.5, high[0])]
            for y in np.arange(low[1] + 0.5, high[1])
        ], np.float32).clip(0, 1)  # fmt: skip

    def draw(
        self, face: Array, target: Array, pixels: Array, displacement: Array, overlay: Array, confidence: Array
    ) -> None:
        """Paint between the lips of `face` (V, 2).

        `target` holds the same points after the photo's slit was closed; `pixels` (h, w, 2) are the box's pixel
        centres; the three others (h, w, ...) are written where the mouth is open.
        """
        skull = (face[SKULL] - self._face[SKULL]).mean(axis=0)
        moved = float(np.abs(face[INNER] - self._face[INNER] - skull).max())
        change = smoothstep((moved - 0.05) / 0.8)
        outline = target[INNER]
        window = bounds(outline - pixels[0, 0] + 0.5, pixels.shape[:2])
        if change == 0 or window is None:
            return
        place = pixels[window]
        edge, rim = (target[list(lip)] - place[0, 0] + 0.5 for lip in (LIPS_INNER_UPPER, LIPS_INNER_LOWER))
        # Each lip's curve turns into the other's at the corners, which rounds them when the mouth is wide open.
        above = rounded(np.concatenate([rim[1:2], edge, rim[-2:-1]]))[4:-4]
        below = rounded(np.concatenate([edge[1:2], rim, edge[-2:-1]]))[4:-4]
        opening = coverage(np.concatenate([above, below[-2:0:-1]]), place.shape[:2])
        opening = np.asarray(cv2.GaussianBlur(opening, (0, 0), max(0.3 * self.mm, 0.3)), np.float32)
        inside = self._rows(place - self._origin - skull)  # (h', w', 2) mm, with the skull
        jaw = float(self._rows((face[CHIN] - self._face[CHIN]).mean(axis=0) - skull)[1]) * 1.15 + 0.45 * self._own_gap
        upper, lower = (
            self._rows(face[list(lip)] - self._origin - skull) for lip in (LIPS_INNER_UPPER, LIPS_INNER_LOWER)
        )
        # Pursed lips stand away from the teeth and shade them.
        narrow = 1 - float(upper[-1, 0] - upper[0, 0]) / (2 * self._own_half)
        pursed = float(np.clip(narrow / 0.4, 0, 1))
        colour = self._colour(inside, jaw, pursed, upper, lower)
        # Where the lips are less than a pixel apart, their own dark line says enough.
        parted = np.interp(inside[..., 0], upper[:, 0], lower[:, 1] - upper[:, 1]).astype(np.float32) * self.mm
        alpha = opening * change * smoothstep((parted - 0.3) / 1.2)
        if self._shows_teeth:
            known = sample(self._known, place - skull - self._known_corner, outside=0)[..., None]
            displacement[window] += known * change * opening[..., None] * (-skull - displacement[window])
            colour += (self._dark - colour) * known
            alpha = alpha * (1 - known[..., 0] * (1 - 0.5 * pursed))
        colour = colour * alpha[..., None]
        # Lips that were open in the photo lack the dark line between closed ones.
        own_gap = np.linalg.norm(self._face[list(LIPS_INNER_UPPER)] - self._face[list(LIPS_INNER_LOWER)], axis=1)
        strength = 0.65 * change * np.clip(own_gap / 1.5, 0.4, 1)
        line = seam(edge, rim, strength, place.shape[:2], max(0.8, 0.7 * self.mm))
        colour = colour * (1 - line[..., None]) + self._line * line[..., None]
        alpha = alpha + (1 - alpha) * line
        overlay[window] = np.concatenate([colour, alpha[..., None]], axis=-1)
        confidence[window] = np.minimum(confidence[window], 1 - alpha)

    def _colour(self, place: Array, jaw: float, pursed: float, upper: Array, lower: Array) -> Array:
        """What is seen at `place` (..., 2) mm between lips `upper` and `lower` (11, 2), jaw dropped by `jaw` mm."""
        x, y = place[..., 0], place[..., 1]
        pixel = 1 / self.mm
        roof = np.interp(x, upper[:, 0], upper[:, 1]).astype(np.float32)
        floor = np.interp(x, lower[:, 0], lower[:, 1]).astype(np.float32)
        half = max(float(upper[-1, 0] - upper[0, 0]) / 2, 1.0)
        middle = float(upper[5, 0] + lower[5, 0]) / 2

        # Cavity, darker upwards and inwards; the tongue lies in the jaw and is lit from the front.
        depth = np.clip((y - roof) / np.maximum(floor - roof, 1), 0, 1)
        colour = self._dark * (0.6 + 0.8 * depth[..., None])
        top = 2.0 + 0.28 * jaw + 2.0 * (x / 15) ** 2
        tongue = smoothstep((y - top) / (2 + 0.2 * jaw)) * smoothstep((18 - np.abs(x)) / 6)
        lit = self._tongue * (0.62 + 0.45 * np.clip((y - top) / (2 + 0.5 * jaw), 0, 1))[..., None]
        colour += tongue[..., None] * (lit - colour)

        for edges, up, edge, level in (
            (LOWER_TEETH, -1.0, jaw - 0.5 + 1.0 * (x / 20) ** 2, 0.55),
            (UPPER_TEETH, 1.0, self._tooth_edge - 1.8 * (x / 22) ** 2, 0.95),
        ):
            beside = np.min(np.abs(np.abs(x)[..., None] - edges), axis=-1)
            rounded = 0.7 * np.exp(-((beside / 0.9) ** 2))
            cover = smoothstep(0.5 + (edge - rounded - y) * up / (pixel + 0.6))
            cover *= smoothstep((edges[-1] + 1 - np.abs(x)) / 3)
            shade = level * (1 - 0.65 * pursed) * np.clip(1.05 - 0.75 * (np.abs(x) / 26) ** 2, 0.2, 1)
            gap = 0.22 * np.exp(-((beside / (0.35 + 0.35 * pixel)) ** 2)) / (1 + 0.6 * pixel)
            shade = shade * (1 - gap)
            colour += cover[..., None] * (self._teeth * shade[..., None] - colour)

        # The lips' shadow: strongest just under the upper lip and in the corners.
        shadow = 0.55 + 0.45 * smoothstep((y - roof + 0.3) / 3.0)
        shadow *= 0.75 + 0.25 * smoothstep((floor - y + 0.3) / 1.5)
        shadow *= 1 - 0.6 * np.clip(np.abs(x - middle) / half, 0, 1) ** 3
        # Shade in a mouth is red: light comes through and off the flesh.
        return np.clip(colour * shadow[..., None] ** (0.8, 1.15, 1.15), 0, 1).astype(np.float32)
