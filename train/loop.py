"""One training loop for every trainer: prepare, accumulate, clip, step, average, log, validate, save, resume.

A trainer hands over one `Task`: a module whose forward gives the losses of a batch, and what to save. All that is
random is drawn after `torch.manual_seed` of (seed, step, micro-step, process), and batches are a function of
(seed, step): a run that was killed goes on as if it had not been. To resume, run the same command again.

    OUTPUT/config.yaml                      the resolved experiment
    OUTPUT/losses.jsonl                     one line a logged step
    OUTPUT/tensorboard/
    OUTPUT/checkpoints/step_00005000/       what `Task.save` writes, an inference folder; training/ beside it resumes
    OUTPUT/best, OUTPUT/last                links to checkpoints
    OUTPUT/videos/                          what `Task.show` writes
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from train.config import LoopConfig, differences, load_config, save_config

C = TypeVar("C")  # the configuration of one trainer

# What may be different when a run is taken up again: it changes nothing that was learned.
CHANGEABLE = tuple(
    f"loop.{name}"
    for name in ("steps", "output", "workers", "log_every", "keep_last", "videos", "videos_every", "video_seconds")
)


class Task(nn.Module):
    """What is trained. Everything with trained parameters is inside; frozen parts have requires_grad off."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars to log; "loss" is minimised."""
        raise NotImplementedError

    def trained(self) -> nn.Module:
        """The part whose weights are averaged and saved for inference."""
        raise NotImplementedError

    def after_step(self, step: int, batch: dict[str, Tensor]) -> None:
        """Called when the optimiser has stepped."""

    def save(self, folder: Path) -> None:
        """Write an inference folder, with the weights as they are now."""
        raise NotImplementedError

    def show(self, folder: Path, step: int) -> None:
        """Write something to look at."""


class StepBatches:
    """A batch sampler: batch n is a function of (seed, n) alone. Epochs are permutations; a rest is not dropped but
    joined to the next epoch."""

    def __init__(self, size: int, batch_size: int, batches: int, seed: int, first: int = 0) -> None:
        self.size, self.batch_size, self.batches, self.seed, self.first = size, batch_size, batches, seed, first

    def __len__(self) -> int:
        return max(self.batches - self.first, 0)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, np.zeros(0, int)
        for batch in range(self.first, self.batches):
            places = range(batch * self.batch_size, (batch + 1) * self.batch_size)
            chosen = []
            for place in places:
                if place // self.size != epoch:
                    epoch = place // self.size
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
                chosen.append(int(order[place % self.size]))
            yield chosen


