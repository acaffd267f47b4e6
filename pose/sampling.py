"""How one window of gestures is denoised, with any diffusers scheduler.

Models of the clean sample and models of the noise are sampled alike: predictions become clean samples first, and the
scheduler is told so. What is held (frames of an earlier window, key poses) is put into the clean sample at every step;
since a step draws x_{t-1} from x_t and the clean sample, held frames then follow the forward process of their value
exactly (RePaint's replacement without its own noise).
Letters: B clips, F frames, P width of a pose vector, t training timestep.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from pose.models.denoiser import Condition, GestureDenoiser

SCHEDULERS = ("ddpm", "ddim", "dpm++", "unipc")
STABILIZERS = ("smooth", "hard")
Predict = Callable[[Tensor, Tensor], Tensor]  # noised (B, F, P), t (B,) to the clean sample (B, F, P)


def scheduler_for(name: str, model: GestureDenoiser) -> SchedulerMixin:
    """A scheduler with the system's own noise schedule: "ddpm" as published, the others for few steps."""
    common = {**model.noise_schedule, "prediction_type": "sample"}
    if name == "ddpm":
        return DDPMScheduler(**common, clip_sample=False, variance_type="fixed_small")
    if name == "ddim":
        return DDIMScheduler(**common, clip_sample=False, timestep_spacing="trailing")
    if name == "dpm++":
        # Steps even in the logarithm of signal to noise (Lu et al. 2022): most of the motion is decided where noise is
        # very high, and even steps of t pass there in two or three.
        return DPMSolverMultistepScheduler(**common, use_lu_lambdas=True, final_sigmas_type="zero")
    if name == "unipc":
        return UniPCMultistepScheduler(**common, timestep_spacing="trailing", final_sigmas_type="zero")
    raise ValueError(f"unknown scheduler {name!r}; known are {', '.join(SCHEDULERS)}")


