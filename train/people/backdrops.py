"""What is behind a person: plain, a soft gradient, or a room out of focus, painted at random.

Letters: H W picture size. Pictures are RGB float in [0, 255]. Shapes and colours were chosen by hand.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
KINDS = {"plain": 0.15, "gradient": 0.3, "room": 0.55}
# Walls as sRGB; muted, some light, some dark.
WALLS = (
    (214, 208, 198), (188, 194, 198), (170, 180, 176), (206, 196, 182), (226, 224, 220), (150, 160, 170),
    (120, 128, 134), (96, 108, 116), (176, 160, 146), (158, 170, 152), (196, 178, 172), (74, 82, 92),
    (134, 150, 164), (182, 186, 206), (206, 214, 206),
)  # fmt: skip
WOODS = ((134, 104, 76), (98, 76, 58), (170, 140, 106), (72, 60, 52), (190, 176, 156))
THINGS = (
    (150, 112, 98), (98, 118, 126), (172, 152, 118), (90, 104, 92), (190, 184, 172), (128, 106, 108), (176, 92, 72),
    (86, 100, 130), (210, 190, 140),
)  # fmt: skip


def draw_backdrop(random: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of a kind at random, with a little grain so that gradients do not band."""
    kind = str(random.choice(list(KINDS), p=list(KINDS.values())))
    wall = np.array(WALLS[int(random.integers(len(WALLS)))], np.float32) * random.uniform(0.9, 1.08)
    picture = shaded(random, wall, size, 0.04 if kind == "plain" else 0.22)
    if kind == "room":
        picture = room(random, picture)
    grain = random.normal(0, 1.0, (*size, 1))
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def shaded(random: np.random.Generator, wall: Picture, size: tuple[int, int], strength: float) -> Picture:
    """A wall lit from one side, brighter around a point."""
    height, width = size
    down, across = np.mgrid[:height, :width].astype(np.float32) / np.array([height, width], np.float32)[:, None, None]
    x, y = random.uniform(0.2, 0.8), random.uniform(0.1, 0.6)
    glow = np.exp(-(((across - x) / 0.6) ** 2 + ((down - y) / 0.7) ** 2))
    slope = random.normal(0, 0.5) * (across - 0.5) + random.normal(-0.2, 0.3) * (down - 0.5)
    light = 1 + strength * (glow - 0.5 + slope)
    tint = 1 + 0.25 * strength * random.normal(0, 1, 3) * (across - 0.5)[..., None]
    return (wall * light[..., None] * tint).astype(np.float32)


def room(random: np.random.Generator, picture: Picture) -> Picture:
    """Some of window, shelf, plant, frames, lamp, panels and table on a wall, out of focus."""
    height, width = picture.shape[:2]
    canvas = np.ascontiguousarray(picture)
    unit = float(min(height, width))
    side = float(random.choice([0.0, 1.0]))

    def box(x: float, y: float, wide: float, high: float, colour: object) -> None:
        """A filled rectangle; places and sizes as shares of the shorter side, x from the chosen side."""
        left = x * unit if side == 0 else width - (x + wide) * unit
        corners = (round(left), round(y * unit)), (round(left + wide * unit), round((y + high) * unit))
        cv2.rectangle(canvas, *corners, tuple(float(c) for c in np.asarray(colour)), -1)

    def thing() -> NDArray[np.float64]:
        return np.array(THINGS[int(random.integers(len(THINGS)))]) * random.uniform(0.7, 1.1)

    wood = np.array(WOODS[int(random.integers(len(WOODS)))]) * random.uniform(0.8, 1.1)
    # 1. The wall itself: panels, bricks or a lower part in another colour.
    pattern = random.random()
    if pattern < 0.25:
        for x in np.arange(0, width / unit, random.uniform(0.10, 0.2)):
            box(x, 0, 0.008, height / unit, canvas[height // 2, width // 2] * 0.85)
    elif pattern < 0.45:
        box(-1, random.uniform(0.5, 0.7), 4, 2, canvas[height // 2, width // 2] * random.uniform(0.6, 0.85))
    # 2. Window on one side.
    if random.random() < 0.6:
        wide, top, high = random.uniform(0.18, 0.34), random.uniform(0.0, 0.15), random.uniform(0.45, 0.75)
        sky = np.array([222, 230, 234]) * random.uniform(0.9, 1.1)
        box(-0.05, top, wide + 0.05, high, sky)
        if random.random() < 0.5:
            box(-0.05, top + 0.6 * high, wide + 0.05, 0.4 * high, (150, 168, 140))
        for x in (-0.01, wide / 2, wide):
            box(x, top, 0.012, high, canvas[height // 2, width // 2] * 0.75)
        box(-0.05, top + high, wide + 0.08, 0.02, wood)
        if random.random() < 0.4:
            curtain = thing()
            for k in range(4):
                box(wide + 0.02 * k, top - 0.05, 0.02, high + 0.3, curtain * (0.9 + 0.2 * (k % 2)))
    # 3. Shelves with books, or framed pictures, on the other side.
    side = 1.0 - side
    if random.random() < 0.6:
        wide = random.uniform(0.18, 0.30)
        box(-0.1, 0.03, wide + 0.1, 2.0, wood * 0.9)
        for shelf in np.arange(0.06, 1.0, random.uniform(0.16, 0.24)):
            box(-0.1, shelf, wide + 0.085, 0.145, wood * 0.62)
            x = 0.0
            while x < wide - 0.05:
                w, h = random.uniform(0.014, 0.035), random.uniform(0.07, 0.13)
                if random.random() < 0.8:
                    box(x, shelf + 0.145 - h, w, h, thing())
                x += w + 0.004
    else:
        for _ in range(int(random.integers(1, 4))):
            x, y, w, h = random.uniform(0.02, 0.22), random.uniform(0.05, 0.5), *random.uniform(0.08, 0.2, 2)
            box(x, y, w, h, wood * 0.6)
            box(x + 0.012, y + 0.012, w - 0.024, h - 0.024, thing() * 1.1)
    # 4. A plant, a lamp, a table.
    if random.random() < 0.55:
        side = float(random.choice([0.0, 1.0]))
        x0, y0 = random.uniform(0.03, 0.18), random.uniform(0.55, 0.85)
        green = np.array([80, 116, 78]) * random.uniform(0.75, 1.15)
        for _ in range(40):
            x, y = random.normal((x0, y0), (0.06, 0.08))
            centre = (round(x * unit if side == 0 else width - x * unit), round(y * unit))
            axes = (round(random.uniform(0.012, 0.03) * unit), round(random.uniform(0.03, 0.06) * unit))
            tone = tuple(float(c) for c in green * random.uniform(0.8, 1.25))
            cv2.ellipse(canvas, centre, axes, float(random.uniform(-50, 50)), 0, 360, tone, -1)
        box(x0 - 0.05, y0 + 0.08, 0.10, 0.5, thing())
    if random.random() < 0.3:
        x, y = random.uniform(0.1, 0.25), random.uniform(0.1, 0.35)
        box(x - 0.004, y, 0.008, 1.0, wood * 0.5)
        box(x - 0.06, y - 0.05, 0.12, 0.09, (250, 226, 180))
    blur = random.uniform(0.010, 0.032) * unit
    # Boxes first: a round aperture is closer to a box of boxes than to one Gaussian.
    kernel = (2 * round(blur) + 1,) * 2
    soft = cv2.blur(cv2.blur(canvas, kernel, borderType=cv2.BORDER_REFLECT), kernel, borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.GaussianBlur(soft, (0, 0), 0.3 * blur + 0.5), np.float32)
