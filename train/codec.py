"""Train the motion codec that FineGesture works in.

    accelerate launch train/codec.py configs/gesture_codec.yaml preset=small data.folder=CORPUS

A checkpoint holds codec/ and representation/; give it to train/gesture.py as codec=FOLDER. The same command again
resumes. Letters: B clips, F frames, P width of a pose vector.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast, reduce
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pose.losses import codec_losses
from pose.models.motion_codec import MotionCodec, perplexity
from pose.representations.vectors import MotionVectors
from train.config import LoopConfig
from train.features import FeatureCache
from train.gesture import DataConfig, RepresentationConfig, build_representation, load_clips
from train.loop import Task, command, say, train
from train.windows import GestureWindows

FIT_WINDOWS = 4096  # for the mean and deviation of the latents


@dataclass(frozen=True)
class CodecConfig:
    """One experiment."""

    data: DataConfig
    representation: RepresentationConfig
    small: bool = False
    model: dict[str, Any] = field(default_factory=dict)  # changes to MotionCodec's arguments
    frames: int = 34  # of a window
    revive_every: int = 200  # steps after which codes that nobody used are moved; ours; 0 for never
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if not self.data.folder:
            raise ValueError("data.folder is not set; pass data.folder=FOLDER, see train/procedural.py for making one")


class CodecTask(Task):
    """Reconstruction and vector quantisation."""

    used: Tensor  # (N,) how often each code was taken since the last look

    def __init__(
        self, config: CodecConfig, codec: MotionCodec, representation: MotionVectors, windows: GestureWindows
    ) -> None:
        super().__init__()
        self.config, self.codec, self.representation, self.windows = config, codec, representation, windows
        self.register_buffer("used", torch.zeros(codec.config.codes, dtype=torch.long))

    def trained(self) -> nn.Module:
        return self.codec

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output = self.codec(batch["vectors"])
        losses = {name: value.mean() for name, value in codec_losses(output, batch["vectors"]).items()}
        if self.training:
            self.used += torch.bincount(output.indices.flatten(), minlength=len(self.used))
        loss = torch.stack(list(losses.values())).sum()
        if not self.codec.config.quantize:
            return {"loss": loss, **losses}
        return {"loss": loss, **losses, "perplexity": perplexity(output.indices, self.codec.config.codes)}

    @torch.no_grad()
    def after_step(self, step: int, batch: dict[str, Tensor]) -> None:
        every = self.config.revive_every
        # Not in the last fifth: the decoder must get used to the codes it will have.
        if not (every and self.codec.config.quantize) or step % every or step > 0.8 * self.config.loop.steps:
            return
        used = reduce(self.used, "sum")  # of all processes, which then move the same codes to the same places
        if bool((used == 0).any()):
            latents = self.codec.encoder(batch["vectors"].transpose(1, 2)).transpose(1, 2)
            self.codec.revive(latents, used == 0)
            self.codec.book.weight.copy_(broadcast(self.codec.book.weight.detach()))
        self.used.zero_()

    def save(self, folder: Path) -> None:
        self.codec.fit_latents(self._vectors())
        self.codec.save_pretrained(folder / "codec")
        self.representation.save_pretrained(folder / "representation")

    def _vectors(self) -> Iterator[Tensor]:
        step = max(1, len(self.windows) // FIT_WINDOWS)
        subset = torch.utils.data.Subset(self.windows, range(0, len(self.windows), step))
        for batch in DataLoader(subset, batch_size=64):
            yield batch["vectors"].to(self.used.device)


def main(argv: list[str] | None = None) -> int:
    return command(__doc__, CodecConfig, run, argv)


def run(config: CodecConfig) -> Path:
    """Train; returns the best checkpoint."""
    torch.manual_seed(config.loop.seed)
    representation = build_representation(config.representation)
    cache = FeatureCache(config.data.cache, representation, None, 0)
    clips = load_clips(config.data, cache)
    representation.fit(clip.vectors.astype(np.float64) for clip in clips["train"])
    make = MotionCodec.small if config.small else MotionCodec
    try:
        codec = make(pose_dim=representation.dim, **config.model)
    except TypeError as error:
        raise ValueError(f"model: {error}") from None
    training = GestureWindows(clips["train"], representation, config.frames, 0, config.data.stride)
    validation = GestureWindows(clips["val"], representation, config.frames, 0, config.frames)
    say(
        f"codec: {sum(p.numel() for p in codec.parameters()):,} parameters for {representation.dim} numbers a frame; "
        f"{len(training)} windows to train, {len(validation)} to validate"
    )
    return train(config, CodecTask(config, codec, representation, training), training, validation)


if __name__ == "__main__":
    sys.exit(main())
