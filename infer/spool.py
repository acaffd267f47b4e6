"""Arrays that grow a row at a time on disk: an hour of video holds 90 000 rows of 543 keypoints."""

from __future__ import annotations

import tempfile

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Spool:
    """Rows of one shape as float32 in a temporary file, which is gone when the object is."""

    def __init__(self, *shape: int) -> None:
        self._shape, self._count = shape, 0
        self._file = tempfile.TemporaryFile(prefix="rhetor_")  # noqa: SIM115  it lives as long as the object

    def __len__(self) -> int:
        return self._count

    def add(self, row: ArrayLike) -> None:
        """One more row; ValueError when it has another shape."""
        values = np.ascontiguousarray(row, np.float32)
        if values.shape != self._shape:
            raise ValueError(f"a row must be {self._shape}, got {values.shape}")
        self._file.write(values.tobytes())
        self._count += 1

    def rows(self) -> NDArray[np.float32]:
        """All rows (N, *shape), read from the file as they are touched; it must not be added to any more."""
        self._file.flush()
        if not self._count:
            return np.zeros((0, *self._shape), np.float32)
        return np.memmap(self._file, np.float32, "r", shape=(self._count, *self._shape))
