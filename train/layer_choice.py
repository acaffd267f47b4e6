"""Train the layer chooser, which mends the prior out of its own layers (avatar/models/layer_chooser.py).

    python -m train.layer_samples SAMPLES REPAIR CLIPS…
    accelerate launch train/layer_choice.py configs/layer_choice.yaml data.folder=SAMPLES

REPAIR: what train/repair.py wrote; CLIPS: what train/prepare.py and train/render.py did. Learned is, for each pixel,
how much nearer to the truth each layer is than the prior, where the prior is in doubt. A checkpoint is a folder that
`LayerChooser.from_pretrained` loads, and infer/run.py --model. The same command again resumes.

Letters: B samples of a batch, L layers, h w size.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from avatar.layer_choice import MIRRORED, MIRRORED_BONES, WHOLE_DOUBT
from avatar.models.layer_chooser import CELL, LayerChooser
from train.config import LoopConfig
from train.loop import Task, command, say, train

UNSURE = 0.5  # confidence below which errors are reported, as everywhere
COARSEST = 32  # pixels that the network's coarsest features stand for: sides of a crop are multiples


@dataclass(frozen=True)
class SampleData:
    """What is learned from."""

    folder: str = ""  # of train/layer_samples.py
    crop: int = 192  # side, in pixels of the samples; they are about 256²
    zoom: float = 1.25  # ours: crops are up to so much nearer or farther
    gain: tuple[float, float] = (0.6, 1.3)  # ours: of each colour, which also change places: the people are few
    offset: float = 0.1  # ours: largest, of each colour

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError("data.folder is not set; pass data.folder=SAMPLES, written by train/layer_samples.py")
        if self.crop < COARSEST or self.crop % COARSEST:
            raise ValueError(f"data.crop must be a multiple of {COARSEST}, got {self.crop}")
        if not 1 <= self.zoom <= 2:
            raise ValueError(f"data.zoom must be from 1 (none) to 2, got {self.zoom:g}")


@dataclass(frozen=True)
class LayerChoiceConfig:
    """One experiment. `chooser` holds arguments of `LayerChooser`."""

    data: SampleData
    chooser: dict[str, object] = field(default_factory=dict)
    start: str = ""  # folder of a chooser to go on from, with its architecture
    scale: float = 5.0  # ours: what an advantage of 1 (black for white) is made, so that losses are near 1
    largest: float = 0.6  # ours: advantages beyond are cut
    least: float = 0.3  # ours: doubt from which a pixel is learned from, with its doubt as weight
    loop: LoopConfig = field(default_factory=LoopConfig)


class LayerSamples:
    """The samples of a split; random crops, mirrored or not and in other colours, unless `whole`."""

    def __init__(self, data: SampleData, split: str, whole: bool = False) -> None:
        self.data, self.whole = data, whole
        self.places: list[tuple[Path, int]] = []
        self._groups: list[Hashable] = []
        for path in sorted((Path(data.folder) / split).glob("*.safetensors")):
            try:
                with safe_open(str(path), "pt") as file:
                    count, _, *size = file.get_slice("truth").get_shape()
            except (OSError, SafetensorError) as error:
                raise ValueError(f"{path} cannot be read ({error}); delete it and make it again") from None
            self.places += [(path, number) for number in range(count)]
            self._groups += [tuple(size) if whole else 0] * count
        if not self.places:
            raise ValueError(
                f"{data.folder} has no samples of the split {split}; make them with train/layer_samples.py"
            )

    @property
    def groups(self) -> list[Hashable]:
        return self._groups

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, index: int, generator: np.random.Generator) -> dict[str, Tensor]:
        path, number = self.places[index]
        with safe_open(str(path), "pt") as file:
            item = {name: file.get_slice(name)[number] for name in file.keys()}  # noqa: SIM118
        if not self.whole:
            item = self._cropped(item, generator)
        item = {name: part.float() / 255 for name, part in item.items()}
        return item if self.whole else self._recoloured(item, generator)

    def _cropped(self, item: dict[str, Tensor], generator: np.random.Generator) -> dict[str, Tensor]:
        height, width = item["truth"].shape[-2:]
        wanted = self.data.crop * self.data.zoom ** generator.uniform(-1, 1)
        side = min(round(wanted / CELL) * CELL, height, width)
        y, x = (int(generator.integers(0, max(full - side, 0) // CELL + 1)) for full in (height, width))
        mirrored = generator.random() < 0.5
        found = {}
        for name, part in item.items():
            cell = 1 if name == "bones" else CELL
            part = part[..., y * cell : y * cell + side * cell // CELL, x * cell : x * cell + side * cell // CELL]
            part = _resized(part, self.data.crop // (1 if cell == CELL else CELL))
            found[name] = part.flip(-1) if mirrored else part
        if mirrored:
            order = torch.tensor(MIRRORED)
            found["coverage"], found["sure"] = found["coverage"][order], found["sure"][order]
            found["colours"] = found["colours"][torch.cat([torch.zeros(1, dtype=torch.long), 1 + order])]
            found["bones"] = found["bones"][torch.tensor(MIRRORED_BONES)]
        return found

    def _recoloured(self, item: dict[str, Tensor], generator: np.random.Generator) -> dict[str, Tensor]:
        order = torch.from_numpy(generator.permutation(3))
        gain = torch.from_numpy(generator.uniform(*self.data.gain, (3, 1, 1))).float()
        offset = torch.from_numpy(generator.uniform(-self.data.offset, self.data.offset, (3, 1, 1))).float()
        for name in ("colours", "truth"):
            item[name] = item[name][..., order, :, :] * gain + offset
        return item


def _resized(x: Tensor, side: int) -> Tensor:
    """Bytes (..., h, w) at side x side."""
    if x.shape[-2:] == (side, side):
        return x
    flat = x.reshape(1, -1, *x.shape[-2:]).float()
    made = functional.interpolate(flat, (side, side), mode="bilinear", antialias=True)
    return made.round().clamp(0, 255).byte().reshape(*x.shape[:-2], side, side)


class LayerChoiceTask(Task):
    """Advantages of the layers, regressed; and how much nearer the choice then is."""

    def __init__(self, config: LayerChoiceConfig, chooser: LayerChooser) -> None:
        super().__init__()
        self.config, self.chooser = config, chooser

    def trained(self) -> nn.Module:
        return self.chooser

    def edges(self) -> list[nn.Parameter]:
        outer = (self.chooser.conv_in, self.chooser.bones_in, self.chooser.conv_out)
        return [p for part in outer for p in part.parameters()]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        colours, truth, doubt = batch["colours"], batch["truth"], batch["doubt"]
        said = self.chooser(colours, batch["coverage"], batch["sure"], doubt, batch["bones"])
        error = (colours - truth[:, None]).abs().mean(2)
        largest = self.config.largest
        advantage = (error[:, 1:] - error[:, :1]).clamp(-largest, largest) * self.config.scale
        weight = doubt * (doubt > self.config.least)
        loss = ((said - advantage).square() * weight).mean(1).sum() / weight.sum().clamp(min=1)
        with torch.no_grad():
            shares = self.chooser.shares(said)[:, :, None]
            chosen = colours[:, 0] + (shares * (colours[:, 1:] - colours[:, :1])).sum(1)
            chosen = torch.lerp(colours[:, 0], chosen, (doubt / WHOLE_DOUBT).clamp(max=1))
            unsure = doubt[:, 0] > 1 - UNSURE
            after = ((chosen - truth).abs().mean(1) * unsure).sum()
            before = (error[:, 0] * unsure).sum()
            unknown = (advantage.square() * weight).mean(1).sum() / weight.sum().clamp(min=1)
        return {
            "loss": loss,
            "unexplained": torch.stack([loss.detach(), unknown]),  # share of the advantages' square
            "left": torch.stack([after, before]),  # error of the choice over that of the prior
        }

    def save(self, folder: Path) -> None:
        self.chooser.save_pretrained(folder)


def build_chooser(config: LayerChoiceConfig) -> LayerChooser:
    """A new chooser, or the one to go on from; ValueError where `chooser` does not fit the class."""
    if config.start:
        return LayerChooser.from_pretrained(config.start)
    try:
        arguments: dict[str, Any] = dict(config.chooser)
        return LayerChooser(**arguments)
    except TypeError as error:
        raise ValueError(f"chooser: {error}; it holds arguments of LayerChooser") from error


def run(config: LayerChoiceConfig) -> Path:
    """Train; returns the best checkpoint."""
    torch.manual_seed(config.loop.seed)
    training, whole = LayerSamples(config.data, "train"), LayerSamples(config.data, "val", whole=True)
    chooser = build_chooser(config)
    parameters = sum(p.numel() for p in chooser.parameters())
    say(f"layer chooser: {parameters:,} parameters; {len(training)} samples to train, {len(whole)} to validate")
    return train(config, LayerChoiceTask(config, chooser), training, whole)  # type: ignore[arg-type]


def main(argv: list[str] | None = None) -> int:
    return command(__doc__, LayerChoiceConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
