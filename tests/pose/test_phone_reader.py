"""The reader of phones: the network of transformers, whatever pieces speech comes in."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pose.phone_lips import PHONES
from pose.phone_reader import PhoneReader
from pose.speech import SpeechFeatures, speech_features
from train.audio_encoder import build_network

TINY = {"conv_dim": [8, 16, 16], "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 24, "num_conv_pos_embedding_groups": 4, "num_conv_pos_embeddings": 8}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("reader")
    network = build_network(TINY)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    network.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def sound():
    random = np.random.default_rng(0)
    return (0.1 * random.normal(size=13 * 16000) * np.sin(np.arange(13 * 16000) / 3000) ** 2).astype(np.float32)


def test_it_is_the_network_of_transformers(folder, sound):
    from transformers import Wav2Vec2ForAudioFrameClassification

    theirs = Wav2Vec2ForAudioFrameClassification.from_pretrained(folder).eval()
    wave = torch.from_numpy((sound[:24000] - sound[:24000].mean()) / sound[:24000].std())
    with torch.no_grad():
        assert torch.allclose(PhoneReader(folder).logits(wave), theirs(wave[None]).logits[0], atol=1e-4)


def test_stream_does_not_depend_on_pieces(folder, sound):
    whole = speech_features(sound)
    reader = PhoneReader(folder)
    pieces = [whole[start : start + 33] for start in range(0, len(whole), 33)]
    once, cut = (SpeechFeatures.join(list(reader.stream(feed))) for feed in ([whole], pieces))
    assert once.blocks["phones"].shape == (len(whole), len(PHONES))
    assert np.array_equal(once.blocks["phones"], cut.blocks["phones"])
    assert np.allclose(once.blocks["phones"].sum(1), 1.0, atol=1e-4)


def test_refuses_other_networks(folder, tmp_path):
    with pytest.raises(ValueError, match="no network of phones"):
        PhoneReader(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for change, said in (
        ({"id2label": {"0": "LABEL_0"}}, "phones"),
        ({"do_stable_layer_norm": False}, "another kind"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=said):
            PhoneReader(tmp_path)
