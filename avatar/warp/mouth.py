"""The inside of a mouth: teeth that stay with the skull and with the jaw, tongue, dark cavity.

Letters: V = 478 mesh points, h w size of the box that is drawn, N pixels between the lips. Lengths are mm of an average
face (outer corners of the eyes 88 mm apart); x towards the person's left along the mouth, y down.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

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


def smoothstep(x: Array) -> Array:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


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
            cv2.fillPoly(mask, [np.round(self._face[[*upper, *lower[-2:0:-1]]] - 0.5).astype(np.int32)], 255)
        height, width = image.shape[:2]
        near = np.round(self._face[[50, 280, 205, 425, 1, 9]] - 0.5).astype(int).clip(0, (width - 1, height - 1))
        skin = np.median(image[near[:, 1], near[:, 0]], axis=0) / 255
        eyes = image[mask > 0] / 255
        white = skin * 1.1
        if len(eyes) >= 8:
            bright = eyes.mean(axis=1)
            white = eyes[bright >= np.quantile(bright, 0.85)].mean(axis=0)
        white = 0.6 * white + 0.4 * white.mean()  # small eyes are mixed with the skin around them
        level = float(np.clip(max(white.mean(), 0.8 * skin.mean()), 0.25, 0.85))
        tint = white / white.mean()
        self._teeth = np.clip(level * 1.02 * tint * (1.03, 1.0, 0.93), 0, 0.92)
        lips = np.round(self._face[[0, 17, 84, 314, 37, 267]] - 0.5).astype(int).clip(0, (width - 1, height - 1))
        lip = np.median(image[lips[:, 1], lips[:, 0]], axis=0) / 255
        self._tongue = np.clip(0.55 * lip + 0.35 * level * np.array([0.85, 0.45, 0.45]), 0, 1)
        self._dark = level * np.array([0.16, 0.055, 0.05])

    def _reuse(self, image: NDArray[np.uint8]) -> None:
        """Find out whether the photo's own open mouth is worth showing, and where its upper teeth end."""
        self._tooth_edge = 1.5  # mm below the closed lips' line: rest shows about 2 mm of the upper incisors
        self._shows_teeth = self._own_gap >= 4 and self._own_gap * self.mm >= 4
        if not self._shows_teeth:
            return
        steps = np.linspace(0.05, 0.95, 19)
        columns = np.linspace(-8, 8, 9) * self.mm
        line = self._face[13] + (self._face[14] - self._face[13]) * steps[:, None]
        where = (line[:, None] + columns[None, :, None] * self._axes[0] - 0.5).astype(np.float32)
        rows = cv2.remap(image, where[..., 0], where[..., 1], cv2.INTER_LINEAR).mean(axis=(1, 2)) / 255
        bright = rows > 0.6 * rows.max()
        if rows.max() > 0.3 and bright.any():
            last = steps[np.flatnonzero(bright)[-1]]
            self._tooth_edge = max(self._tooth_edge, (last - 0.3) * self._own_gap)

    def draw(self, face: Array, target: Array, pixels: Array, overlay: Array, displacement: Array) -> None:
        """Paint between the lips of `face` (V, 2).

        `target` holds the same points after the photo's slit was closed; `pixels` (h, w, 2) are the box's pixel
        centres; `overlay` (h, w, 4) and `displacement` (h, w, 2) are written where the mouth is open.
        """
        moved = np.abs(face[INNER] - self._face[INNER]).max()
        change = float(smoothstep(np.float32((moved - 0.05) / 0.8)))
        outline = target[INNER]
        corner = pixels[0, 0] - 0.5
        low = np.maximum(np.floor(outline.min(axis=0) - corner).astype(int) - 1, 0)
        high = np.minimum(np.ceil(outline.max(axis=0) - corner).astype(int) + 2, pixels.shape[1::-1])
        if change == 0 or (high <= low).any():
            return
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        opening = self._opening(outline - corner - low, (high[1] - low[1], high[0] - low[0]))
        if not opening.any():
            return
        skull = (face[SKULL] - self._face[SKULL]).mean(axis=0)
        place = self._rows(pixels[window] - self._origin - skull)  # (h', w', 2) mm, with the skull
        jaw = float(self._rows((face[CHIN] - self._face[CHIN]).mean(axis=0) - skull)[1]) * 1.15 + 0.45 * self._own_gap
        upper, lower = (self._rows(face[list(lip)] - self._origin - skull) for lip in (LIPS_INNER_UPPER, LIPS_INNER_LOWER))
        colour = self._colour(place, jaw, upper, lower)
        alpha = opening * change
        if self._shows_teeth:
            known = self._known(pixels[window] - skull)[..., None]
            displacement[window] += known * change * opening[..., None] * (-skull - displacement[window])
            alpha = alpha * (1 - known[..., 0])
        overlay[window] = np.concatenate([colour * alpha[..., None], alpha[..., None]], axis=-1)

    def _opening(self, outline: Array, size: tuple[int, int]) -> Array:
        """Coverage of the pixels of a box by the mouth's opening, in [0, 1], by 4 x 4 samples a pixel."""
        mask = np.zeros((size[0] * 4, size[1] * 4), np.uint8)
        cv2.fillPoly(mask, [np.round((outline * 4 - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
        cover = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        # Filling includes the outline, an eighth of a pixel on both sides: a closed mouth would leave a thin line.
        return np.clip((cover - 0.3) / 0.7, 0, 1)

    def _known(self, place: Array) -> Array:
        """How far places (..., 2) lie inside the photo's own opening, 0 to 1 over a sixth of its height."""
        outline = self._face[INNER]
        soft = max(1.0, self._own_gap * self.mm / 6)
        distance = np.array([
            [cv2.pointPolygonTest(outline, (float(x), float(y)), True) for x, y in row] for row in place
        ], np.float32)  # fmt: skip
        return np.clip(distance / soft, 0, 1)

    def _colour(self, place: Array, jaw: float, upper: Array, lower: Array) -> Array:
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
        top = 2.5 + 0.42 * jaw + 2.0 * (x / 15) ** 2
        tongue = smoothstep((y - top) / (3 + 0.25 * jaw)) * smoothstep((18 - np.abs(x)) / 6)
        lit = self._tongue * (0.45 + 0.35 * np.clip((y - top) / (2 + 0.6 * jaw), 0, 1))[..., None]
        colour += tongue[..., None] * (lit - colour)

        for edges, up, edge, level in (
            (LOWER_TEETH, -1.0, jaw - 1.2 + 1.0 * (x / 20) ** 2, 0.72),
            (UPPER_TEETH, 1.0, self._tooth_edge - 1.8 * (x / 22) ** 2, 0.95),
        ):
            beside = np.min(np.abs(np.abs(x)[..., None] - edges), axis=-1)
            rounded = 0.7 * np.exp(-((beside / 0.9) ** 2))
            cover = smoothstep(0.5 + (edge - rounded - y) * up / (pixel + 0.6))
            cover *= smoothstep((edges[-1] + 1 - np.abs(x)) / 3)
            shade = level * np.clip(1.05 - 0.75 * (np.abs(x) / 26) ** 2, 0.2, 1)
            gap = 0.22 * np.exp(-((beside / (0.35 + 0.35 * pixel)) ** 2)) / (1 + 0.6 * pixel)
            shade = shade * (1 - gap)
            colour += cover[..., None] * (self._teeth * shade[..., None] - colour)

        # The lips' shadow: strongest just under the upper lip and in the corners.
        shadow = 0.55 + 0.45 * smoothstep((y - roof + 0.3) / 3.0)
        shadow *= 0.75 + 0.25 * smoothstep((floor - y + 0.3) / 1.5)
        shadow *= 1 - 0.6 * np.clip(np.abs(x - middle) / half, 0, 1) ** 3
        return np.clip(colour * shadow[..., None], 0, 1).astype(np.float32)
