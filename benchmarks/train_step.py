"""Cost of one training step of the video stage: seconds, memory, operations, on any device.

    python benchmarks/train_step.py                                  the table of docs/training.md for this machine
    python benchmarks/train_step.py --model default --stage 2 --size 256x256 --frames 12 --batch 1
    python benchmarks/train_step.py --count                          operations and activations of `full`, no weights

Weights and data are random: time does not depend on them. A step is forward, backward and AdamW on latents that were
prepared, as in training from shards. Every row is a process of its own, so that its peak memory is its own: on a GPU
the allocator's, on a CPU the resident set less what was there before the first step. Seconds on a CPU are of one core
(processor time of all threads), which other programs on the machine hardly change. MFU is the step's counted
operations (recomputed ones left out) over its time and the rate of large matrix products on the same device.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from video_step import described_pipeline, matmul_rate, resident_gib

from avatar.pipeline import AvatarPipeline
from train.avatar_task import STAGES, AvatarTask, LossConfig, NoiseConfig

GPU_ROWS = [("full", 1, "640x384", 1, 12), ("full", 2, "640x384", 12, 1), ("full", 2, "640x384", 24, 1)]
CPU_ROWS = [
    ("tiny", 1, "64x64", 1, 4),
    ("tiny", 2, "64x64", 4, 2),
    ("default", 1, "256x256", 1, 4),
    ("default", 2, "256x256", 12, 1),
    ("default", 1, "512x512", 1, 4),
    ("default", 2, "512x512", 12, 1),
]
COUNTED_SIZE, COUNTED = (640, 384), ((1, 1), (2, 12), (2, 24))  # of --count: size, then stages and frames


def batch_of(
    pipeline: AvatarPipeline, stage: int, size: tuple[int, int], frames: int, batch: int
) -> dict[str, Tensor]:
    """A random `TrainingWindow` batch with everything in it."""
    height, width = size
    h, w, motion = height // 8, width // 8, pipeline.config.motion_frames
    channels, encoder = pipeline.unet.config.out_channels, pipeline.audio_encoder
    crop = pipeline.identity_encoder.config.crop_size
    yes = torch.ones(batch, dtype=torch.bool)
    made = {
        "latents": torch.randn(batch, channels, frames, h, w),
        "reference_latents": torch.randn(batch, channels, h, w),
        "reference_pose": torch.zeros(batch, 3, 1, height, width, dtype=torch.uint8),
        "keep_reference": yes,
        "crops": torch.zeros(batch, 3, 3, crop, crop, dtype=torch.uint8),
        "present": torch.ones(batch, 3, dtype=torch.bool),
        "pose": torch.zeros(batch, 3, frames, height, width, dtype=torch.uint8),
        "kind": torch.full((batch,), 2),
        "regions": torch.rand(batch, 2, frames, h, w),
        "clarity": torch.zeros(batch, frames, 2),
        "heatmaps": torch.zeros(batch, 42, frames, h, w),
        "joints": torch.ones(batch, frames, 42),
        "prior_latents": torch.randn(batch, channels, frames, h, w),
        "doubt": torch.rand(batch, 1, frames, h, w),
        "keep_prior": yes,
        "draw": torch.arange(batch),
    }
    if stage == 2:
        width_of_states = 2 * encoder.config.window + 1, encoder.num_states, encoder.state_dim
        made |= {
            "audio": torch.randn(batch, frames, *width_of_states),
            "keep_audio": yes,
            "motion_latents": torch.randn(batch, channels, motion, h, w),
            "keep_motion": yes,
        }
    return made


def trained(stage: int, unfreeze: bool) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*STAGES[stage], *(("basic",) if stage == 2 and unfreeze else ()))))


def measure(args: argparse.Namespace) -> str:
    """One row: seconds, memory, operations of a step."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
    height, width = (int(side) for side in args.size.split("x"))
    pipeline = described_pipeline(args.model)
    task = AvatarTask(pipeline, args.stage, trained(args.stage, args.unfreeze), checkpointing=args.checkpointing)
    task.to(device).train()
    parameters = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-5)
    batch = batch_of(pipeline, args.stage, (height, width), args.frames, args.batch)
    batch = {name: x.to(device) for name, x in batch.items()}
    half = args.precision == "bf16"

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = task(batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device

    before = resident_gib()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    step()
    times = []
    for _ in range(args.repeats):
        began = clock()
        step()
        times.append(clock() - began)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else resident_gib() - before
    seconds = sorted(times)[len(times) // 2]
    for part in (pipeline.unet, pipeline.reference_net, pipeline.pose_encoder):
        part.disable_gradient_checkpointing()
    with FlopCounterMode(display=False) as counter, torch.autocast(device.type, torch.bfloat16, enabled=half):
        task(batch)["loss"].backward()
    work = counter.get_total_flops()
    rate = product_rate(device, torch.bfloat16 if half else torch.float32)
    return (
        f"| {args.model} | {args.stage} | {height} × {width} | {args.frames} | {args.batch} | {args.precision} | "
        f"{'yes' if args.checkpointing else 'no'} | {seconds:.2f} | {seconds / args.batch / args.frames:.3f} | "
        f"{memory:.2f} | {work / 1e12:.2f} | {work / seconds / rate:.0%} |"
    )


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of large products of random matrices; on a CPU of one core's second."""
    if device.type == "cuda":
        return matmul_rate(device, dtype)
    a = torch.randn(1024, 1024, dtype=dtype)
    a @ a
    began = time.process_time()
    for _ in range(5):
        a @ a
    return 5 * 2 * 1024**3 / (time.process_time() - began)


HEADER = (
    "| model | stage | size | frames | batch | type | recompute | s a step | s a frame | GiB | TFLOP | MFU |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


class Kept:
    """Within the block, the bytes of activations that wait for the backward pass; the rest is recomputed."""

    def __init__(self, weights: set[int]) -> None:
        self.weights, self.seen = weights, dict[int, int]()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda x: x)

    def note(self, x: Any) -> None:
        if isinstance(x, Tensor):
            storage = x.untyped_storage()
            if storage._cdata not in self.weights:
                self.seen[storage._cdata] = storage.nbytes()

    def _pack(self, x: Tensor) -> Tensor:
        self.note(x)
        return x

    def __enter__(self) -> Kept:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)


def count() -> None:
    """Operations and activations of a step of `full`, on torch's meta device: nothing is computed."""
    height, width = COUNTED_SIZE
    print(f"full at {height} × {width}, one clip, float32 activations; operations without what is recomputed")
    print("| stage | frames | trained, million | TFLOP forward | TFLOP a step | GiB kept | layers recomputed |")
    print("|---|---|---|---|---|---|---|")
    for (stage, length), recompute in itertools.product(COUNTED, ("none", "all but motion", "all")):
        if stage == 1 and recompute == "all but motion":
            continue
        with torch.device("meta"):
            pipeline = described_pipeline("full")
            noise = NoiseConfig(min_snr_gamma=0)  # asks for values
            task = AvatarTask(pipeline, stage, trained(stage, False), noise, LossConfig(), recompute != "none")
            batch = batch_of(pipeline, stage, (height, width), length, 1)
        batch |= {"kind": torch.full((1,), 2), "draw": torch.arange(1)}
        weights = {p.untyped_storage()._cdata for p in task.parameters()}
        kept = Kept(weights)
        _note_checkpoints(task, kept, motion=recompute == "all")
        with FlopCounterMode(display=False) as forward, kept:
            loss = task({**batch, "draw": Meta(batch["draw"])})["loss"]
        with FlopCounterMode(display=False) as backward:
            loss.backward()
        count_of = sum(p.numel() for p in task.parameters() if p.requires_grad) / 1e6
        whole = forward.get_total_flops() + (backward.get_total_flops() if recompute == "none" else 0)
        steps = f"{whole / 1e12:.1f}" if recompute == "none" else "as above"
        print(
            f"| {stage} | {length} | {count_of:.0f} | {forward.get_total_flops() / 1e12:.1f} | {steps} | "
            f"{sum(kept.seen.values()) / 2**30:.1f} | {recompute} |"
        )


class Meta:
    """Seeds whose draws are on the meta device."""

    def __init__(self, seeds: Tensor) -> None:
        self.device, self._seeds = torch.device("meta"), seeds

    def tolist(self) -> list[int]:
        return self._seeds.tolist()


def _note_checkpoints(task: AvatarTask, kept: Kept, motion: bool) -> None:
    """Count what checkpointed layers keep, their inputs; without `motion`, motion modules keep everything."""
    for part in (task.pipeline.unet, task.pipeline.reference_net, task.pipeline.pose_encoder):
        for module in part.modules():
            own = getattr(module, "_gradient_checkpointing_func", None)
            if own is None:
                continue

            def run(layer: Any, *inputs: Any, own: Any = own) -> Any:
                if not motion and type(layer).__name__ == "AnimateDiffTransformer3D":
                    return layer(*inputs)
                for x in inputs:
                    kept.note(x)
                return own(layer, *inputs)

            module._gradient_checkpointing_func = run


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", action="store_true", help="count operations and activations of `full`, run nothing")
    parser.add_argument("--model", choices=["tiny", "default", "full"], help="one row instead of the table")
    parser.add_argument("--stage", type=int, default=2, choices=[1, 2])
    parser.add_argument("--size", default="512x512", help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="bf16" if gpu else "no", choices=["bf16", "no"])
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    parser.add_argument("--unfreeze", action="store_true", help="train the basic layers in stage 2, too")
    parser.add_argument("--repeats", type=int, default=10 if gpu else 3)
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    args = parser.parse_args()
    if args.count:
        count()
    elif args.model:
        print(measure(args))
    else:
        print(HEADER)
        for (model, stage, size, frames, batch), again in itertools.product(
            GPU_ROWS if gpu and not args.cpu else CPU_ROWS, (False, True)
        ):
            row = ["--model", model, "--stage", stage, "--size", size, "--frames", frames, "--batch", batch,
                   "--precision", args.precision, "--repeats", args.repeats,
                   *["--checkpointing"] * again, *["--cpu"] * args.cpu]  # fmt: skip
            command = [sys.executable, str(Path(__file__).resolve()), *map(str, row)]
            done = subprocess.run(command, capture_output=True, text=True)
            last = (done.stdout or done.stderr).strip().splitlines()[-1]
            print(last if done.returncode == 0 else f"| {' | '.join(map(str, row[1::2]))} | {last} |", flush=True)


if __name__ == "__main__":
    main()
