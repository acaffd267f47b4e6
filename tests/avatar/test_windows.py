"""Windows cover every frame once, streams read the same however they are cut, corrections follow the picture."""

import numpy as np
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


def picture(shift: int) -> np.ndarray:
    """A textured picture moved `shift` pixels to the right."""
    rows, columns = np.mgrid[:96, :96].astype(np.float32)
    texture = (
        0.5 + 0.25 * np.sin((columns - shift) / 5) * np.cos(rows / 7) + 0.2 * np.sin((columns - shift + rows) / 11)
    )
    return np.repeat(texture[..., None], 3, axis=2).astype(np.float32)


def test_corrections_follow_the_picture():
    correction = np.zeros((96, 96, 3), np.float32)
    correction[40:56, 40:56] = 0.3
    moved = windows.carried(correction, picture(0), picture(6))
    wanted = np.roll(correction, 6, axis=1)
    assert np.abs(moved - wanted).mean() < 0.2 * np.abs(correction - wanted).mean()


def test_between_blends_both_neighbours():
    low, high = np.full((96, 96, 3), 0.1, np.float32), np.full((96, 96, 3), 0.5, np.float32)
    still = picture(0)
    blended = windows.between(still, (still, low), (still, high), 0.25)
    np.testing.assert_allclose(blended, 0.2, atol=1e-6)
    np.testing.assert_allclose(windows.between(still, (still, low), None, 0.25), 0.1, atol=1e-6)
