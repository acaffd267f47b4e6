"""Streams between the stages: read in turn, kept no longer than needed."""

import gc
import weakref

import numpy as np

from infer.synthesis import unzipped


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
        gc.collect()
        most = max(most, len(alive))
    assert read == list(range(100)) and most <= 2
    assert next(chunks, None) is None and next(numbers, None) is None
