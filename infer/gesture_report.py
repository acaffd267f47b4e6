"""The table of a gesture evaluation: values of files brought together, intervals, and how it is written.

A cell is the mean of files weighted as the measure says (frames, seconds or audio beats), with the 95 % interval of
resampled files. FGD and latent diversity are of all files together and resampled by file. Cells that not all files
could fill say of how many they are; the files and reasons are listed below the table.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from infer.gesture_files import ROWS
from pose.metrics.arrays import Double
from pose.metrics.control import bootstrap_interval
from pose.metrics.diversity import latent_diversity
from pose.metrics.face import MOMENTS
from pose.metrics.frechet import frechet_distance, gaussian_distance
from pose.metrics.mixtures import wind
from pose.metrics.suite import AUDIO_MEASURES, FACE_STEP, MEASURES, Measure, Values

DRAWS = 300
INTERVALS = (
    f"[low, high]: 95 % bootstrap over files, {DRAWS} draws; (3/4): of four files three have a value. Bodies are on "
    "the home skeleton, at 30 and 15 fps: compare rows of this table. More and known faults: docs/METRICS.md"
)
WIND_WINDOWS = 2000  # that mixtures are fitted to, spread evenly; more cost minutes and change the third digit


@dataclass(frozen=True)
class Cell:
    """`value` with its interval, None for a single file, over `count` of `files`."""

    value: float
    interval: tuple[float, float] | None
    count: int
    files: int


@dataclass
class Table:
    """`cells` {(row, measure): Cell}; `excluded` {(row, measure): {reason: [files]}}; `broken` {file: reason}."""

    measures: list[Measure]
    rows: list[str]
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    excluded: dict[tuple[str, str], dict[str, list[str]]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def build(
    results: dict[str, dict[str, Values]], extractor: str | None, expression: str = MOMENTS, draws: int = DRAWS
) -> Table:
    """The table of files {name: {row: values}}; `extractor` and `expression` name the networks of FGD and its kin."""
    if not results:
        raise ValueError("no file could be measured")
    rows = [row for row in ROWS if any(row in result for result in results.values())]
    halves = "of the ground truth, one half of its files to the other"
    windows = f"Fréchet distance of windows of 34 frames at 15 fps to the true ones; {halves}"
    faces = f"the same of two seconds of 32 face coefficients, starts {FACE_STEP} frames apart at 60 fps"
    fits = "the same between mixtures of five Gaussians; mean of ten fits and two of their deviations"
    fgd = Measure(f"FGD({extractor})", "", "low", 3, windows)
    spread = Measure(f"diversity diffgesture({extractor})", "", "true", 2, "L1 of features to a permutation of them")
    face = Measure(f"expression FD({expression})", "", "low", 3, faces)
    moved = Measure(f"WInD({expression})", "", "low", 3, fits)
    table = Table([*([fgd, spread] if extractor else []), *MEASURES, face, moved], rows)
    for row in rows:
        files = {name: result[row] for name, result in results.items() if row in result}
        for measure in MEASURES:
            if row.endswith("other audio") and measure.name not in AUDIO_MEASURES:
                continue
            _mean(table, row, measure.name, files, draws)
        if row.endswith("other audio"):
            continue
        if extractor:
            _distance(table, row, fgd.name, "FGD", results, draws)
            own = _features(results, row, "FGD")
            if sum(map(len, own)) > 1:
                apart = latent_diversity(np.concatenate(own))
                table.cells[row, spread.name] = Cell(apart, None, len(own), len(results))
        sets = _distance(table, row, face.name, "expression FD", results, draws)
        if (row, face.name) in table.cells:
            _wind(table, row, moved.name, face.name, sets, len(results))
    return table


def _mean(table: Table, row: str, measure: str, files: dict[str, Values], draws: int) -> None:
    got = {name: values.values[measure] for name, values in files.items() if measure in values.values}
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, values in files.items():
        if measure in values.reasons:
            reasons[values.reasons[measure]].append(name)
    if reasons:
        table.excluded[row, measure] = dict(reasons)
    if not got:
        return
    value, weight = np.array(list(got.values()), float).T

    def mean(chosen: np.ndarray) -> float:
        return float((value[chosen] * weight[chosen]).sum() / weight[chosen].sum())

    interval = bootstrap_interval(len(value), mean, draws) if len(value) > 1 else None
    table.cells[row, measure] = Cell(mean(np.arange(len(value))), interval, len(value), len(files))


def _features(results: dict[str, dict[str, Values]], row: str, kind: str) -> list[Double]:
    """Of every file of a row that has them."""
    values = (result[row] for result in results.values() if row in result)
    return [part.features[kind] for part in values if kind in part.features]


def _distance(
    table: Table, row: str, name: str, kind: str, results: dict[str, dict[str, Values]], draws: int
) -> tuple[list[Double], list[Double]]:
    """The Fréchet distance of all files of a row to the true ones; returns the features of both, by file."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for file, result in results.items():
        if row in result and kind in result[row].reasons:
            reasons[result[row].reasons[kind]].append(file)
    own, true = _features(results, row, kind), _features(results, "ground truth", kind)
    files = len(own)
    if row == "ground truth":  # what the extractor gives to motion that is equally good: one half against the other
        own, true = own[::2], true[1::2]
    width = own[0].shape[1] if own else 0
    count = min(sum(map(len, own)), sum(map(len, true)))
    if own and not true:
        lonely = "one file only: nothing to compare it with" if row == "ground truth" else "no ground truth"
        reasons[lonely] = sorted(results)
    elif own and count <= width:
        reasons[f"{count} windows of two seconds are too few for {width} features"] = sorted(results)
    elif own:
        value = frechet_distance(np.concatenate(own), np.concatenate(true))
        sums = [[_sums(part) for part in parts] for parts in (own, true)]
        paired = len(own) == len(true) and row != "ground truth"

        def again(chosen: np.ndarray) -> float:
            other = np.random.default_rng(int(chosen.sum())).integers(len(true), size=len(true))
            rest = chosen if paired else other
            return gaussian_distance(*_moments([sums[0][i] for i in chosen]), *_moments([sums[1][i] for i in rest]))

        interval = bootstrap_interval(len(own), again, draws) if len(own) > 3 else None
        table.cells[row, name] = Cell(value, interval, files, len(results))
    if reasons:
        table.excluded[row, name] = dict(reasons)
    return own, true