@dataclass(frozen=True)
class Stabilizer:
    """DiffGesture's Gesture Stabilizer: in the last steps the frames share part of their noise, against jitter.

    "smooth": below t0 = `threshold` a frame's noise is √(1 - σ²) of its own and σ of one for all frames, with
    σ = (t - t0)² / t0², of unit variance at every t. "hard": one for all. t counts from 1, as in the paper; its t0 is
    25 of 500 steps.
    """

    form: str = "smooth"
    threshold: int = 25

    def __post_init__(self) -> None:
        if self.form not in STABILIZERS:
            raise ValueError(f"the stabilizer must be one of {', '.join(STABILIZERS)}, got {self.form!r}")
        if self.threshold < 1:
            raise ValueError(f"the stabilizer's threshold must be at least 1 training step, got {self.threshold}")

    def shared(self, timestep: int) -> float:
        """σ: the part of the noise that all frames share at a timestep counted from 0."""
        t = timestep + 1
        if t >= self.threshold:
            return 0.0
        return 1.0 if self.form == "hard" else (t - self.threshold) ** 2 / self.threshold**2

    def noise(self, timestep: int, like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """(B, F, P) of unit variance."""
        own, common = draw(like.shape, generators, like), draw((len(like), 1, like.shape[2]), generators, like)
        part = self.shared(timestep)
        return (1 - part**2) ** 0.5 * own + part * common


@dataclass(frozen=True)
class Held:
    """Values (B, F, P) that the result shall have where `weight` (1 or B, F, 1 or P) is 1, and lean to above 0."""

    values: Tensor
    weight: Tensor

    def put(self, clean: Tensor) -> Tensor:
        return clean + self.weight * (self.values - clean)


def draw(shape: Sequence[int], generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Standard normal values; clip b's come from its own generator, whatever else is in the batch."""
    return randn_tensor(tuple(shape), generator=list(generators), device=like.device, dtype=like.dtype)


def guided(
    model: GestureDenoiser,
    condition: Condition,
    other: Condition | None,  # what guidance leads away from; None: plain
    guidance: float,  # γ
    scheduler: SchedulerMixin,
    clip: float | None = None,  # clean samples are held within ± this many deviations
) -> Predict:
    """γ D(condition) + (1 - γ) D(other), as the clean sample. With γ = 1 or without another, one evaluation."""
    alphas = scheduler.alphas_cumprod

    def predict(sample: Tensor, timestep: Tensor) -> Tensor:
        if other is None or guidance == 1.0:
            prediction = model.denoise(sample, timestep, condition)
        else:
            both = model.denoise(sample.repeat(2, 1, 1), timestep.repeat(2), condition.joined(other))
            main, away = both.chunk(2)
            prediction = guidance * main + (1 - guidance) * away
        if model.prediction_type == "epsilon":
            alpha = alphas.to(sample.device)[timestep].to(sample.dtype)[:, None, None]
            prediction = (sample - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
        return prediction if clip is None else prediction.clamp(-clip, clip)

    return predict


@torch.no_grad()
def denoise(
    predict: Predict,
    noise: Tensor,  # (B, F, P) standard normal
    scheduler: SchedulerMixin,
    generators: Sequence[torch.Generator],  # B, for the noise of the steps
    steps: int | None = None,  # None: all of the training's, the published way
    eta: float = 0.0,  # DDIM's: 0 no noise in the steps, 1 as much as DDPM
    stabilizer: Stabilizer | None = None,
    held: Held | None = None,
) -> Tensor:
    """The clean sample (B, F, P)."""
    # A copy that takes clean samples; multistep schedulers remember, so each window has its own.
    scheduler = type(scheduler).from_config(
        scheduler.config, prediction_type="sample", clip_sample=False, thresholding=False
    )
    scheduler.set_timesteps(steps or scheduler.config.num_train_timesteps, device=noise.device)
    accepted = set(inspect.signature(scheduler.step).parameters)
    options: dict[str, Any] = {}
    if "eta" in accepted:
        options["eta"] = eta
    ancestral = isinstance(scheduler, DDPMScheduler)
    if stabilizer is not None and not ancestral and not ("variance_noise" in accepted and eta > 0):
        raise ValueError(
            f"the stabilizer works on the noise of the steps, and {type(scheduler).__name__} adds none here; "
            "use ddpm, or ddim with eta above 0"
        )
    sample = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        timestep = t.round().long().expand(len(sample))
        scaled = scheduler.scale_model_input(sample, t)
        clean = predict(scaled, timestep)
        if held is not None:
            clean = held.put(clean)
        if stabilizer is not None:
            step_noise = stabilizer.noise(int(t), sample, generators)
            if ancestral:
                sample = ancestral_step(scheduler, clean, int(t), sample, step_noise)
                continue
            options["variance_noise"] = step_noise
        elif "generator" in accepted:
            options["generator"] = list(generators)
        if "variance_noise" in options:
            options.pop("generator", None)
        sample = scheduler.step(clean, t, sample, **options).prev_sample
    return sample if held is None else held.put(sample)


def ancestral_step(scheduler: DDPMScheduler, clean: Tensor, t: int, sample: Tensor, noise: Tensor) -> Tensor:
    """DDPM's step (Ho et al. 2020, equations 6 and 7) with noise from outside; diffusers' draws its own."""
    if scheduler.config.variance_type != "fixed_small":
        raise ValueError(f"the stabilizer needs the variance 'fixed_small', got {scheduler.config.variance_type!r}")
    before = int(scheduler.previous_timestep(t))
    alphas = scheduler.alphas_cumprod.double()
    now, then = float(alphas[t]), float(alphas[before]) if before >= 0 else 1.0
    step = now / then  # α_t of this step, however many training steps it spans
    mean = then**0.5 * (1 - step) / (1 - now) * clean + step**0.5 * (1 - then) / (1 - now) * sample
    return mean + ((1 - then) / (1 - now) * (1 - step)) ** 0.5 * noise
