"""The speech network that ships: the encoder reads it, keeps its clock, and its states tell sounds apart."""

import json

import numpy as np
import pytest
import torch

from avatar.models.audio_encoder import FIELD, SPEECH_STRIDE, AudioEncoder
from avatar.shipped import WEIGHTS

FOLDER = WEIGHTS / "audio"


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return AudioEncoder.from_speech_model(str(FOLDER), num_tokens=2, audio_dim=8).eval()


def test_size_and_clock(encoder):
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 8e6
    assert (FOLDER / "README.md").is_file()
    kernels, strides = encoder.speech.config.conv_kernel, encoder.speech.config.conv_stride
    seen = 1 + sum((kernel - 1) * int(np.prod(strides[:place])) for place, kernel in enumerate(kernels))
    assert (seen, int(np.prod(strides))) == (FIELD, SPEECH_STRIDE)
    labels = json.loads((FOLDER / "config.json").read_text())["id2label"]
    assert labels["0"] == "SIL" and len(labels) == 40


def test_states_change_where_the_sound_does(encoder):
    """Two seconds of a vowel-like buzz, then two of hiss: states within a half are alike, across the middle not."""
    random = np.random.default_rng(0)
    time = np.arange(32000) / 16000
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    hiss = np.diff(random.normal(size=32001))
    sound = np.concatenate([buzz / buzz.std(), hiss / hiss.std()]).astype(np.float32) * 0.1
    states = torch.nn.functional.normalize(encoder.states(sound)[:, -1], dim=1)
    assert states.shape == (100, 256)
    first, second = states[10:40].mean(0), states[60:90].mean(0)
    within = torch.cat([states[10:40] @ first, states[60:90] @ second]).mean()
    assert within > (first @ second) + 0.3


def test_loudness_does_not_matter(encoder):
    random = np.random.default_rng(1)
    sound = (random.normal(size=16000) * np.sin(np.arange(16000) / 2000) ** 2).astype(np.float32)
    assert torch.allclose(encoder.states(0.3 * sound), encoder.states(0.003 * sound), atol=1e-2)
