"""A procedural corpus of eight recordings of three and a half seconds, made once."""

import numpy as np
import pytest
import soundfile
import torch

from train.procedural import make_corpus


def make_babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Something like syllables: a buzz of wandering pitch, four times a second."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * time + random.uniform(0, 6))
    buzz = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / 16000)) + 0.1 * random.normal(size=len(time))
    return (0.2 * buzz * np.clip(np.sin(2 * np.pi * 2.1 * time), 0, 1)).astype(np.float32)


@pytest.fixture(scope="session")
def babble():
    """A function (seconds, seed) to samples (N,)."""
    return make_babble


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    for number in range(8):
        soundfile.write(folder / f"{number}.wav", make_babble(3.5, number), 16000)
    return folder


@pytest.fixture(scope="session")
def corpus(speech_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    assert len(list(make_corpus(speech_folder, folder, speakers=1))) == 8
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