def _wind(table: Table, row: str, name: str, face: str, sets: tuple[list[Double], list[Double]], files: int) -> None:
    """Mean of ten fits; the interval is two deviations of the fits, not of the files."""
    parts = [np.concatenate(part) for part in sets]
    made, true = (part[:: max(1, -(-len(part) // WIND_WINDOWS))] for part in parts)
    try:
        mean, deviation = wind(made, true)
    except ValueError as error:
        table.excluded[row, name] = {str(error): []}
        return
    table.cells[row, name] = Cell(
        mean, (mean - 2 * deviation, mean + 2 * deviation), table.cells[row, face].count, files
    )


def _sums(features: Double) -> tuple[int, Double, Double]:
    return len(features), features.sum(0), features.T @ features


def _moments(parts: list[tuple[int, Double, Double]]) -> tuple[Double, Double]:
    count = sum(part[0] for part in parts)
    mean = np.sum([part[1] for part in parts], axis=0) / count
    square = np.sum([part[2] for part in parts], axis=0)
    return mean, (square - count * np.outer(mean, mean)) / (count - 1)


def _shown(cell: Cell | None, measure: Measure) -> str:
    if cell is None:
        return "–"
    text = f"{cell.value:.{measure.digits}f}"
    if cell.interval:
        text += f" [{cell.interval[0]:.{measure.digits}f}, {cell.interval[1]:.{measure.digits}f}]"
    return text + (f" ({cell.count}/{cell.files})" if cell.count < cell.files else "")


def _lines(table: Table) -> list[list[str]]:
    arrow = {"low": "lower is better", "high": "higher is better", "true": "nearest to ground truth", "": ""}
    lines = [["measure", "unit", *table.rows, "direction"]]
    for measure in table.measures:
        cells = [table.cells.get((row, measure.name)) for row in table.rows]
        if any(cells):
            shown = [_shown(cell, measure) for cell in cells]
            lines.append([measure.name, measure.unit, *shown, arrow[measure.better]])
    return lines


def _by_reason(table: Table) -> dict[tuple[str, str], dict[str, list[str]]]:
    """{(measure, reason): {row: files}}."""
    grouped: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)
    for (row, measure), reasons in table.excluded.items():
        for reason, files in reasons.items():
            grouped[measure, reason][row] = files
    return grouped


def _below(table: Table, names: int = 4) -> list[str]:
    """Definitions, what was left out, and why."""
    shown = [m for m in table.measures if any(table.cells.get((row, m.name)) for row in table.rows)]
    lines = [f"{m.name}: {m.definition}" for m in shown]
    lines += [INTERVALS, *table.notes]
    lines += [f"broken: {name}: {why}" for name, why in table.broken.items()]
    for (measure, reason), rows in _by_reason(table).items():
        files = sorted({name for found in rows.values() for name in found})
        more = f" and {len(files) - names} more" if len(files) > names else ""
        where = "" if len(rows) == len(table.rows) else f" ({', '.join(rows)})"
        lines.append(f"no {measure}{where} of {len(files)}: {reason}: {', '.join(files[:names])}{more}")
    return lines


def terminal(table: Table) -> str:
    """Columns of text, then what was left out."""
    lines = _lines(table)
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    rows = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([rows[0], "-" * len(rows[0]), *rows[1:], "", *_below(table)])


def markdown(table: Table) -> str:
    """The same as Markdown."""
    lines = _lines(table)
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    rows.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join([*rows, "", *(f"- {line}" for line in _below(table))]) + "\n"


def write(folder: Path, table: Table) -> None:
    """table.md, table.csv (numbers), table.json (everything)."""
    (folder / "table.md").write_text(markdown(table), encoding="utf-8")
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["measure", "unit", "better", "row", "value", "low", "high", "files", "of"])
        for measure in table.measures:
            for row in table.rows:
                cell = table.cells.get((row, measure.name))
                if cell:
                    low, high = cell.interval or ("", "")
                    numbers = [cell.value, low, high, cell.count, cell.files]
                    writer.writerow([measure.name, measure.unit, measure.better, row, *numbers])
    cells: dict[str, dict[str, dict]] = {row: {} for row in table.rows}
    for (row, measure_name), cell in table.cells.items():
        cells[row][measure_name] = {
            "value": cell.value, "interval": cell.interval, "files": cell.count, "of": cell.files
        }  # fmt: skip
    excluded = [{"row": r, "measure": m, "reasons": reasons} for (r, m), reasons in table.excluded.items()]
    content = {"rows": cells, "excluded": excluded, "broken": table.broken, "notes": table.notes}
    (folder / "table.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
