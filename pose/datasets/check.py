"""Walk through a copy of a dataset and find out what is usable, what is not, and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pose.datasets.beat import Beat
from pose.datasets.beat2 import Beat2
from pose.datasets.show import Show
from pose.datasets.ted import Ted
from pose.datasets.zeroeggs import ZeroEggs

Dataset = Beat | Beat2 | Show | Ted | ZeroEggs


def open_dataset(folder: str | Path, kind: str | None = None) -> Dataset:
    """The reader for a folder; `kind` beat, beat2, show, ted or zeroeggs, else told from the files in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}")
    kind = kind or _kind_of(folder)
    if kind == "beat":
        return Beat(folder)
    if kind == "beat2":
        return Beat2(folder)
    if kind == "show":
        return Show(folder)
    if kind == "ted":
        return Ted(folder)
    if kind == "zeroeggs":
        return ZeroEggs(folder)
    raise ValueError(f"unknown dataset {kind!r}; known are beat, beat2, show, ted and zeroeggs")


def _kind_of(folder: Path) -> str:
    def has(pattern: str, name: str = ".*") -> bool:
        return any(re.match(name, path.name) for path in folder.rglob(pattern))

    if has("data.mdb"):
        return "ted"
    if has("*.bvh", r"\d+_[^_]+_\d_\d+_\d+\.bvh"):
        return "beat"
    if has("*.bvh", r"\d{3}_[A-Za-z]+_\d+"):
        return "zeroeggs"
    if has("*.npz", r"\d+_[^_]+_\d_\d+_\d+\.npz"):
        return "beat2"
    if has("*.pkl"):
        return "show"
    raise ValueError(f"{folder} holds no BEAT, BEAT2, SHOW, TED or ZeroEGGS files that are known by their names")


@dataclass
class Report:
    """What a check found. `unusable` and `mended` name recordings and say why."""

    kind: str
    usable: int = 0
    seconds: float = 0.0
    splits: Counter[str] = field(default_factory=Counter)
    speakers: Counter[str] = field(default_factory=Counter)
    styles: Counter[str] = field(default_factory=Counter)
    unusable: list[tuple[str, str]] = field(default_factory=list)
    mended: list[tuple[str, str]] = field(default_factory=list)

    def text(self) -> str:
        """The report as lines to print."""

        def counted(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "-"

        lines = [
            f"{self.kind}: {self.usable} recordings usable ({self.seconds / 60:.1f} min), {len(self.unusable)} not,"
            f" {len({name for name, _ in self.mended})} with notes",
            f"splits: {counted(self.splits)}",
            f"speakers: {counted(self.speakers)}",
            f"styles: {counted(self.styles)}",
        ]
        lines += [f"unusable  {name}: {why}" for name, why in self.unusable]
        lines += [f"note      {name}: {why}" for name, why in self.mended]
        return "\n".join(lines)


def check(dataset: Dataset, progress: Callable[[str], None] | None = None) -> Report:
    """Load every recording once; nothing that is wrong with one stops the others."""
    report = Report(type(dataset).__name__, unusable=list(dataset.faults))
    for recording in dataset.recordings:
        if progress is not None:
            progress(recording.name)
        try:
            clip = dataset.load(recording)
        except (ValueError, OSError) as error:
            report.unusable.append((recording.name, str(error).removeprefix(f"{recording.name}: ")))
            continue
        report.usable += 1
        report.seconds += clip.duration_s
        report.splits[clip.split] += 1
        report.speakers[clip.speaker] += 1
        report.styles[clip.style] += 1
        report.mended += [(recording.name, note) for note in clip.notes]
    return report
