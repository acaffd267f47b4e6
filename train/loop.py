"""One training loop for every trainer: prepare, accumulate, clip, step, average, log, validate, save, resume.

A trainer hands over one `Task`: a module whose forward gives the losses of a batch, and what to save. Which samples a
step learns from and their random numbers are functions of (seed, step) alone (`train.batches`), so a run that was
killed goes on as if it had not been, also on another number of processes. To resume, run the same command again.

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
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset, default_collate

from avatar.build import fast_dtype
from train.batches import Sampled, StepBatches, seed_of
from train.checkpoints import (
    Averaged,
    Saving,
    forget_after,
    last_checkpoint,
    link,
    plain_names,
    same_experiment,
    tidy,
    whole_weights,
)
from train.config import LoopConfig, load_config
from train.optimizers import make_optimizer

C = TypeVar("C")  # the configuration of one trainer


class Task(nn.Module):
    """What is trained. Everything with trained parameters is inside; frozen parts have requires_grad off."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars to log, each the mean of a value of every sample; "loss" is minimised.

        A mean over some of the samples only (those at low noise, say) is given as two numbers, sum and count.
        `batch["draw"]` (B,) seeds `train.batches.Draws`: noise that does not depend on the number of processes.
        """
        raise NotImplementedError

    def trained(self) -> nn.Module:
        """The part whose weights are averaged and saved for inference."""
        raise NotImplementedError

    def watched(self) -> dict[str, list[nn.Parameter]]:
        """Parts whose gradient norms are logged under their names."""
        return {}

    def edges(self) -> list[nn.Parameter]:
        """Weights that read the input or give the output, which Muon leaves to AdamW."""
        return []

    def estimate(self) -> bool:
        """Set, before the first step, what is computed from the data instead of learned; whether there is any."""
        return False

    def after_step(self, step: int, batch: dict[str, Tensor]) -> None:
        """Called when the optimiser has stepped."""

    def save(self, folder: Path) -> None:
        """Write an inference folder, with the weights as they are now."""
        raise NotImplementedError

    def show(self, folder: Path, step: int) -> dict[str, NDArray[np.uint8]] | None:
        """Write something to look at; pictures (H, W, 3) that are returned are logged under their names."""


class Sums:
    """Means of named values over steps, samples and processes."""

    def __init__(self, state: dict[str, list[float]] | None = None) -> None:
        self.state = dict(state or {})

    def add(self, name: str, value: float, count: float = 1.0) -> None:
        total = self.state.setdefault(name, [0.0, 0.0])
        total[0] += value
        total[1] += count

    def add_all(self, values: dict[str, Tensor], weight: int = 1) -> None:
        """What `Task.forward` gives, of a batch that weighs `weight`."""
        numbers = iter(torch.cat([v.detach().float().flatten() for v in values.values()]).tolist())  # one transfer
        for name, value in values.items():
            if value.numel() == 1:
                self.add(name, next(numbers) * weight, weight)
            else:
                self.add(name, next(numbers), next(numbers))

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Over all processes; a name without samples is left out. Every process must call."""
        names = sorted(self.state)
        numbers = torch.tensor([self.state[name] for name in names], dtype=torch.float64).reshape(len(names), 2)
        numbers = numbers.float().to(accelerator.device)  # some devices have no float64
        totals = accelerator.reduce(numbers, "sum").tolist()
        return {name: total / count for name, (total, count) in zip(names, totals, strict=True) if count}


def usable_precision(wanted: str) -> str:
    """`loop.precision`, or "no" where bf16 would run on a processor that is many times slower with it."""
    # Not by accelerate's state: made before the Accelerator, it would not know of other processes on CPUs.
    elsewhere = torch.cuda.is_available() or torch.backends.mps.is_available()
    if wanted != "bf16" or elsewhere or fast_dtype("cpu") is torch.bfloat16:
        return wanted
    if os.environ.get("RANK", "0") == "0":
        print("this processor has no bfloat16 arithmetic: float32 is used, which is faster here", flush=True)
    return "no"


