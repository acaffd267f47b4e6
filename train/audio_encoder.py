"""Train a small wav2vec 2.0 to name the phone of every 20 ms: the speech network of avatar/models/audio_encoder.py.

    python train/speech_corpus.py train/speech_sentences.txt SPEECH
    python train/audio_encoder.py configs/audio_encoder.yaml data.folders=[SPEECH]
    python train/audio_encoder_report.py out/audio_encoder/best SPEECH

A checkpoint is a folder of transformers' Wav2Vec2ForAudioFrameClassification: AutoModel reads the network alone, as
`audio_encoder: {from: FOLDER}` of a model description does. The same command again resumes. About twenty minutes on
one CPU core. The recipe is ours: cross entropy of each frame with timed phones takes minutes where self-supervised
pre-training takes GPU weeks.

Letters: B windows, N samples at 16 kHz, F frames, C channels.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.config import LoopConfig
from train.loop import Task, command, say, train
from train.phones import PHONES, UNKNOWN, VISEME_OF

# Convolutions of 10 ms every 5 ms, then twice two of them joined: 25 ms every 20 ms like wav2vec 2.0's seven layers,
# at a fifth of their cost. Transformer: 4 layers of 256.
SMALL: dict[str, Any] = {
    "conv_kernel": (160, 2, 2),
    "conv_stride": (80, 2, 2),
    "conv_dim": (160, 256, 256),
    "conv_bias": True,
    "feat_extract_norm": "group",  # each filter by its own loudness: loss 2.28 after 100 steps, "layer" 2.42
    "do_stable_layer_norm": True,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 768,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 16,
    "feat_proj_dropout": 0.05,
    "hidden_dropout": 0.05,
    "attention_dropout": 0.05,
    "activation_dropout": 0.05,
    "final_dropout": 0.05,
    # wav2vec's own masking and skipping of layers draw from generators that the loop does not seed.
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
}
LOWEST_HZ, HIGHEST_HZ = 100.0, 7600.0  # of the first filters
PHASES = 4  # of each: rectified and added up they are nearly the loudness, whatever the phase of the voice


@dataclass(frozen=True)
class SpeechData:
    """Folders of train/speech_corpus.py or train/speech_labels.py; their splits train and val."""

    folders: tuple[str, ...] = ()
    frames: int = 150  # of a window: 3 s


@dataclass(frozen=True)
class AudioEncoderConfig:
    """One experiment."""

    data: SpeechData
    start: str | None = None  # a checkpoint to begin with; None: new weights
    model: dict[str, Any] = field(default_factory=dict)  # changes to SMALL, arguments of Wav2Vec2Config
    smoothing: float = 0.05  # ours: of the labels; a phone's edge is a matter of taste
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if not self.data.folders:
            raise ValueError("data.folders is not set; pass data.folders=[FOLDER], made by train/speech_corpus.py")


class AudioEncoderTask(Task):
    """Cross entropy of the phone of each frame."""

    def __init__(self, config: AudioEncoderConfig, network: nn.Module) -> None:
        super().__init__()
        self.config, self.network = config, network
        self.register_buffer("visemes", torch.from_numpy(VISEME_OF), persistent=False)

    def trained(self) -> nn.Module:
        return self.network

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = self.network(batch["waveform"]).logits.float().flatten(0, 1)  # (B F, C)
        labels = batch["labels"].flatten()
        loss = nn.functional.cross_entropy(
            logits, labels, ignore_index=UNKNOWN, label_smoothing=self.config.smoothing if self.training else 0.0
        )
        known = labels != UNKNOWN
        named, true = logits.argmax(-1)[known], labels[known]
        visemes = self.visemes
        assert isinstance(visemes, Tensor)
        return {
            "loss": loss,
            "frame_error": (named != true).float().mean(),
            "viseme_error": (visemes[named] != visemes[true]).float().mean(),
        }

    def save(self, folder: Path) -> None:
        self.network.save_pretrained(folder)  # type: ignore[operator]


def build_network(changes: dict[str, Any]) -> Any:
    """A Wav2Vec2ForAudioFrameClassification with random weights and filters like an ear's in its first layer."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForAudioFrameClassification

    from avatar.models.audio_encoder import FIELD, SPEECH_STRIDE

    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in {**SMALL, **changes}.items()}
    kernels, strides = settings["conv_kernel"], settings["conv_stride"]
    field_samples = 1 + sum((kernel - 1) * math.prod(strides[:place]) for place, kernel in enumerate(kernels))
    if (field_samples, math.prod(strides)) != (FIELD, SPEECH_STRIDE):
        raise ValueError(
            f"model: the convolutions see {field_samples} samples every {math.prod(strides)}; the audio encoder's "
            f"clock needs {FIELD} every {SPEECH_STRIDE}"
        )
    labels = dict(enumerate(PHONES))
    config = Wav2Vec2Config(
        **settings, vocab_size=len(PHONES), num_labels=len(PHONES), id2label=labels,
        label2id={phone: number for number, phone in labels.items()},
    )  # fmt: skip
    network = Wav2Vec2ForAudioFrameClassification(config)
    with torch.no_grad():
        first = network.wav2vec2.feature_extractor.conv_layers[0].conv
        first.weight.copy_(ear_filters(first.out_channels, first.kernel_size[0])[:, None])
    return network


def ear_filters(channels: int, samples: int) -> Tensor:
    """Windowed waves (C, samples) of unit energy, in PHASES phases, evenly spaced on the mel scale."""
    from avatar.models.audio_encoder import SAMPLE_RATE

    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (LOWEST_HZ, HIGHEST_HZ))
    count = -(-channels // PHASES)
    hertz = 700.0 * (10.0 ** (torch.linspace(low, high, count) / 2595.0) - 1.0)
    phase = torch.arange(PHASES) * (2.0 * math.pi / PHASES)
    time = (torch.arange(samples) - samples / 2) / SAMPLE_RATE
    waves = torch.cos(2.0 * math.pi * hertz[:, None, None] * time + phase[:, None]) * torch.hann_window(samples)
    return nn.functional.normalize(waves.flatten(0, 1)[:channels], dim=1)


def run(config: AudioEncoderConfig) -> Path:
    """Train; returns the best checkpoint."""
    from train.audio_encoder_data import SpeechWindows, read_corpus

    torch.manual_seed(config.loop.seed)
    utterances = [u for folder in config.data.folders for u in read_corpus(folder)]
    windows = {
        split: SpeechWindows([u for u in utterances if u.split == split], config.data.frames, split == "train")
        for split in ("train", "val")
    }
    if not windows["train"].places:
        raise ValueError(f"{', '.join(config.data.folders)} hold nothing of the split train; make a longer corpus")
    if config.start is None:
        network = build_network(config.model)
    else:
        from transformers import Wav2Vec2ForAudioFrameClassification

        try:
            network = Wav2Vec2ForAudioFrameClassification.from_pretrained(config.start, dtype=torch.float32)
        except OSError:
            raise ValueError(f"start: no checkpoint of this trainer in {config.start}") from None
    hours = sum(u.duration_s for u in windows["train"].utterances) / 3600.0
    say(
        f"audio encoder: {sum(p.numel() for p in network.parameters()):,} parameters; {hours:.2f} h of "
        f"{len({u.voice for u in windows['train'].utterances})} voices to train, {len(windows['val'])} windows of "
        f"{len({u.voice for u in windows['val'].utterances})} others to validate"
    )
    return train(config, AudioEncoderTask(config, network), windows["train"], windows["val"])


def main(argv: list[str] | None = None) -> int:
    return command(__doc__, AudioEncoderConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
