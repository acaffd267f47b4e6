"""A contact sheet: every Nth frame with the skeleton that drove it beside it, in one PNG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.draw import draw_all
from pose.keypoints import Keypoints

TILES = 12
COLUMNS = 3  # pairs of frame and skeleton in a row
TILE_HEIGHT = 320


class ContactSheet:
    """Collects up to twelve frames spread over a video of `frames` frames; `save` writes them as one picture."""

    def __init__(self, frames: int, fps: float) -> None:
        wanted = np.linspace(0, frames - 1, min(TILES, frames)).round().astype(int)
        self.fps = fps
        self._wanted = {int(k) for k in wanted}
        self._skeletons: dict[int, NDArray[np.uint8]] = {}
        self._tiles: list[NDArray[np.uint8]] = []

    def watch(self, keypoints: Iterable[Keypoints]) -> Iterator[Keypoints]:
        """Passes the driving keypoints on and draws those that belong on the sheet."""
        start = 0
        for part in keypoints:
            for frame in self._wanted & set(range(start, start + len(part))):
                self._skeletons[frame] = draw_all(part[slice(frame - start, frame - start + 1)])[0]
            start += len(part)
            yield part

    def add(self, frame: int, image: NDArray[np.uint8]) -> None:
        """Show a finished frame (H, W, 3) uint8 RGB, if it belongs on the sheet."""
        if frame not in self._wanted:
            return
        height, width = image.shape[:2]
        size = (round(width * TILE_HEIGHT / height), TILE_HEIGHT)
        pair = np.hstack(
            [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (image, self._skeletons.pop(frame))]
        )
        label = f"{frame}  {frame / self.fps:.2f} s"
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                pair, label, (6, TILE_HEIGHT - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA
            )
        self._tiles.append(pair)

    def save(self, path: Path) -> None:
        """Write the sheet as PNG."""
        blank = np.zeros_like(self._tiles[0])
        columns = min(COLUMNS, len(self._tiles))
        tiles = self._tiles + [blank] * (-len(self._tiles) % columns)
        rows = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
        cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])
