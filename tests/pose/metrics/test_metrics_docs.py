"""The docs say where each measure is: what METRICS.md and METRICS_VIDEO.md name must exist, with these arguments."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"
PLACES = {"METRICS.md": "pose.metrics.{}", "METRICS_VIDEO.md": "avatar.metrics.{}"}
# `module.name(arguments)`, or a whole path of ours.
NAMED = re.compile(r"`((?:pose|avatar)\.metrics\.)?([a-z_0-9]+)\.([A-Za-z_0-9]+)(?:\(([a-z_0-9, ]*)\))?")


def rows(page: str) -> list[str]:
    """Lines of the table that has a column of functions."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("| measure | function |"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append(line)
    return table


@pytest.mark.parametrize("page", sorted(PLACES))
def test_named_functions_exist_with_their_arguments(page):
    found = 0
    for row in rows(page):
        for place, module, name, arguments in NAMED.findall(row.split(" | ")[1]):
            path = f"{place}{module}" if place else PLACES[page].format(module)
            try:
                holder = importlib.import_module(path)
            except ModuleNotFoundError:
                continue  # `encoder.features`: a variable
            thing = getattr(holder, name)
            known = set(inspect.signature(thing).parameters)
            assert set(filter(None, arguments.split(", "))) <= known, f"{name}({arguments}) in {page}"
            found += 1
    assert found >= 10


def test_variants_are_the_documented_ones():
    from pose.metrics import beats, direction_beats, face, frechet

    table = "\n".join(rows("METRICS.md"))
    for variants in (
        frechet.VARIANTS, beats.EULER_VARIANTS, beats.POSITION_VARIANTS, direction_beats.VARIANTS, face.LVD_VARIANTS
    ):  # fmt: skip
        assert all(f"`{variant}`" in table for variant in variants)
