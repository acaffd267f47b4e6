"""The out-of-focus office behind the person: a few painted shapes, blurred like a lens with a wide aperture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 1024


def paint(path: Path) -> None:
    """Write a square picture: a bright window on the left, a wall, shelves with books and a plant on the right."""
    rng = np.random.default_rng(11)
    across = np.linspace(0, 1, SIZE)[None, :, None]
    down = np.linspace(0, 1, SIZE)[:, None, None]
    warm, cool = np.array([196, 191, 184.0]), np.array([164, 170, 174.0])
    wall = warm * (1 - across) + cool * across
    wall = wall * (1.06 - 0.22 * down)
    picture = Image.fromarray(np.clip(np.broadcast_to(wall, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    # Window panes with daylight.
    draw.rectangle((-40, 60, 262, 640), fill=(214, 222, 226))
    for x in (96, 252):
        draw.rectangle((x, 60, x + 14, 640), fill=(150, 152, 152))
    draw.rectangle((-40, 330, 262, 344), fill=(150, 152, 152))
    draw.rectangle((-40, 640, 276, 664), fill=(186, 182, 174))
    # Shelves with books in muted colours.
    draw.rectangle((770, 40, 1064, 1064), fill=(140, 130, 118))
    books = [(150, 112, 98), (98, 118, 126), (172, 152, 118), (90, 104, 92), (190, 184, 172), (128, 106, 108)]
    for shelf in (60, 270, 480, 690):
        draw.rectangle((790, shelf, 1064, shelf + 180), fill=(122, 114, 106))
        x = 796
        while x < 1030:
            wide, tall = int(rng.integers(16, 40)), int(rng.integers(90, 160))
            if rng.random() < 0.8:
                draw.rectangle((x, shelf + 180 - tall, x + wide, shelf + 180), fill=books[int(rng.integers(6))])
            x += wide + 3
    # A plant below the window.
    for _ in range(46):
        x, y = rng.normal((110, 770), (55, 85))
        r = rng.uniform(16, 42)
        green = (74 + int(rng.integers(30)), 106 + int(rng.integers(34)), 78 + int(rng.integers(20)))
        draw.ellipse((x - r, y - 1.7 * r, x + r, y + 1.7 * r), fill=green)
    draw.rectangle((60, 850, 190, 1064), fill=(188, 178, 166))
    # Boxes first: a round aperture is closer to a box of boxes than to one Gaussian.
    picture = picture.filter(ImageFilter.BoxBlur(34)).filter(ImageFilter.BoxBlur(26))
    picture.filter(ImageFilter.GaussianBlur(10)).save(path)
