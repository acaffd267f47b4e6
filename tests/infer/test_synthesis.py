"""Streams between the stages: read in turn, kept no longer than needed."""

import gc
import weakref

import numpy as np

from infer.synthesis import next_frames, unzipped
from pose.motion import Motion
from pose.skeleton import Skeleton


class Chunk:
    def __init__(self, number):
        self.number, self.pixels = number, np.zeros(8)


def test_pairs_are_read_in_turn_and_not_kept():
    alive: weakref.WeakSet[Chunk] = weakref.WeakSet()
    most = 0

    def pairs():
        for number in range(100):
            chunk = Chunk(number)
            alive.add(chunk)
            yield number, chunk
            del chunk

    numbers, chunks = unzipped(pairs())
    read = []
    for _ in range(25):  # four of the second, then four of the first, as windows are read
        read += [next(chunks).number for _ in range(4)]
        assert [next(numbers) for _ in range(4)] == read[-4:]
        if len(alive) > 2:
            gc.collect()
        most = max(most, len(alive))
    assert read == list(range(100)) and most <= 2
    assert next(chunks, None) is None and next(numbers, None) is None


def test_frames_of_a_stream_are_given_once_in_order_and_the_last_one_stays():
    rotations = np.tile(np.eye(3, dtype=np.float32), (11, len(Skeleton.home()), 1, 1))
    place = np.arange(33, dtype=np.float32).reshape(11, 3)
    whole = Motion(25.0, Skeleton.home(), rotations, place)
    for lengths in ((4, 7, 3), (11, 1, 1), (1,) * 14, (20,)):
        stream, held, given = iter([whole[:5], whole[5:6], whole[6:]]), None, []
        for count in lengths:
            part, held = next_frames(held, stream, count)
            given.append(part.root_position)
        made = np.concatenate(given)
        np.testing.assert_array_equal(made, place[np.minimum(np.arange(len(made)), 10)])
