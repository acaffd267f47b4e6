"""Long videos by windows: read streams in equal pieces, every frame in exactly one of them.

    frame       0  1  2  3  4  5  6  7  8  9 10 11 12
    stride 2    g  .  g  .  g  .  g  .  g  .  g  .  g       g generated, . prior plus the carried correction
    window 3    [-----1-----] [-----2-----] [----3...       new frames
    motion 2                m  m                            window 2 also sees the last 2 generated frames

Every frame belongs to exactly one window. A window takes `length * stride` frames; the last one takes what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar


class Frames(Protocol):
    """Anything with a length and slices of frames: tensors, Keypoints, Prior."""

    def __len__(self) -> int: ...


Chunk = TypeVar("Chunk", bound=Frames)


class FrameReader(Generic[Chunk]):
    """Reads a stream of chunks of any lengths in pieces of the lengths that are asked for.

    Holds no more than one chunk beyond what was asked. `join` makes one chunk of several, `cut` takes frames
    [start, stop) of a chunk; chunks of no frames are skipped.
    """

    def __init__(
        self,
        chunks: Iterable[Chunk],
        join: Callable[[Sequence[Chunk]], Chunk],
        cut: Callable[[Chunk, int, int], Chunk],
    ) -> None:
        self._chunks, self._join, self._cut = iter(chunks), join, cut
        self._held: list[Chunk] = []
        self.taken = 0  # frames handed out so far

    def take(self, frames: int) -> Chunk | None:
        """The next `frames` frames, fewer at the end of the stream, None after it."""
        while sum(map(len, self._held)) < frames:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            if len(chunk):
                self._held.append(chunk)
        if not self._held:
            return None
        whole = self._held[0] if len(self._held) == 1 else self._join(self._held)
        piece = self._cut(whole, 0, min(frames, len(whole)))
        self._held = [self._cut(whole, frames, len(whole))] if len(whole) > frames else []
        self.taken += len(piece)
        return piece


def windows(frames: int, length: int, stride: int = 1) -> Iterator[range]:
    """The frames of each window of a video of known length, in order; the last may be short."""
    check_window(length, stride)
    step = length * stride
    return (range(start, min(start + step, frames)) for start in range(0, frames, step))


def check_window(length: int, stride: int) -> None:
    """ValueError unless a window has frames."""
    if length < 1 or stride < 1:
        raise ValueError(f"window and frame_stride must be at least 1, got {length} and {stride}")
