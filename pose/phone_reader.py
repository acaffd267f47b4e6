"""Which phone is said when: our small wav2vec 2.0 (train/audio_encoder.py) as two more blocks of `SpeechFeatures`.

The forward pass is written out here, because importing transformers takes longer than a minute of speech. It reads
the folders that transformers' Wav2Vec2ForAudioFrameClassification saves: convolutions with a group norm after the
first, a positional convolution with weight norm, pre-norm transformer layers (Baevski et al. 2020, "wav2vec 2.0",
the stable layer norm of its large model). tests/pose/test_phone_reader.py compares the two.

Letters: N samples at 16 kHz, T states of 20 ms, F frames, D width, C phones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pose.mouth_stream import with_mouth
from pose.phone_lips import PHONES
from pose.speech import SpeechFeatures
from pose.speech_models import FIELD, SpeechModel

Array = NDArray[np.float32]

FIXED = {"feat_extract_norm": "group", "do_stable_layer_norm": True, "hidden_act": "gelu"}


class PhoneReader(SpeechModel):
    """Adds the block "phones" (F, C): the share of each of `pose.phone_lips.PHONES`, for lips that follow the words;
    and the block "mouth" (F, 12), what such lips do (`pose.mouth_stream`).

    `source` is a folder such as avatar/weights/audio. A second of speech takes 0.01 s of one core. ValueError for a
    network of another kind.
    """

    block = "phones"

    def __init__(self, source: str | os.PathLike[str], device: str | torch.device = "cpu") -> None:
        from safetensors.torch import load_file

        folder = Path(source)
        if not (folder / "config.json").is_file():
            raise ValueError(f"no network of phones in {str(source)!r}; pass a folder of train/audio_encoder.py")
        self._config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        labels = self._config.get("id2label", {})
        if tuple(labels.get(str(place)) for place in range(len(PHONES))) != PHONES:
            raise ValueError(f"{str(source)!r} does not name the phones of pose/phone_lips.py; train it anew")
        if other := {name for name, value in FIXED.items() if self._config.get(name, value) != value}:
            raise ValueError(f"{str(source)!r} is another kind of wav2vec 2.0 ({', '.join(sorted(other))})")
        self.source, self.device = str(source), torch.device(device)
        weights = load_file(folder / "model.safetensors")
        self._weights = {name: weight.to(self.device, torch.float32) for name, weight in weights.items()}

    @property
    def width(self) -> int:
        """C."""
        return len(PHONES)

    def stream(self, features: Iterable[SpeechFeatures]) -> Iterator[SpeechFeatures]:
        """The same features with both blocks added, about a second at a time, whatever pieces come in."""
        return with_mouth(super().stream(features))

    @torch.no_grad()
    def hidden_states(self, waveform: Array) -> Array:
        """(N,) to shares (T, C) of a piece that is heard at once."""
        wave = np.pad(waveform, (0, max(0, FIELD - len(waveform))))
        wave = ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).astype(np.float32)
        return self.logits(torch.from_numpy(wave).to(self.device)).softmax(-1).cpu().numpy()

    def logits(self, wave: Tensor) -> Tensor:
        """(N,) of mean 0 and variance 1 to (T, C)."""
        config = self._config

        # 1. Convolutions, 20 ms apart.
        x = wave[None, None]
        for place, stride in enumerate(config["conv_stride"]):
            name = f"wav2vec2.feature_extractor.conv_layers.{place}"
            x = F.conv1d(x, self._weights[f"{name}.conv.weight"], self._weights.get(f"{name}.conv.bias"), stride)
            if place == 0:
                norm = self._weights[f"{name}.layer_norm.weight"], self._weights[f"{name}.layer_norm.bias"]
                x = F.group_norm(x, x.shape[1], *norm)
            x = F.gelu(x)
        x = self._linear(
            "wav2vec2.feature_projection.projection", self._norm("wav2vec2.feature_projection.layer_norm", x.mT)
        )

        # 2. Places in time: a convolution whose weight is length times direction.
        name = "wav2vec2.encoder.pos_conv_embed.conv"
        length, direction = (self._weights[f"{name}.parametrizations.weight.original{i}"] for i in (0, 1))
        weight = length * direction / direction.norm(dim=(0, 1), keepdim=True)
        bias, groups = self._weights[f"{name}.bias"], config["num_conv_pos_embedding_groups"]
        around = F.conv1d(x.mT, weight, bias, padding=weight.shape[2] // 2, groups=groups)
        x = x + F.gelu(around[..., : x.shape[1]]).mT

        # 3. Transformer.
        heads = config["num_attention_heads"]
        for layer in range(config["num_hidden_layers"]):
            name = f"wav2vec2.encoder.layers.{layer}"
            y = self._norm(f"{name}.layer_norm", x)
            query, key, value = (
                self._linear(f"{name}.attention.{part}_proj", y).unflatten(-1, (heads, -1)).transpose(1, 2)
                for part in "qkv"
            )  # (1, heads, T, D / heads)
            y = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            x = x + self._linear(f"{name}.attention.out_proj", y)
            y = self._linear(f"{name}.feed_forward.intermediate_dense", self._norm(f"{name}.final_layer_norm", x))
            x = x + self._linear(f"{name}.feed_forward.output_dense", F.gelu(y))
        return self._linear("classifier", self._norm("wav2vec2.encoder.layer_norm", x))[0]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self._config.get("layer_norm_eps", 1e-5))