def train(config: Any, task: Task, training: Dataset, validation: Dataset) -> Path:
    """Train and return the folder of the best checkpoint. `config` is the whole experiment, with a `loop` section."""
    loop: LoopConfig = config.loop
    output = Path(loop.output)
    output.mkdir(parents=True, exist_ok=True)
    same_experiment(output / "config.yaml", config)

    # 1. Prepare
    accelerator = Accelerator(
        gradient_accumulation_steps=loop.accumulate,
        mixed_precision=usable_precision(loop.precision),
        log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(output), logging_dir=str(output)),
        step_scheduler_with_optimizer=False,
    )
    if not len(validation):  # type: ignore[arg-type]
        raise ValueError("there is no validation clip; the data needs recordings of the split val")
    data = Sampled(training, loop.seed)
    share = accelerator.process_index, accelerator.num_processes
    StepBatches(data.groups, loop.batch_size, 0, loop.seed, 0, loop.accumulate, *share)  # before anything is begun
    if accelerator.state.deepspeed_plugin is not None:
        micro_batch = loop.batch_size // (loop.accumulate * accelerator.num_processes)
        accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = micro_batch
    parameters = [p for p in task.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters, loop, task.edges())
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, loop))
    module, optimizer, rate = accelerator.prepare(task, optimizer, rate)
    averaged = Averaged(task.trained(), loop.ema)
    parameters = [p for p in module.parameters() if p.requires_grad]
    accelerator.register_for_checkpointing(averaged)
    plain_names(accelerator)
    accelerator.init_trackers("tensorboard")

    # 2. Resume
    start, best, sums, saved = 0, math.inf, Sums(), True
    last = last_checkpoint(output)
    if last is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            accelerator.load_state(str(last / "training"))
        accelerator.step = 0  # of micro-steps, which may be others now
        state = json.loads((last / "training" / "state.json").read_text())
        start, best, sums = state["step"], state["best"], Sums(state["sums"])
    if accelerator.is_main_process:
        forget_after(output / "losses.jsonl", start)
        print(f"{output}: {'resuming at' if start else 'starting at'} step {start} of {loop.steps}", flush=True)
    batches = StepBatches(data.groups, loop.batch_size, loop.steps, loop.seed, start, loop.accumulate, *share)
    loader = DataLoader(data, batch_sampler=batches, num_workers=loop.workers, pin_memory=torch.cuda.is_available())
    source = iter(loader)

    if start == 0:
        for name in ("validation", "estimated"):  # as built, then with what the data alone says
            if name == "estimated" and not task.estimate():
                break
            values = _validate(accelerator, module, validation, loop)
            _log(accelerator, output, 0, {f"{name}/{part}": value for part, value in values.items()})
            if accelerator.is_main_process:
                print(f"step 0: {name} loss {values['loss']:.5f}", flush=True)
        averaged.restart()

    # 3. Train
    began, began_step = time.monotonic(), start
    for step in range(start, loop.steps):
        module.train()
        step_began, waited = time.perf_counter(), 0.0
        for part in range(loop.accumulate):
            asked = time.perf_counter()
            batch = _to(accelerator.device, next(source))
            waited += time.perf_counter() - asked
            torch.manual_seed(seed_of(loop.seed, step, part, accelerator.process_index))  # for dropout
            with accelerator.accumulate(module):
                losses = module(batch)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients:
                    for name, watched in task.watched().items() if (step + 1) % loop.log_every == 0 else ():
                        sums.add(f"gradient/{name}", _norm(watched))
                    norm = accelerator.clip_grad_norm_(parameters, loop.clip or math.inf)
                    sums.add("gradient", 0.0 if norm is None else float(norm), float(norm is not None))
                optimizer.step()
                optimizer.zero_grad()
            sums.add_all(losses)
        rate.step()
        averaged.step()
        done = step + 1
        task.after_step(done, batch)
        taken = time.perf_counter() - step_began
        sums.add("speed/seconds_a_step", taken)
        sums.add("speed/data_wait", waited, taken)  # share of the time
        if not math.isfinite(sums.state["loss"][0]):
            raise ValueError(f"the loss is {sums.state['loss'][0]} at step {done}; lower loop.learning_rate")

        # 4. Log
        if done % loop.log_every == 0 or done == loop.steps:
            means = sums.means(accelerator)
            means |= {"rate": float(rate.get_last_lr()[0]), "samples": float(done * loop.batch_size)}
            _log(accelerator, output, done, means)
            if accelerator.is_main_process:
                pace = (done - began_step) / (time.monotonic() - began)
                waits = f"waiting for data {means['speed/data_wait']:.1%}"
                print(f"step {done}: loss {means['loss']:.5f}, {pace:.2f} steps a second, {waits}", flush=True)
            sums = Sums()

        # 5. Validate and save
        if done % loop.checkpoint_every == 0 or done == loop.steps:
            with averaged:
                values = _validate(accelerator, module, validation, loop)
            _log(accelerator, output, done, {f"validation/{name}": value for name, value in values.items()})
            is_best = values["loss"] <= best
            best = min(best, values["loss"])
            if accelerator.is_main_process:
                print(f"step {done}: validation loss {values['loss']:.5f}{' (best)' * is_best}", flush=True)
            saving = Saving(accelerator, output, done)
            with averaged, whole_weights(module):
                saving.attempt(task.save, first_only=True)
            saving.attempt(lambda part: accelerator.save_state(str(part / "training")))
            saved = saving.finish({"step": done, "best": best, "loss": values["loss"], "sums": sums.state})
            if accelerator.is_main_process and saved:
                if is_best:
                    link(output / "best", saving.folder)
                tidy(output, loop.keep_last)
            if loop.videos and (done == loop.steps or _crossed(done, loop.checkpoint_every, loop.videos_every)):
                with averaged:
                    _show(accelerator, task, output / "videos", done)
            accelerator.wait_for_everyone()
    # What talks to the other processes goes while they are all there: freed later, it may wait for one that has left.
    del module, optimizer, rate
    accelerator.free_memory()
    accelerator.wait_for_everyone()
    accelerator.end_training()
    if not saved:
        raise ValueError(
            f"the last checkpoint could not be written to {output}; free space and run the same command again: it "
            "goes on from the one before"
        )
    return (output / "best").resolve()