class _Averaged:
    """Exponential average of weights that `accelerate` saves and loads with the rest; inert with a decay of 0."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.ema = EMAModel(self.parameters, decay=decay, use_ema_warmup=False) if decay else None

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
        return self.ema.state_dict() if self.ema is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.ema is not None:
            self.ema.load_state_dict(state)
            self.ema.to(self.parameters[0].device)


def train(config: Any, task: Task, training: Dataset, validation: Dataset) -> Path:
    """Train and return the folder of the best checkpoint. `config` is the whole experiment, with a `loop` section."""
    loop: LoopConfig = config.loop
    output = Path(loop.output)
    output.mkdir(parents=True, exist_ok=True)
    _same_experiment(output / "config.yaml", config)

    # 1. Prepare
    accelerator = Accelerator(
        gradient_accumulation_steps=loop.accumulate,
        mixed_precision=loop.precision,
        log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(output), logging_dir=str(output)),
        step_scheduler_with_optimizer=False,
    )
    parameters = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, loop.learning_rate, loop.betas, weight_decay=loop.weight_decay)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, loop))
    averaged = _Averaged(task.trained(), loop.ema)
    module, optimizer, rate = accelerator.prepare(task, optimizer, rate)
    if averaged.ema is not None:
        averaged.ema.to(accelerator.device)
    accelerator.register_for_checkpointing(averaged)
    accelerator.init_trackers("tensorboard")

    # 2. Resume
    start, best, sums = 0, math.inf, dict[str, float]()
    last = _last_checkpoint(output)
    if last is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            accelerator.load_state(str(last / "training"))
        state = json.loads((last / "training" / "state.json").read_text())
        start, best, sums = state["step"], state["best"], state["sums"]
    if accelerator.is_main_process:
        _forget_after(output / "losses.jsonl", start)
        print(f"{output}: {'resuming at' if start else 'starting at'} step {start} of {loop.steps}", flush=True)
    size = len(training)  # type: ignore[arg-type]
    processes = accelerator.num_processes
    micro = loop.accumulate * processes
    sampler = StepBatches(size, loop.batch_size, loop.steps * micro, loop.seed, start * micro)
    loader = DataLoader(training, batch_sampler=sampler, num_workers=loop.workers)
    loader = accelerator.prepare(loader)
    batches = iter(loader)

    if start == 0:
        with averaged:
            values = _validate(accelerator, module, validation, loop)
        _log(accelerator, output, 0, {f"validation/{name}": value for name, value in values.items()})

    # 3. Train
    began, began_step = time.monotonic(), start
    for step in range(start, loop.steps):
        module.train()
        for part in range(loop.accumulate):
            batch = next(batches)
            torch.manual_seed(_seed_of(loop.seed, step, part, accelerator.process_index))
            with accelerator.accumulate(module):
                losses = module(batch)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients and loop.clip:
                    sums["gradient"] = sums.get("gradient", 0.0) + float(
                        accelerator.clip_grad_norm_(parameters, loop.clip)
                    )
                optimizer.step()
                optimizer.zero_grad()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / loop.accumulate
        rate.step()
        averaged.step()
        done = step + 1
        task.after_step(done, batch)
        if not math.isfinite(sums["loss"]):
            raise ValueError(f"the loss is {sums['loss']} at step {done}; lower loop.learning_rate")

        # 4. Log
        if done % loop.log_every == 0 or done == loop.steps:
            count = (done - 1) % loop.log_every + 1
            means = {name: value / count for name, value in sums.items()}
            means["rate"] = float(rate.get_last_lr()[0])
            _log(accelerator, output, done, means)
            if accelerator.is_main_process:
                pace = (done - began_step) / (time.monotonic() - began)
                print(f"step {done}: loss {means['loss']:.5f}, {pace:.2f} steps a second", flush=True)
            sums = {}

        # 5. Validate and save
        if done % loop.checkpoint_every == 0 or done == loop.steps:
            with averaged:
                values = _validate(accelerator, module, validation, loop)
                _log(accelerator, output, done, {f"validation/{name}": value for name, value in values.items()})
                is_best = values["loss"] <= best
                best = min(best, values["loss"])
                folder = output / "checkpoints" / f"step_{done:08d}"
                part_folder = folder.with_name(f".{folder.name}.part")
                if accelerator.is_main_process:
                    print(f"step {done}: validation loss {values['loss']:.5f}{' (best)' * is_best}", flush=True)
                    shutil.rmtree(part_folder, ignore_errors=True)
                    part_folder.mkdir(parents=True)
                    task.save(part_folder)
            accelerator.wait_for_everyone()
            accelerator.save_state(str(part_folder / "training"))
            if accelerator.is_main_process:
                state = {"step": done, "best": best, "loss": values["loss"], "sums": sums}
                (part_folder / "training" / "state.json").write_text(json.dumps(state))
                shutil.rmtree(folder, ignore_errors=True)
                part_folder.rename(folder)
                _link(output / "last", folder)
                if is_best:
                    _link(output / "best", folder)
                _tidy(output, loop.keep_last)
                if loop.videos and (done == loop.steps or _crossed(done, loop.checkpoint_every, loop.videos_every)):
                    with averaged:
                        (output / "videos").mkdir(exist_ok=True)
                        task.show(output / "videos", done)
            accelerator.wait_for_everyone()
    accelerator.end_training()
    return (output / "best").resolve()


@torch.no_grad()
def _validate(accelerator: Accelerator, module: nn.Module, data: Dataset, loop: LoopConfig) -> dict[str, float]:
    """Mean losses over the same validation batches with the same noise every time, on every process alike."""
    assert isinstance(data, Sized)
    if not len(data):
        raise ValueError("there is no validation clip; the data needs recordings of the split val")
    module.eval()
    count = min(loop.validation_batches, math.ceil(len(data) / loop.batch_size))
    total: dict[str, float] = {}
    weight = 0
    spread = np.random.default_rng(loop.seed).permutation(len(data))[: count * loop.batch_size]
    for part in range(count):
        chosen = spread[part * loop.batch_size : (part + 1) * loop.batch_size]
        items = [data[int(index)] for index in chosen]
        batch = torch.utils.data.default_collate(items)
        batch = {name: value.to(accelerator.device) for name, value in batch.items()}
        torch.manual_seed(_seed_of(loop.seed, 0, part, 1 << 20))
        for name, value in module(batch).items():
            total[name] = total.get(name, 0.0) + float(value) * len(chosen)
        weight += len(chosen)
    return {name: value / weight for name, value in total.items()}


def _rate(step: int, loop: LoopConfig) -> float:
    """Share of the learning rate at a step."""
    rise = min((step + 1) / (loop.warmup + 1), 1.0)
    fall = 0.5 * (1 + math.cos(math.pi * min(step / loop.steps, 1.0))) if loop.decay == "cosine" else 1.0
    return rise * fall


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _log(accelerator: Accelerator, output: Path, step: int, values: dict[str, float]) -> None:
    accelerator.log(values, step=step)
    if accelerator.is_main_process:
        with open(output / "losses.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def _forget_after(path: Path, step: int) -> None:
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
    path.write_text("".join(kept), encoding="utf-8")


def _same_experiment(path: Path, config: Any) -> None:
    """Refuse to go on with a run under other settings than those it was begun with."""
    if path.exists():
        from dataclasses import asdict

        changed = [
            key for key in differences(yaml.safe_load(path.read_text()), asdict(config)) if key not in CHANGEABLE
        ]
        if changed:
            raise ValueError(
                f"{path.parent} was begun with other settings ({', '.join(changed[:6])}); give the same ones to "
                "resume, or another loop.output to start anew"
            )
    save_config(path, config)


def _last_checkpoint(output: Path) -> Path | None:
    whole = sorted((output / "checkpoints").glob("step_*/training/state.json"))
    return whole[-1].parents[1] if whole else None


def _link(link: Path, target: Path) -> None:
    part = link.with_name(f".{link.name}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(os.path.relpath(target, link.parent))
    part.replace(link)


def _tidy(output: Path, keep: int) -> None:
    """Remove checkpoints that are neither among the last nor the best, and what a killed process left."""
    best = (output / "best").resolve()
    folders = sorted((output / "checkpoints").glob("step_*"))
    for folder in folders[:-keep]:
        if folder.resolve() != best:
            shutil.rmtree(folder)
    for part in (output / "checkpoints").glob(".*.part"):
        shutil.rmtree(part)


def _crossed(step: int, every: int, period: int) -> bool:
    return period > 0 and step // period > (step - every) // period


def say(text: str) -> None:
    """Print once, however many processes train."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(text, flush=True)


def fail(error: ValueError) -> int:
    """One line for the person at the keyboard."""
    print(f"error: {error}", file=sys.stderr)
    return 2


def command(help_text: str | None, config_class: type[C], run: Callable[[C], Path], argv: list[str] | None) -> int:
    """A trainer's command line, CONFIG.yaml [key=value ...]; exit code 0, or 2 with one line of what was refused."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text)
        return 0 if arguments else 2
    try:
        best = run(load_config(config_class, arguments[0], arguments[1:]))
    except ValueError as error:
        return fail(error)
    say(f"best checkpoint: {best}")
    return 0
