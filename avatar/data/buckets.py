"""The sizes that clips are made in: aspect ratios with an area near the model's own (DESIGN §2)."""

from __future__ import annotations

import math

from avatar.sizes import DEFAULT_SIDE, MULTIPLE

TOLERANCE = 0.07  # of the area; ours, as LARGEST: nine shapes near 640 x 384, from 768 x 320 to 320 x 768
LARGEST = 2.5  # the longer side over the shorter one

Size = tuple[int, int]  # height, width


def bucket_sizes(
    side: float = DEFAULT_SIDE, tolerance: float = TOLERANCE, largest: float = LARGEST, multiple: int = MULTIPLE
) -> tuple[Size, ...]:
    """All (height, width), multiples of `multiple`, with an area within `tolerance` of side², the tallest first.

    ValueError when there is none.
    """
    area = side**2
    steps = range(1, math.ceil(side * math.sqrt(largest * (1 + tolerance)) / multiple) + 1)
    found = [
        (rows * multiple, columns * multiple)
        for rows in steps
        for columns in steps
        if abs(rows * columns * multiple**2 / area - 1) <= tolerance
        and max(rows, columns) / min(rows, columns) <= largest
    ]
    if not found:
        raise ValueError(
            f"no size of multiples of {multiple} has an area within {tolerance:.0%} of {side:g}²; change the side"
        )
    return tuple(sorted(found, key=lambda size: size[1] / size[0]))


def nearest_bucket(height: float, width: float, sizes: tuple[Size, ...]) -> Size:
    """The size of the shape nearest to height × width, by the ratio of the aspects; of equals the larger."""
    wanted = math.log(width / height)
    return min(sizes, key=lambda size: (abs(math.log(size[1] / size[0]) - wanted), -size[0] * size[1]))
