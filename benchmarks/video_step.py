"""Time and memory of the video model: one denoising step with every stream on, and one second of video.

    python benchmarks/video_step.py                      the full model where there is a CUDA GPU, else the default one
    python benchmarks/video_step.py --model default --threads 2

GPU: bf16, eager and compiled, 768 x 768 x 12 and 640 x 384 x 24. CPU: bf16 and float32, 512 x 512 x 12, eager. The
weights are random: time does not depend on them. The matmul rate is that of 8192² (CPU: 2048²) products in the same
type, so that "fraction" is how much of what this chip really reaches goes into the step's counted operations.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from avatar.build import build_pipeline
from avatar.models.unet import AvatarUNet
from avatar.pipeline import AvatarPipeline
from avatar.sampling import Guidance
from pose.keypoints import COUNT, Keypoints

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
GPU_SIZES = ((768, 768, 12), (640, 384, 24))  # height, width, frames
CPU_SIZES = ((512, 512, 12),)
# Stable Diffusion's autoencoder, built with random weights: nothing is downloaded to take the time.
SD_VAE = {
    "class": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


def seconds(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median wall time of a call after one for warming up."""
    call()
    times = []
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large product of random matrices."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: a @ b, device, 10)


def described_pipeline(name: str) -> AvatarPipeline:
    """The pipeline of configs/model_{name}.yaml, new weights; parts that would be downloaded are small random ones."""
    config = yaml.safe_load((CONFIGS / f"model_{name}.yaml").read_text(encoding="utf-8"))
    if "from" in config["vae"]:
        config["vae"] = {**SD_VAE, "latent_channels": config["unet"]["out_channels"]}
    if "from" in config["audio_encoder"]:
        tokens = {key: config["audio_encoder"][key] for key in ("num_tokens", "hidden_dim")}
        config["audio_encoder"] = {"front_end": "mel", **tokens}
    return build_pipeline(config)


def random_pipeline(name: str, device: torch.device, dtype: torch.dtype) -> AvatarPipeline:
    """The described pipeline, ready to run."""
    pipeline = described_pipeline(name).to(device, dtype)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def step_inputs(pipeline: AvatarPipeline, size: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> Any:
    """Sample and every condition of `AvatarUNet.forward`, random."""
    unet: AvatarUNet = pipeline.unet
    config = unet.config
    height, width, frames = size[0] // 8, size[1] // 8, size[2]

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    reference = pipeline.reference_net.encode(noise(1, config.out_channels, height, width))
    before = pipeline.reference_net.encode(noise(pipeline.config.motion_frames, config.out_channels, height, width))
    conditions = {
        "audio": noise(1, frames, pipeline.audio_encoder.config.num_tokens, config.audio_dim),
        "pose": noise(1, config.block_out_channels[0], frames, height, width),
        "reference": unet.project_reference(reference),
        "motion": unet.motion_maps(before, 1),
        "identity": pipeline.identity_encoder.null(1),
        "hand_clarity": torch.ones(1, frames, 2, device=device),
    }
    return noise(1, config.in_channels, frames, height, width), conditions


def measure_steps(pipeline: AvatarPipeline, sizes: Any, device: torch.device, compiled: bool, repeats: int) -> None:
    dtype = pipeline.unet.dtype
    rate = matmul_rate(device, dtype)
    print(f"{str(dtype):<16} matmul {rate / 1e12:.2f} TFLOP/s")
    for size in sizes:
        sample, conditions = step_inputs(pipeline, size, device, dtype)
        timestep = torch.tensor(500, device=device)

        def step(sample: Any = sample, conditions: Any = conditions, timestep: Any = timestep) -> Any:
            return pipeline.unet(sample, timestep, **conditions)

        with FlopCounterMode(display=False) as counter:
            step()
        for mode in ("eager", "compiled")[: 1 + compiled]:
            if mode == "compiled":
                pipeline.compile_blocks(fullgraph=True)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            taken = seconds(step, device, repeats)
            peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else resident_gib()
            print(
                f"  {size[0]} x {size[1]} x {size[2]:<3} {mode:<9} {taken:8.3f} s a step "
                f"{taken / size[2] * 1e3:8.1f} ms a frame  fraction {counter.get_total_flops() / taken / rate:.2f}  "
                f"peak {peak:.1f} GiB"
            )


def measure_second(pipeline: AvatarPipeline, size: tuple[int, int], device: torch.device) -> None:
    """25 frames from photo, keypoints and sound, with the config's own steps; no prior, so every frame in full."""
    draws = np.random.default_rng(0)
    points = draws.uniform(0.2, 0.8, (1, COUNT, 2)).astype(np.float32) * np.array([size[1], size[0]], np.float32)
    person = Keypoints(points, np.ones((1, COUNT), np.float32), size)
    photo = draws.integers(0, 255, (*size, 3), dtype=np.uint8)
    sound = draws.normal(0, 0.1, 16000).astype(np.float32)
    passes = Guidance(pipeline.config.reference_guidance, pipeline.config.audio_guidance)

    def second() -> int:
        frames = pipeline.stream(
            photo, person, audio=sound, strength=1.0, frame_stride=1, guidance=passes, generator=torch.Generator()
        )
        return sum(len(part) for part in frames)

    began = time.perf_counter()
    count = second()
    taken = time.perf_counter() - began
    print(
        f"  one second of video, {size[0]} x {size[1]}, {count} frames, {pipeline.config.steps} steps: {taken:.1f} s"
    )


def resident_gib() -> float:
    """Peak resident memory of this process; getrusage counts KiB on Linux and bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if platform.system() == "Darwin" else 2**20)


@torch.no_grad()
def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Times the video model with random weights.")
    parser.add_argument("--model", default="full" if gpu else "default", choices=["default", "full"])
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--repeats", type=int, default=10 if gpu else 3)
    parser.add_argument("--no-second", action="store_true", help="leave out the second of video")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if gpu else "cpu")
    name = torch.cuda.get_device_name() if gpu else f"{platform.processor() or platform.machine()}"
    print(f"{name}, {arguments.threads} CPU threads, torch {torch.__version__}, model {arguments.model}")
    for dtype in (torch.bfloat16,) if gpu else (torch.bfloat16, torch.float32):
        pipeline = random_pipeline(arguments.model, device, dtype)
        measure_steps(pipeline, GPU_SIZES if gpu else CPU_SIZES, device, compiled=gpu, repeats=arguments.repeats)
        if not arguments.no_second:
            height, width, _ = GPU_SIZES[1] if gpu else CPU_SIZES[0]
            measure_second(pipeline, (height, width), device)


if __name__ == "__main__":
    main()
