"""The size a photo is worked on: multiples of 64, the photo's aspect, an area near the model's own (DESIGN §2)."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

MULTIPLE = 64  # the latent U-Net halves the 8x smaller latent three times
DEFAULT_SIDE = 512  # square root of the default model's area
LARGEST_ASPECT = 4.0  # beyond it a person would be a few pixels wide; chosen by hand


def working_size(height: int, width: int, side: int = DEFAULT_SIDE) -> tuple[int, int]:
    """Height and width, multiples of 64, nearest in shape and then in area to a photo of `height` × `width`.

    `side`: square root of the wanted area, pixels, at least 64. The photo is cropped (never stretched) to the shape.
    """
    if side < MULTIPLE:
        raise ValueError(f"size must be at least {MULTIPLE}, got {side}")
    aspect = min(max(width / height, 1 / LARGEST_ASPECT), LARGEST_ASPECT)
    steps = range(1, math.ceil(side * LARGEST_ASPECT / MULTIPLE) + 1)

    def cost(shape: tuple[int, int]) -> float:
        area = shape[0] * shape[1] * MULTIPLE**2
        # A crop loses picture, another area only costs time: shape counts four times as much (ours).
        return 4 * abs(math.log(shape[1] / shape[0] / aspect)) + abs(math.log(area / side**2))

    rows, columns = min(itertools.product(steps, steps), key=cost)
    return rows * MULTIPLE, columns * MULTIPLE


def crop_to_aspect(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The largest part of an image (H, W, 3) with the shape of `size` (height, width): centred across, and with the
    cut taken from the bottom, because heads are at the top."""
    height, width = image.shape[:2]
    kept_width = min(width, max(1, round(height * size[1] / size[0])))
    kept_height = min(height, max(1, round(width * size[0] / size[1])))
    left = (width - kept_width) // 2
    return image[:kept_height, left : left + kept_width]


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to (height, width): area averaging down, Lanczos up."""
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=method), np.uint8)
