"""Two test processes share two cores: each computes with one thread, or they would wait for each other.

Prepared clips for tests of everything that reads or writes them: the functions of tests/prepared_clips.py as fixtures.
"""

import cv2
import prepared_clips
import pytest
import torch

torch.set_num_threads(1)
cv2.setNumThreads(1)


@pytest.fixture(scope="session")
def synthetic_clip():
    """A function (number, frames, size, …) to a small `Clip`."""
    return prepared_clips.synthetic_clip


@pytest.fixture(scope="session")
def write_synthetic():
    """A function (folder, clips, …) that writes shards of small clips and returns the folder."""
    return prepared_clips.write_synthetic
