"""Experiment files: YAML over frozen dataclasses, changed by `key=value` on the command line.

    accelerate launch train/gesture.py configs/gesture_holistic.yaml preset=small loop.steps=2000

A file holds choices; defaults and their reasons are in the dataclass. Its section `presets` holds named sets of
choices, of which `preset=NAME` applies one. Keys are paths with dots; for an unknown one the nearest is named.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

Config = TypeVar("Config")

OPTIMIZERS = ("adamw", "adamw8bit", "muon")


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train; see `train.loop`. Steps are optimiser steps."""

    output: str = "out/run"
    steps: int = 100_000
    batch_size: int = 128  # samples of a step, over all processes and micro-steps
    accumulate: int = 1  # micro-steps that a step is cut into: less memory, the same result
    optimizer: str = "adamw"  # or "adamw8bit", which needs bitsandbytes, or "muon"; see train/optimizers.py
    learning_rate: float = 3e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: int = 0  # steps of linear rise
    decay: str = "constant"  # or "cosine", to 0 at the last step
    clip: float = 1.0  # norm of the gradient; 0 for none
    ema: float = 0.999  # decay of the averaged weights, which are what is saved for inference; 0 for none
    precision: str = "no"  # no, fp16, bf16
    seed: int = 0
    workers: int = 0  # processes that read samples, for each process that trains
    log_every: int = 50
    checkpoint_every: int = 5_000  # validate and save
    keep_last: int = 2  # checkpoints beside the best one
    validation_batches: int = 16
    videos: int = 2  # videos of validation clips; 0 for none
    videos_every: int = 20_000  # steps; rounded up to checkpoints
    video_seconds: float = 8.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep_last"):
            if getattr(self, name) < 1:
                raise ValueError(f"loop.{name} must be at least 1, got {getattr(self, name)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"loop.optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if self.precision not in ("no", "fp16", "bf16"):
            raise ValueError(f"loop.precision must be no, fp16 or bf16, got {self.precision!r}")
        if self.decay not in ("constant", "cosine"):
            raise ValueError(f"loop.decay must be constant or cosine, got {self.decay!r}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"loop.ema must be from 0 to below 1, got {self.ema}")


def load_config(kind: type[Config], path: str | Path, changes: Sequence[str] = ()) -> Config:
    """The experiment in a YAML file with `key=value` changes; ValueError with one line when something does not fit."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ValueError(f"no experiment file {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold keys and values, got {type(content).__name__}")
    content = _placed(content, Path(path))
    presets = content.pop("presets", {}) or {}
    pairs = []
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise ValueError(f"changes are written key=value, got {change!r}")
        if key == "preset":
            if value not in presets:
                raise ValueError(f"unknown preset {value!r} in {path}; it has {', '.join(presets) or 'none'}")
            content = _merged(content, presets[value])
            continue
        pairs.append((key, yaml.safe_load(value)))
    for key, value in pairs:
        content = _merged(content, _nested(key.split("."), value))
    return from_dict(kind, content)


def _placed(content: Any, path: Path) -> Any:
    """The values of a configuration file, its descriptions of models (`….yaml`) found from any directory.

    One that is not there from the working directory is looked for from the folder above the file's: the repository,
    for files in configs/.
    """
    if isinstance(content, Mapping):
        return {key: _placed(value, path) for key, value in content.items()}
    if isinstance(content, str) and content.endswith(".yaml") and not Path(content).is_file():
        beside = path.resolve().parents[1] / content
        return str(beside) if beside.is_file() else content
    return content


def from_dict(kind: type[Config], content: Mapping[str, Any], where: str = "") -> Config:
    """A dataclass of plain values, checked by name and type, inner ones too."""
    types_of = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in content:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, 1, 0.5)
            hint = f"; did you mean {where}{nearest[0]}?" if nearest else f"; known are {', '.join(known)}"
            raise ValueError(f"unknown key {where}{key}{hint}")
    values = {key: _checked(value, types_of[key], where + key) for key, value in content.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{where or 'the experiment'}: {error}") from None


def save_config(path: Path, config: Any) -> None:
    """The resolved experiment as YAML."""
    path.write_text(yaml.safe_dump(_plain(asdict(config)), sort_keys=False), encoding="utf-8")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """Paths of the values in which two resolved experiments differ."""
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{where}{key}.")
        elif _plain(a) != _plain(b):
            found.append(where + str(key))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nested(keys[1:], value)}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(old)
    for key, value in new.items():
        inner = both.get(key)
        both[key] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both


def _checked(value: Any, wanted: Any, where: str) -> Any:
    """`value` as the annotated type; YAML's 1e-4 is text and becomes a number."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _checked(value, next(inner for inner in arguments if inner is not type(None)), where)
    if is_dataclass(wanted) and isinstance(value, Mapping):
        return from_dict(typing.cast(type, wanted), value, where + ".")
    if origin is tuple and isinstance(value, list | tuple):
        inner = arguments[0]
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ValueError(f"{where} must hold {len(arguments)} values, got {value!r}")
        return tuple(_checked(part, inner, where) for part in value)
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if wanted is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    if wanted is str and isinstance(value, bool):  # YAML reads a bare no or yes so
        return "yes" if value else "no"
    if wanted is str and isinstance(value, int | float):
        return str(value)
    if isinstance(wanted, type) and isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    name = getattr(wanted, "__name__", str(wanted))
    raise ValueError(f"{where} must be {name}, got {value!r}")
