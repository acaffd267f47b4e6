"""Train the default feature extractor of the FGD: an autoencoder of two-second windows of gestures.

    python train/fgd.py configs/fgd.yaml data.folder=CORPUS label=beat-english

CORPUS is any dataset that `python -m pose.datasets` reads, or what train/procedural.py makes; without BEAT the latter
does. A checkpoint holds extractor/; give it to infer/evaluate.py gesture --extractor FOLDER. The same command again
resumes. About four minutes on two CPU cores. The label becomes part of the name under which FGDs are printed.
Letters: W windows, F frames.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pose.datasets.check import open_dataset
from pose.metrics.gesture_features import FPS, GestureFeatures, motion_windows
from train.config import LoopConfig
from train.loop import Task, command, train

MINIMUM_WINDOWS = 64


@dataclass(frozen=True)
class FgdData:
    """Which clips are learned: the splits train and val of a dataset."""

    folder: str = ""
    kind: str | None = None  # told from the files if left out
    stride: int = 5  # frames between the starts of windows


@dataclass(frozen=True)
class FgdConfig:
    """One experiment."""

    data: FgdData
    label: str = "unnamed"
    width: int = 32  # of the feature; more needs more windows for a covariance
    channels: int = 96
    velocity: float = 1.0  # ours: weight of the frame differences, so that tempo is in the feature
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if not self.data.folder:
            raise ValueError("data.folder is not set; pass data.folder=FOLDER, see train/procedural.py for making one")


class FgdTask(Task):
    """Reconstruction of normalised windows and of their frame differences."""

    def __init__(self, config: FgdConfig, extractor: GestureFeatures) -> None:
        super().__init__()
        self.config, self.extractor = config, extractor

    def trained(self) -> nn.Module:
        return self.extractor

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        windows = self.extractor.normalized(batch["windows"])
        made = self.extractor(windows)
        pose = nn.functional.l1_loss(made, windows)
        speed = nn.functional.l1_loss(made.diff(dim=1), windows.diff(dim=1))
        return {"loss": pose + self.config.velocity * speed, "pose": pose, "speed": speed}

    def save(self, folder: Path) -> None:
        self.extractor.save_pretrained(folder / "extractor")


class Windows(Dataset):
    """Windows (W, 34, 282) as items {"windows": (34, 282)}."""

    def __init__(self, windows: np.ndarray) -> None:
        self.windows = torch.from_numpy(windows)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"windows": self.windows[index]}


def load_windows(data: FgdData) -> dict[str, Windows]:
    """Windows (W, 34, 282) of the splits train and val; prints which clips are left out, and why."""
    from tqdm import tqdm

    dataset = open_dataset(data.folder, data.kind)
    found: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    for recording in tqdm([r for r in dataset.recordings if r.split in found], desc="windows", disable=None):
        try:
            motion = dataset.load(recording, FPS).motion
            if motion is None:
                raise ValueError("it has directions only, no rotations")
            found[recording.split].append(motion_windows(motion, data.stride))
        except ValueError as error:
            print(f"left out {recording.name}: {error}", file=sys.stderr)
    counts = {split: sum(map(len, parts)) for split, parts in found.items()}
    if counts["train"] < MINIMUM_WINDOWS or not counts["val"]:
        raise ValueError(f"{data.folder} gives {counts['train']} windows to train and {counts['val']} to validate")
    return {split: Windows(np.concatenate(parts)) for split, parts in found.items()}


def run(config: FgdConfig) -> Path:
    """Train; returns the best checkpoint."""
    torch.manual_seed(config.loop.seed)
    windows = load_windows(config.data)
    extractor = GestureFeatures(config.label, config.width, config.channels)
    extractor.fit(windows["train"].windows)
    print(
        f"extractor: {sum(p.numel() for p in extractor.parameters()):,} parameters; "
        f"{len(windows['train'])} windows to train, {len(windows['val'])} to validate"
    )
    best = train(config, FgdTask(config, extractor), windows["train"], windows["val"])
    print(f"FGDs by it are printed as FGD({GestureFeatures.from_pretrained(best / 'extractor').name})")
    return best


def main(argv: list[str] | None = None) -> int:
    return command(__doc__, FgdConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
