"""Streams of frames: chunks of one size, a look ahead, smoothing, slow changes taken out. Memory stays bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.body_signals import BodySignals
from pose.rotations import axis_angle_to_matrix, matrix_to_axis_angle

Array = NDArray[np.float64]

STANCE_S = 8.0  # slower changes of stance and gaze than this are left out
HANDS_S, HANDS_DRIFT = 2.5, 0.6  # where the hands were for that long becomes, by this share, their new middle


class Drift:
    """Takes slow changes out of signals: a photo looks at its camera and stands where it stands, and gestures about
    its own place for the hands, where it has most freedom to both sides.

    What is taken out is a share of the signal's change since the first frame, followed with a time constant.
    """

    def __init__(self, fps: float, stance_only: bool = False) -> None:
        self._fps = fps
        self._stance_only = stance_only
        self._state: dict[str, tuple[Array, Array]] = {}

    def removed(self, signals: BodySignals) -> BodySignals:
        """The signals less the slow changes since the first frame of the stream, which stays as it is."""
        signals = replace(
            signals,
            chest=self._less("chest", signals.chest, STANCE_S, 1.0),
            roll=self._less("roll", signals.roll, STANCE_S, 1.0),
        )
        if self._stance_only:
            return signals
        head = self._less("head", matrix_to_axis_angle(signals.head), STANCE_S, 1.0)
        return replace(
            signals,
            head=axis_angle_to_matrix(head),
            wrist=self._less("wrist", signals.wrist, HANDS_S, HANDS_DRIFT),
            elbow=self._less("elbow", signals.elbow, HANDS_S, HANDS_DRIFT),
        )

    def _less(self, name: str, values: Array, time_s: float, share: float) -> Array:
        """`values` less `share` of how far their slow part has gone since the first frame."""
        first, slow = self._state.get(name, (values[0], values[0]))
        rest = np.empty_like(values)
        for frame, value in enumerate(values):
            rest[frame] = value - share * (slow - first)
            slow = slow + (value - slow) / (time_s * self._fps)
        self._state[name] = (first, slow)
        return rest


def blocks(signals: Iterable[BodySignals], size: int) -> Iterator[BodySignals]:
    """The same frames in chunks of `size`, the last one shorter."""
    waiting: list[BodySignals] = []
    count = 0
    for part in signals:
        waiting.append(part)
        count += len(part)
        if count >= size:
            whole = joined(waiting)
            full = count - count % size
            for start in range(0, full, size):
                yield whole[start : start + size]
            waiting, count = ([whole[full:]], count - full) if count > full else ([], 0)
    if count:
        yield joined(waiting)


def joined(parts: list[BodySignals]) -> BodySignals:
    """Parts in order as one; either all or none of them have an expression."""
    if len({part.expression is None for part in parts}) > 1:
        raise ValueError("some chunks of the motion have a face expression and some have none; give it in all or none")
    fields: dict[str, Any] = {
        name: None if value is None else np.concatenate([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
    }
    return BodySignals(**fields)


def look_ahead(rows: Iterable[Array], ahead: int) -> Iterator[Array]:
    """For each row the rows from it to at most `ahead` rows later, (1 to ahead + 1, D)."""
    window: deque[Array] = deque()
    for row in rows:
        window.append(row)
        if len(window) > ahead:
            yield np.stack(window)
            window.popleft()
    while window:
        yield np.stack(window)
        window.popleft()


def smoothed(rows: Iterable[Array], deviation: Array | float) -> Iterator[Array]:
    """Rows (D,) averaged with their neighbours under a Gaussian window; the ends repeat outwards.

    `deviation` of the window in rows, one for all or (D,).
    """
    deviation = np.atleast_1d(np.asarray(deviation, np.float64))
    radius = int(np.ceil(3 * deviation.max()))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1)[:, None] / deviation) ** 2)
    weights /= weights.sum(0)
    window: deque[Array] = deque(maxlen=len(weights))
    for row in _padded(rows, radius):
        window.append(row)
        if len(window) == len(weights):
            yield (weights * np.stack(window)).sum(0)


def _padded(rows: Iterable[Array], count: int) -> Iterator[Array]:
    row = None
    for number, row in enumerate(rows):
        yield from [row] * (1 if number else count + 1)
    if row is not None:
        yield from [row] * count
