"""Tables of video measures: what each column is, bootstrap intervals, and the ways to write them.

A row is a system (a folder of videos), the ground truth, or a system with another's audio. A cell is the mean over
files with its 95 % interval (percentile bootstrap over files, 1000 draws, seed 0) and the number of files where not
all could be measured. Files that were left out of a cell are listed by name with the reason.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TRUTH = "ground truth"
DRAWS = 1000
DETECTOR = (
    "Keypoints: MediaPipe 0.10.21 (one confidence for a whole hand). The papers' HKC, HKV and AKD use DWPose (one for "
    "each point) and publish no formula: compare rows of this table, not this table with theirs."
)


@dataclass(frozen=True)
class Column:
    """One measure. `better`: up, down, or none where neither end is good. `network`: whose weights it needs."""

    key: str
    title: str
    better: str
    definition: str
    network: str = ""
    digits: int = 3


COLUMNS = {
    "Picture": (
        Column("fid", "FID", "down", "Fréchet distance of frame features to those of the true videos", "fid", 2),
        Column("fvd", "FVD", "down", "the same of clips of 16 frames at 224 x 224, without overlap", "fvd", 2),
        Column("psnr", "PSNR dB", "up", "RGB, mean over frames that differ from the true video's", digits=2),
        Column("mse", "MSE", "down", "RGB of 255", digits=1),
        Column("mae", "MAE", "down", "RGB of 255", digits=2),
        Column("ssim", "SSIM", "up", "Gaussian window 11, sigma 1.5, whole windows, mean of RGB"),
        Column("ms_ssim", "MS-SSIM", "up", "five scales, Wang et al. 2003"),
        Column("lpips", "LPIPS", "down", "perceptual distance to the true frame", "lpips"),
    ),
    "Face and mouth": (
        Column("csim", "CSIM", "up", "mean cosine of face embeddings with the photo's", "arcface"),
        Column("drift", "drift", "down", "1 - cosine of the mean face embeddings of first and last minute (half "
               "of a video shorter than two)"),
        Column("sync_c", "Sync-C", "up", "SyncNet confidence of the first minute, MediaPipe face crops", "syncnet", 2),
        Column("sync_d", "Sync-D", "down", "SyncNet distance", "syncnet", 2),
        Column("lip_r", "lips r", "up", "correlation of mouth opening and loudness at lag 0, slow trends removed; "
               "coarse, read it against the row with another's audio"),
        Column("lip_best", "lips best r", "up", "the highest within 0.4 s"),
        Column("lip_lag", "lag ms", "none", "where that is; positive where the mouth is late", digits=0),
    ),
    "Hands": (
        Column("hkc", "HKC", "up", "mean hand confidence, both hands, all frames; not found counts 0"),
        Column("hkc_view", "HKC in view", "up", "only hands found or with the wrist in the picture"),
        Column("hkc_seen", "HKC seen", "up", "only hands found"),
        Column("hkv", "HKV px²", "none", "variance in time of hand points, mean of x and y; grows with the picture "
               "and with jitter", digits=1),
        Column("hkv_sw", "HKV sw²", "none", "the same in shoulder widths", digits=4),
        Column("akd", "AKD px", "down", "distance of body, hand and 68 face points to the true video's", digits=2),
        Column("akd_missed", "AKD missed", "down", "share of the true video's points that were not found"),
        Column("kpe_body", "body err sw", "down", "distance to the driving skeleton, shoulder widths", digits=4),
        Column("kpe_hands", "hands err sw", "down", "the same, hands", digits=4),
        Column("kpe_face", "face err sw", "down", "the same, face", digits=4),
    ),
    "Stillness": (
        Column("flicker", "flicker", "down", "|I[t-1] - 2 I[t] + I[t+1]| / 2 where nobody is, of 255"),
        Column("background", "background", "down", "change since the first frame where nobody is, of 255"),
    ),
}  # fmt: skip
ALL = {column.key: column for group in COLUMNS.values() for column in group}
ARROWS = {"up": " ↑", "down": " ↓", "none": ""}


@dataclass
class Cell:
    """Mean over `count` files, and its interval where there are two or more of them."""

    mean: float
    low: float | None
    high: float | None
    count: int


@dataclass
class Row:
    """One row: `files` {name: {metric: value}}, `excluded` {name: {metric: reason}}, `whole` {metric: value} of
    measures that exist for a whole set only (FID, FVD), `broken` {name: reason}, `notes` {name: remarks}."""

    label: str
    files: dict[str, dict[str, float]] = field(default_factory=dict)
    excluded: dict[str, dict[str, str]] = field(default_factory=dict)
    whole: dict[str, float] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def cell(self, key: str) -> Cell | None:
        """None where nothing was measured."""
        if key in self.whole:
            return Cell(self.whole[key], None, None, len(self.files))
        values = np.array([scores[key] for scores in self.files.values() if key in scores])
        return summary(values) if len(values) else None


def summary(values: np.ndarray) -> Cell:
    """Mean and percentile bootstrap interval of one value a file."""
    if not len(values) or np.isnan(values).any():
        raise ValueError(f"expected numbers, one a file, got {values}")
    mean = float(values.mean())
    if len(values) < 2 or not np.isfinite(values).all():
        return Cell(mean, None, None, len(values))
    draws = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return Cell(mean, float(low), float(high), len(values))


def title(column: Column, names: dict[str, str]) -> str:
    """The name of a column, with the weights that made it."""
    name = names.get("arcface", "pixels") if column.key == "drift" else names.get(column.network, "")
    return f"{column.title}{f' [{name}]' if name else ''}{ARROWS[column.better]}"


def tables(rows: list[Row], names: dict[str, str]) -> list[tuple[str, list[Column], list[list[str]]]]:
    """(title, columns, lines of cells) of each group that has any number; empty columns are left out."""
    found = []
    for group, columns in COLUMNS.items():
        used = [column for column in columns if any(row.cell(column.key) for row in rows)]
        lines = [[text(row.cell(column.key), column, len(row.files)) for column in used] for row in rows]
        if used:
            shown = [(row.label, line) for row, line in zip(rows, lines, strict=True) if any(c != "-" for c in line)]
            found.append((group, used, [[label, *line] for label, line in shown]))
    return found


def text(cell: Cell | None, column: Column, files: int) -> str:
    """How a cell is printed."""
    if cell is None:
        return "-"
    digits = column.digits
    shown = f"{cell.mean:.{digits}f}"
    if cell.low is not None:
        shown += f" [{cell.low:.{digits}f}, {cell.high:.{digits}f}]"
    return shown if cell.count == files else f"{shown} (n={cell.count})"


def markdown(rows: list[Row], names: dict[str, str], about: list[str]) -> str:
    """The whole report: tables, definitions, what was left out."""
    lines = ["# Video measures", ""]
    lines += [f"- {line}" for line in about]
    for group, columns, cells in tables(rows, names):
        lines += ["", f"## {group}", "", "| |" + "".join(f" {title(column, names)} |" for column in columns)]
        lines += ["|---" * (len(columns) + 1) + "|"]
        lines += ["| " + " | ".join(line) + " |" for line in cells]
        lines += ["", *(f"- {column.title}: {column.definition}." for column in columns)]
    lines += left_out(rows)
    return "\n".join(lines) + "\n"


def terminal(rows: list[Row], names: dict[str, str], about: list[str]) -> str:
    """The same as aligned columns."""
    lines = list(about)
    for group, columns, cells in tables(rows, names):
        grid = [[group, *(title(column, names) for column in columns)], *cells]
        widths = [max(len(line[k]) for line in grid) for k in range(len(grid[0]))]
        lines.append("")
        lines += [
            "  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in grid
        ]
    return "\n".join([*lines, *left_out(rows)])


def left_out(rows: list[Row]) -> list[str]:
    """Broken files, and measures that a file does not have: reasons first, files together."""
    lines = [f"- broken: {row.label}: {name}: {reason}" for row in rows for name, reason in row.broken.items()]
    for row in rows:
        reasons: dict[str, tuple[list[str], list[str]]] = {}
        for name, excluded in row.excluded.items():
            for key, reason in excluded.items():
                keys, files = reasons.setdefault(reason, ([], []))
                keys += [] if ALL[key].title in keys else [ALL[key].title]
                files += [] if name in files else [name]
        for reason, (keys, files) in reasons.items():
            which = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
            lines.append(
                f"- {row.label}: without {', '.join(keys)}: {len(files)} of {len(row.files)} ({which}): {reason}"
            )
    lines = ["", "Left out:", "", *lines] if lines else []
    told = [f"- {row.label}: {name}: {note}" for row in rows for name, notes in row.notes.items() for note in notes]
    return [*lines, "", "To know:", "", *told] if told else lines


def write(folder: Path, rows: list[Row], names: dict[str, str], about: list[str], settings: dict[str, Any]) -> None:
    """table.md, table.csv (one line a cell), files.csv (one line a file), results.json."""
    (folder / "table.md").write_text(markdown(rows, names, about), encoding="utf-8")
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "metric", "weights", "better", "mean", "low", "high", "files", "definition"])
        for row in rows:
            for key, column in ALL.items():
                cell = row.cell(key)
                if cell is not None:
                    weights = names.get(column.network, "")
                    writer.writerow(
                        [row.label, key, weights, column.better, *asdict(cell).values(), column.definition]
                    )
    with open(folder / "files.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "file", *ALL])
        for row in rows:
            for name, values in row.files.items():
                writer.writerow([row.label, name, *(values.get(key, "") for key in ALL)])
    document = {
        "about": about,
        "settings": settings,
        "columns": {key: asdict(column) for key, column in ALL.items()},
        "rows": [
            {**asdict(row), "cells": {key: asdict(cell) for key in ALL if (cell := row.cell(key)) is not None}}
            for row in rows
        ],
    }
    (folder / "results.json").write_text(json.dumps(_finite(document), indent=1, ensure_ascii=False), encoding="utf-8")


def _finite(value: Any) -> Any:
    """JSON has no infinity: PSNR of equal videos becomes the string "inf"."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
