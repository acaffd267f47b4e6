"""Weights that come with the package: avatar/weights/NAME, written as shipped:NAME."""

from __future__ import annotations

import json
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = "shipped:"


def located(source: str) -> str:
    """A folder or hub id as it is; what ships with the package by its name, ValueError where there is none."""
    if not source.startswith(SHIPPED):
        return source
    folder = WEIGHTS / source.removeprefix(SHIPPED)
    if not folder.is_dir():
        known = sorted(path.name for path in WEIGHTS.glob("*") if path.is_dir())
        raise ValueError(f"no weights {source!r} come with this package; it has {', '.join(known) or 'none'}")
    return str(folder)


def holds_layer_chooser(folder: str | Path) -> bool:
    """Whether a folder holds a layer chooser (train/layer_choice.py) rather than a pipeline."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("_class_name") == "LayerChooser"
