"""What a run leaves on disk, written so that a kill or a full disk at any moment leaves the earlier parts whole.

A checkpoint is written under another name and renamed when it is whole. See `train.loop` for the folder's layout.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from train.config import differences, from_dict, save_config

# What may be different when a run is taken up again: it changes nothing that was learned.
CHANGEABLE = tuple(
    f"loop.{name}"
    for name in (
        "steps", "output", "workers", "accumulate", "log_every", "checkpoint_every", "keep_last", "videos",
        "videos_every", "video_seconds",
    )
)  # fmt: skip


class Averaged:
    """Exponential average of weights that `accelerate` saves and loads with the rest; inert with a decay of 0."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.decay = decay
        self.restart()

    def restart(self) -> None:
        """Begin anew from the weights as they are."""
        self.ema = EMAModel(self.parameters, decay=self.decay, use_ema_warmup=False) if self.decay else None

    def step(self) -> None:
        if self.ema is not None:
            self.ema.step(self.parameters)

    def __enter__(self) -> None:
        """Within the block the module has the averaged weights."""
        if self.ema is not None:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)

    def __exit__(self, *_: object) -> None:
        if self.ema is not None:
            self.ema.restore(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        """Whole weights, also where FSDP keeps a share on each process; all must call."""
        if self.ema is None:
            return {}
        state = self.ema.state_dict()
        state["shadow_params"] = [p.full_tensor() if isinstance(p, DTensor) else p for p in state["shadow_params"]]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.ema is not None:
            shares = [
                distribute_tensor(saved.to(own.device), own.device_mesh, own.placements)
                if isinstance(own, DTensor)
                else saved
                for saved, own in zip(state["shadow_params"], self.parameters, strict=True)
            ]
            self.ema.load_state_dict({**state, "shadow_params": shares})
            self.ema.to(self.parameters[0].device)


def plain_names(accelerator: Accelerator) -> None:
    """Have weights saved under the module's own names: DDP puts its own before them, which one process has not."""

    def save(models: list[nn.Module], weights: list[dict[str, Any]], folder: str) -> None:
        weights[:] = [{name.removeprefix("module."): x.contiguous() for name, x in state.items()} for state in weights]

    def load(models: list[nn.Module], folder: str) -> None:
        models[:] = [accelerator.unwrap_model(model) for model in models]

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


@contextlib.contextmanager
def whole_weights(module: nn.Module) -> Iterator[None]:
    """Within the block every process holds every weight, also where FSDP keeps a share on each. All must enter."""
    sharded = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in sharded:
        part.unshard()
    try:
        yield
    finally:
        for part in sharded:
            part.reshard()


def same_experiment(path: Path, config: Any) -> None:
    """Refuse to go on with a run under other settings than those it was begun with; note them if it is new."""
    if path.exists():
        begun = yaml.safe_load(path.read_text())
        with contextlib.suppress(ValueError):  # fields that are newer than the run have their defaults in it
            begun = asdict(from_dict(type(config), begun))
        changed = [key for key in differences(begun, asdict(config)) if key not in CHANGEABLE]
        if changed:
            raise ValueError(
                f"{path.parent} was begun with other settings ({', '.join(changed[:6])}); give the same ones to "
                "resume, or another loop.output to start anew"
            )
    save_config(path, config)


def last_checkpoint(output: Path) -> Path | None:
    """The newest whole checkpoint."""
    whole = sorted((output / "checkpoints").glob("step_*/training/state.json"))
    return whole[-1].parents[1] if whole else None


class Saving:
    """One checkpoint being written: `attempt` what it holds, then `finish`. Every process must do both.

    What a disk does not take is reported and leaves no trace, and training can go on.
    """

    def __init__(self, accelerator: Accelerator, output: Path, step: int) -> None:
        self.accelerator, self.output, self.step = accelerator, output, step
        self.folder = output / "checkpoints" / f"step_{step:08d}"
        self.part = self.folder.with_name(f".{self.folder.name}.part")
        self.well = True
        self.attempt(self._begin, first_only=True)

    def _begin(self, part: Path) -> None:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)

    def attempt(self, write: Callable[[Path], object], first_only: bool = False) -> None:
        """Call `write` with the folder, on the first process alone or on all; nothing once anything has failed."""
        error: Exception | None = None
        if self.well and (self.accelerator.is_main_process or not first_only):
            try:
                write(self.part)
            except (OSError, RuntimeError, SafetensorError) as problem:
                if not _of_the_disk(problem):
                    raise
                error = problem
        failed = torch.tensor(float(error is not None), device=self.accelerator.device)
        self.well = self.well and float(self.accelerator.reduce(failed, "sum")) == 0
        if error is not None:
            print(f"step {self.step}: the checkpoint could not be written ({error})", file=sys.stderr, flush=True)

    def finish(self, state: dict[str, Any]) -> bool:
        """Put the checkpoint in place, with `state` for whoever resumes; whether it is there."""
        self.attempt(lambda part: (part / "training" / "state.json").write_text(json.dumps(state)), first_only=True)
        if self.accelerator.is_main_process:
            if self.well:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.part.rename(self.folder)
                link(self.output / "last", self.folder)
            else:
                shutil.rmtree(self.part, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        return self.well


def _of_the_disk(error: Exception) -> bool:
    """Whether a disk that takes no more explains the error; torch and safetensors have no class for it."""
    text = str(error)
    return isinstance(error, OSError) or "os error" in text or "file write failed" in text or "unexpected pos" in text


def link(name: Path, target: Path) -> None:
    """Make `name` a link to `target`, at once."""
    part = name.with_name(f".{name.name}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(os.path.relpath(target, name.parent))
    part.replace(name)


def tidy(output: Path, keep: int) -> None:
    """Remove checkpoints that are neither among the last nor the best, and what a killed process left."""
    best = (output / "best").resolve()
    folders = sorted((output / "checkpoints").glob("step_*"))
    for folder in folders[:-keep]:
        if folder.resolve() != best:
            shutil.rmtree(folder)
    for part in (output / "checkpoints").glob(".*.part"):
        shutil.rmtree(part)


def forget_after(path: Path, step: int) -> None:
    """Leave out log lines of what will be done again; a half-written last line too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if 0 < step >= json.loads(line)["step"]:
                kept.append(line + "\n")
        except ValueError:
            continue
    part = path.with_name(f".{path.name}.part")
    part.write_text("".join(kept), encoding="utf-8")
    part.replace(path)
