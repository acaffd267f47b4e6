"""Two test processes share two cores: each computes with one thread, or they would wait for each other.

Prepared clips for tests of everything that reads or writes them: the functions of tests/prepared_clips.py as fixtures.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # NumPy's threads too, and those of the processes that tests start

import cv2  # noqa: E402
import prepared_clips  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
cv2.setNumThreads(1)


def pytest_collection_modifyitems(items):
    """Files that take longest come first, for a file stays with one process and the last ones should be short."""
    long = ("train", "infer")
    items.sort(key=lambda item: not set(long) & set(item.path.parts))  # stable


@pytest.fixture(scope="session")
def synthetic_clip():
    """A function (number, frames, size, …) to a small `Clip`."""
    return prepared_clips.synthetic_clip


@pytest.fixture(scope="session")
def write_synthetic():
    """A function (folder, clips, …) that writes shards of small clips and returns the folder."""
    return prepared_clips.write_synthetic