@torch.no_grad()
def _validate(accelerator: Accelerator, module: nn.Module, validation: Any, loop: LoopConfig) -> dict[str, float]:
    """Mean losses over the same validation samples with the same noise every time, shared out among the processes."""
    module.eval()
    data = Sampled(validation, seed_of(loop.seed, 1 << 20))
    spread = np.random.default_rng(loop.seed).permutation(len(data))[: loop.validation_batches * loop.batch_size]
    micro = loop.batch_size // (loop.accumulate * accelerator.num_processes)
    groups = data.groups
    batches: list[list[tuple[int, int]]] = []
    for group in sorted({groups[int(index)] for index in spread}, key=str):
        chosen = [(int(index), place) for place, index in enumerate(spread) if groups[int(index)] == group]
        batches += [chosen[begin : begin + micro] for begin in range(0, len(chosen), micro)]
    sums = Sums()
    for turn in range(-(-len(batches) // accelerator.num_processes)):
        number = turn * accelerator.num_processes + accelerator.process_index
        chosen = batches[min(number, len(batches) - 1)]  # FSDP wants every process in every forward
        batch = _to(accelerator.device, default_collate([data[one] for one in chosen]))
        torch.manual_seed(seed_of(loop.seed, 0, number, 1 << 20))
        losses = module(batch)
        if number < len(batches):
            sums.add_all(losses, len(chosen))
    return sums.means(accelerator)


def _show(accelerator: Accelerator, task: Task, folder: Path, step: int) -> None:
    """Videos and pictures on the first process. Not under FSDP, where a forward needs all of them."""
    if not accelerator.is_main_process or any(isinstance(part, FSDPModule) for part in task.modules()):
        return
    try:
        folder.mkdir(exist_ok=True)
        pictures = task.show(folder, step) or {}
    except OSError as error:
        print(f"step {step}: no videos ({error})", file=sys.stderr, flush=True)
        return
    tracker = accelerator.get_tracker("tensorboard")
    tracker.log_images({name: picture[None] for name, picture in pictures.items()}, step, dataformats="NHWC")


def _to(device: torch.device, batch: dict[str, Any]) -> dict[str, Any]:
    return {name: x.to(device, non_blocking=True) if isinstance(x, Tensor) else x for name, x in batch.items()}


def _norm(parameters: list[nn.Parameter]) -> float:
    """Length of the gradient of all parameters together; under FSDP, of this process's share."""
    gradients = [p.grad.detach() for p in parameters if p.grad is not None]
    gradients = [g.to_local() if isinstance(g, DTensor) else g for g in gradients]
    return float(torch.stack([g.norm() for g in gradients]).norm()) if gradients else 0.0


def _rate(step: int, loop: LoopConfig) -> float:
    """Share of the learning rate at a step."""
    rise = min((step + 1) / (loop.warmup + 1), 1.0)
    fall = 0.5 * (1 + math.cos(math.pi * min(step / loop.steps, 1.0))) if loop.decay == "cosine" else 1.0
    return rise * fall


def _log(accelerator: Accelerator, output: Path, step: int, values: dict[str, float]) -> None:
    """To TensorBoard; what was learned, but not how fast, also to a file that a repeated run gives again."""
    try:
        accelerator.log(values, step=step)
        if accelerator.is_main_process:
            learned = {name: value for name, value in values.items() if not name.startswith("speed/")}
            with open(output / "losses.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **learned}) + "\n")
    except OSError as error:  # a full disk: the next checkpoint says so again, and steps are not lost for a line
        print(f"step {step}: could not log ({error})", file=sys.stderr, flush=True)


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
