"""Self-supervised speech networks: a tiny WavLM with random weights; the stream is the whole, however it comes cut."""

import numpy as np
import pytest
import torch

from pose.speech import speech_features
from pose.speech_models import SpeechModel


def babble(seconds: float) -> np.ndarray:
    """Noise in four syllables a second."""
    time = np.arange(round(seconds * 16000)) / 16000
    noise = np.random.default_rng(0).normal(size=len(time))
    return (0.1 * noise * np.clip(np.sin(2 * np.pi * 4 * time), 0, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny_wavlm(tmp_path_factory):
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("wavlm")
    WavLMModel(config).save_pretrained(folder)
    return folder


def test_speech_network_streams(tiny_wavlm):
    model = SpeechModel(tiny_wavlm)
    features = speech_features(babble(13.0), 30.0)
    whole = list(model.stream([features]))
    assert [len(piece) for piece in whole] == [150, 150, 90]
    rows = np.concatenate([piece.blocks["wavlm"] for piece in whole])
    assert rows.shape == (390, 32) and np.isfinite(rows).all()
    cuts = [0, 7, 130, 131, 300, 390]
    pieces = model.stream([features[a:b] for a, b in zip(cuts, cuts[1:], strict=False)])
    np.testing.assert_allclose(np.concatenate([p.blocks["wavlm"] for p in pieces]), rows, atol=1e-5)
    short = next(model.stream([features[:60]]))
    states = model.hidden_states(features[:60].waveform)
    middle = (np.arange(60) + 0.5) / 30 * 16000
    place = np.clip((middle - 200) / 320, 0, len(states) - 1)
    expected = np.stack([np.interp(place, np.arange(len(states)), states[:, d]) for d in range(32)], 1)
    np.testing.assert_allclose(short.blocks["wavlm"], expected, atol=1e-4)


def test_no_speech_network_there(tmp_path):
    with pytest.raises(ValueError, match="no speech network"):
        SpeechModel(tmp_path)
