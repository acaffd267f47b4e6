"""Windows cover every frame once, and streams read the same however they are cut."""

import pytest

from avatar import windows
from avatar.windows import FrameReader


def reader(parts: list[list[int]]) -> FrameReader:
    return FrameReader(parts, lambda held: sum(held, []), lambda chunk, start, stop: chunk[start:stop])


@pytest.mark.parametrize("frames", [0, 1, 11, 12, 13, 100])
@pytest.mark.parametrize("stride", [1, 3])
def test_every_frame_is_in_one_window(frames, stride):
    covered = [frame for window in windows.windows(frames, 4, stride) for frame in window]
    assert covered == list(range(frames))


@pytest.mark.parametrize("sizes", [[20], [1] * 20, [7, 0, 13], [3, 17]])
def test_reading_does_not_depend_on_the_chunks(sizes):
    frames = iter(range(20))
    stream = reader([[next(frames) for _ in range(size)] for size in sizes])
    pieces = [stream.take(6) for _ in range(5)]
    assert pieces == [[*range(6)], [*range(6, 12)], [*range(12, 18)], [18, 19], None]
    assert stream.taken == 20


def test_reading_holds_at_most_a_chunk_beyond_what_was_asked():
    read = []

    def chunks():
        for start in range(0, 100, 2):
            read.append(start)
            yield [start, start + 1]

    FrameReader(chunks(), lambda held: sum(held, []), lambda chunk, start, stop: chunk[start:stop]).take(5)
    assert len(read) == 3


def test_window_without_frames_is_refused():
    with pytest.raises(ValueError, match="got 4 and 0"):
        windows.check_window(4, 0)
