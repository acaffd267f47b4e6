"""How one window is denoised: nested guidance, and a schedule that starts from noise or from the prior.

Works with any diffusers scheduler. Letters: B clips, C latent channels, F frames, h w latent size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


@dataclass(frozen=True)
class Pass:
    """One run of the U-Net in a guided step: what it is shown, and the weight of its prediction in the sum."""

    weight: float
    reference: bool
    audio: bool

    @property
    def name(self) -> str:
        return f"reference {self.reference}, audio {self.audio}"


@dataclass(frozen=True)
class Guidance:
    """Nested guidance over reference and audio, in Loopy's form with CyberHost's scales (2.5 and 4.5 there):

        e = e_base + reference (e_ref - e_base) + audio (e_ref+audio - e_ref)

    1.0 and 1.0 is the plain prediction. Only passes whose weight in this sum is not zero are run: one without
    guidance, two when only one scale differs from 1. `interval`: the part of the steps that is guided, as shares of
    the whole, [0, 1] for all (Kynkäänniemi et al. 2024); outside it there is one pass.
    """

    reference: float = 1.0
    audio: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for name, scale in (("reference", self.reference), ("audio", self.audio)):
            if not scale >= 0:
                raise ValueError(f"{name} guidance must be 0 or more (1 = off), got {scale}; published is 2.5 and 4.5")
        start, end = self.interval
        if not 0 <= start <= end <= 1:
            raise ValueError(f"the guidance interval must be 0 <= start <= end <= 1, got {self.interval}")

    def passes(self, progress: float, has_audio: bool) -> list[Pass]:
        """The passes of a step that begins at `progress` in [0, 1) of the sampling."""
        start, end = self.interval
        reference, audio = (self.reference, self.audio) if start <= progress < end else (1.0, 1.0)
        if not has_audio:
            sums = [Pass(1 - reference, False, False), Pass(reference, True, False)]
        else:
            sums = [
                Pass(1 - reference, False, False),
                Pass(reference - audio, True, False),
                Pass(audio, True, True),
            ]
        return [one for one in sums if abs(one.weight) > 1e-9]


@dataclass(frozen=True)
class PriorLatents:
    """What a U-Net with prior channels is shown beside the noisy latents, in the order of its input."""

    doubt: Tensor  # (1, 1, F, h, w): 1 - confidence
    latents: Tensor  # (1, C, F, h, w)


def start_schedule(scheduler: Any, steps: int, strength: float, device: torch.device) -> Tensor:
    """The timesteps to run, with the scheduler reset for them.

    Unlike diffusers' image-to-image pipelines, `steps` is what is run whatever the strength: a grid of
    steps / strength timesteps is laid over the whole time and its last `steps` are taken.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}; for the prior alone pass strength 0")
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1 to denoise, got {strength}")
    grid = max(steps, round(steps / strength))
    if grid > scheduler.config.num_train_timesteps:
        raise ValueError(
            f"{steps} steps at strength {strength} need a grid of {grid} timesteps and the scheduler has "
            f"{scheduler.config.num_train_timesteps}; take fewer steps or a greater strength"
        )
    scheduler.set_timesteps(grid, device=device)
    begin = (grid - steps) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    return scheduler.timesteps[begin:]


def start_latents(
    scheduler: Any,
    timesteps: Tensor,  # of start_schedule
    noise: Tensor,  # (B, C, F, h, w)
    clean: Tensor | None,  # the prior's latents, the same shape
    strength: float,
) -> Tensor:
    """The latents to begin with: pure noise at strength 1, else the prior noised to the first timestep."""
    if clean is None or strength == 1:
        return noise * getattr(scheduler, "init_noise_sigma", 1.0)
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(clean, noise, timesteps[:1])
    return scheduler.scale_noise(clean, timesteps[:1], noise)  # flow matching


def step_arguments(scheduler: Any, generator: torch.Generator | None) -> dict[str, Any]:
    """What this scheduler's `step` takes beside prediction, timestep and sample."""
    return {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}


def frame_noise(
    shape: tuple[int, int, int, int],  # C, F, h, w
    generator: torch.Generator | None,
    device: torch.device,
) -> Tensor:
    """Noise (1, C, F, h, w), drawn frame after frame, so that it does not depend on the cut into windows."""
    channels, frames, height, width = shape
    drawn = [
        randn_tensor((1, channels, 1, height, width), generator=generator, device=device, dtype=torch.float32)
        for _ in range(frames)
    ]
    return torch.cat(drawn, dim=2)


def denoise(
    unet: Any,  # AvatarUNet
    scheduler: Any,
    noise: Tensor,  # (1, C, F, h, w) float32
    prior: PriorLatents | None,
    conditions: dict[str, Any],  # the U-Net's named conditions but for the person; "audio" is dropped for guidance
    person: dict[str, Any],  # reference and identity
    nobody: dict[str, Any],  # the same of a dropped reference
    steps: int,
    strength: float,
    guidance: Guidance,
    generator: torch.Generator | None,
    name: str,  # of the window, for messages
    on_step: Callable[[int, int], None],  # steps done, steps
) -> Tensor:
    """Clean latents (1, C, F, h, w) float32 of one window."""
    # 1. Where to start
    timesteps = start_schedule(scheduler, steps, strength, noise.device)
    sample = start_latents(scheduler, timesteps, noise, None if prior is None else prior.latents, strength)
    check_finite(sample, f"before the first step of {name}")

    # 2. What stands beside the noisy latents
    known: tuple[Tensor, ...] = ()
    if unet.config.in_channels > noise.shape[1]:
        if prior is None:  # doubt everywhere, and nothing to doubt
            known = torch.ones_like(noise[:, :1]), torch.zeros_like(noise)
        else:
            known = prior.doubt, prior.latents

    # 3. Steps
    arguments = step_arguments(scheduler, generator)
    for step, timestep in enumerate(timesteps):
        # Flow-matching schedulers have nothing to scale.
        scaled = scheduler.scale_model_input(sample, timestep) if hasattr(scheduler, "scale_model_input") else sample
        shown = torch.cat([scaled, *known], dim=1).to(unet.dtype)
        prediction = torch.zeros_like(sample)
        for one in guidance.passes(step / len(timesteps), conditions["audio"] is not None):
            heard = conditions if one.audio else {**conditions, "audio": None}
            with unet.cache_context(one.name):
                output = unet(shown, timestep, **heard, **(person if one.reference else nobody))
            prediction += one.weight * output.sample.float()
        sample = scheduler.step(prediction, timestep, sample, **arguments, return_dict=False)[0]
        check_finite(sample, f"after step {step + 1} of {len(timesteps)} of {name}")
        on_step(step + 1, len(timesteps))
    return sample


def check_finite(latents: Tensor, where: str) -> None:
    """ValueError when latents hold NaN or infinity; `where` names the step."""
    if not bool(latents.isfinite().all()):
        broken = int((~latents.isfinite()).sum())
        raise ValueError(
            f"{broken} of {latents.numel()} latents are NaN or infinite {where}; run in bfloat16 or float32 "
            "instead of float16, or check the weights and the prior"
        )
