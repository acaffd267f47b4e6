"""Praat TextGrid files: which word (or phone) is spoken when.

Praat reads its text files as a stream of free-standing numbers, quoted strings and <flags>; everything else in them
is comment. Reading them the same way takes the long and the short form alike, in UTF-8 or UTF-16.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# A quoted string ("" inside is one quote), a <flag>, or a number that stands alone: not the 1 of "item [1]:".
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(<\w+>)|(?<![^\s])([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![^\s])')
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Interval(NamedTuple):
    """A stretch of time, seconds, and what is in it; `text` is empty in silence."""

    start: float
    end: float
    text: str


def read_textgrid(path: str | Path) -> dict[str, tuple[Interval, ...]]:
    """{tier: intervals} in the order of the file; a point tier gives intervals without length. ValueError if broken.

    Tiers of one name are told apart as name, name (2), …
    """
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    text = data.decode(encoding, errors="replace")
    tokens = [match.groups() for match in _TOKEN.finditer(text)]
    position = 0

    def take(kind: int, what: str) -> str:
        nonlocal position
        if position >= len(tokens):
            raise ValueError(f"{path} is cut off: {what} is missing")
        token = tokens[position]
        position += 1
        if token[kind] is None:
            found = next(part for part in token if part is not None)
            raise ValueError(f"{path}: {what} expected, got {found!r}")
        return token[kind].replace('""', '"')

    def number(what: str) -> float:
        return float(take(2, what))

    def count(what: str) -> int:
        value = number(what)
        if value != int(value) or value < 0:
            raise ValueError(f"{path}: {what} must be a whole number, got {value:g}")
        return int(value)

    if "ooTextFile" not in text[:64] or "TextGrid" not in text[:128]:
        raise ValueError(f"{path} is no TextGrid in text form; save it from Praat as a text file")
    take(0, "file type"), take(0, "object class")
    number("start"), number("end")
    tiers: dict[str, tuple[Interval, ...]] = {}
    if take(1, "<exists>") != "<exists>":
        return tiers
    for _ in range(count("number of tiers")):
        kind, name = take(0, "class of a tier"), take(0, "name of a tier")
        number("start of a tier"), number("end of a tier")
        intervals = []
        for _ in range(count(f"number of intervals of tier {name!r}")):
            start = number("start of an interval")
            end = number("end of an interval") if kind == "IntervalTier" else start
            intervals.append(Interval(start, end, " ".join(take(0, "text of an interval").split())))
        if any(b < a or not math.isfinite(b) for a, b, _ in intervals):
            raise ValueError(f"{path}: tier {name!r} has an interval that ends before it starts")
        key, copy = name, 1
        while key in tiers:
            copy += 1
            key = f"{name} ({copy})"
        tiers[key] = tuple(intervals)
    return tiers


def write_textgrid(path: str | Path, tiers: Mapping[str, Sequence[Interval]], duration_s: float) -> None:
    """Write interval tiers in the long form; the gaps between intervals are filled with empty ones."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {duration_s:.6f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        filled, time = [], 0.0
        for interval in sorted(intervals):
            if interval.start < time - 1e-6 or interval.end > duration_s + 1e-6:
                raise ValueError(
                    f"tier {name!r}: {interval} overlaps its neighbour or passes the end {duration_s:g} s"
                )
            if interval.start > time + 1e-6:
                filled.append(Interval(time, interval.start, ""))
            filled.append(interval)
            time = interval.end
        if time < duration_s - 1e-6:
            filled.append(Interval(time, duration_s, ""))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {duration_s:.6f}", f"        intervals: size = {len(filled)}"]
        for place, (start, end, text) in enumerate(filled, 1):
            lines += [f"        intervals [{place}]:", f"            xmin = {start:.6f}"]
            lines += [f"            xmax = {end:.6f}", f"            text = {_quoted(text)}"]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
