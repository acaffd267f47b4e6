"""Self-supervised speech networks (WavLM, wav2vec 2.0, HuBERT) as one more block of `SpeechFeatures`.

The network is transformers': from a local folder or a hub id. Sound goes through it in blocks of five seconds with a
second of context on both sides (DiffuseStyleGesture+ cuts without context), so that memory does not grow; each block
is standardised where the network's own settings ask for it. Its 50 hidden states a second are interpolated to the
middle of each frame.
Letters: F frames, N samples at 16 kHz, T hidden states, D width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pose.acoustics import SAMPLE_RATE
from pose.speech import SpeechFeatures

Array = NDArray[np.float32]

STRIDE = 320  # samples between hidden states
FIELD = 400  # samples that one hidden state covers
BLOCK_S = 5.0
CONTEXT_S = 1.0


class SpeechModel:
    """Adds the block "wavlm" (F, D): hidden states of layer `layer`, -1 the last."""

    block = "wavlm"

    def __init__(self, source: str | os.PathLike[str], layer: int = -1, device: str | torch.device = "cpu") -> None:
        from transformers import AutoModel

        try:
            model = AutoModel.from_pretrained(source, use_safetensors=None)
        except (OSError, ValueError) as error:
            raise ValueError(f"no speech network in {str(source)!r}: {str(error).splitlines()[0]}") from None
        if not hasattr(model, "feature_extractor") or not hasattr(model.config, "conv_stride"):
            raise ValueError(f"{str(source)!r} holds {type(model).__name__}, which does not hear waveforms")
        stride = int(np.prod(model.config.conv_stride))
        if stride != STRIDE:
            raise ValueError(f"{str(source)!r} has a stride of {stride} samples, expected {STRIDE}")
        self.source, self.layer, self.device = str(source), layer, torch.device(device)
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._standardise = _wants_standardising(source)

    @property
    def width(self) -> int:
        """D."""
        return int(self._model.config.hidden_size)

    @torch.no_grad()
    def hidden_states(self, waveform: Array) -> Array:
        """(N,) to (T, D) of a piece that is heard at once."""
        wave = np.pad(waveform, (0, max(0, FIELD - len(waveform))))
        if self._standardise:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        result = self._model(torch.from_numpy(wave[None]).to(self.device), output_hidden_states=self.layer != -1)
        states = result.last_hidden_state if self.layer == -1 else result.hidden_states[self.layer]
        return states[0].float().cpu().numpy()

    def stream(self, features: Iterable[SpeechFeatures]) -> Iterator[SpeechFeatures]:
        """The same features with the block added, in pieces of about five seconds, whatever pieces come in."""
        held: list[SpeechFeatures] = []
        behind = np.zeros(0, np.float32)
        for piece in features:
            if piece.waveform is None:
                raise ValueError("a speech network hears the waveform; pass features that carry it")
            held.append(piece)
            joined = SpeechFeatures.join(held)
            block = round(BLOCK_S * joined.fps)
            ahead = round(CONTEXT_S * joined.fps)
            while len(joined) >= block + ahead:
                yield self._with_block(joined[:block], behind, joined[block : block + ahead])
                behind = _end(behind, joined[:block])
                joined = joined[block:]
            held = [joined]
        if held and len(held[0]):
            yield self._with_block(SpeechFeatures.join(held), behind, None)

    def _with_block(self, part: SpeechFeatures, behind: Array, ahead: SpeechFeatures | None) -> SpeechFeatures:
        waves = [behind, part.waveform] + ([ahead.waveform] if ahead is not None else [])
        states = self.hidden_states(np.concatenate([wave for wave in waves if wave is not None]))
        middle = (np.arange(len(part)) + 0.5) * SAMPLE_RATE / part.fps + len(behind)
        place = np.clip((middle - FIELD / 2) / STRIDE, 0, len(states) - 1)
        low = np.minimum(place.astype(int), max(len(states) - 2, 0))
        high, t = np.minimum(low + 1, len(states) - 1), (place - low)[:, None]
        rows = (states[low] * (1 - t) + states[high] * t).astype(np.float32)
        return replace(part, blocks={**part.blocks, self.block: rows})


def _end(behind: Array, part: SpeechFeatures) -> Array:
    """The last second of sound."""
    assert part.waveform is not None
    return np.concatenate([behind, part.waveform])[-round(CONTEXT_S * SAMPLE_RATE) :]


def _wants_standardising(source: str | os.PathLike[str]) -> bool:
    """`do_normalize` of the network's preprocessor, true when it says nothing (the large models want it)."""
    path = Path(source) / "preprocessor_config.json"
    if path.is_file():
        return bool(json.loads(path.read_text()).get("do_normalize", True))
    from transformers import AutoFeatureExtractor

    try:
        return bool(AutoFeatureExtractor.from_pretrained(source).do_normalize)
    except (OSError, ValueError, AttributeError):
        return True
