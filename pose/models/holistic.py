"""Gesture and expression together: the adaptive holistic diffusion model ("AdaptiveDiffuseMotion").

Two passes through one trunk, DiffuseStyleGesture+'s: one task's pose vector comes in through its own layer, leaves
through its own layer, and takes its own seed; speech, speaker and all attention are shared. The tasks do not see each
other. Here both passes are one call of twice the batch.

    vector (B, F, G + X):  [gesture G | expression X]      published: 2052 = 684 x (value, Δ, Δ²) and 153 = 51 x 3

`UncertaintyWeights` are the two trained loss weights σ (Kendall et al. 2018); the released code forgot to give them to
the optimiser, so that its weights stayed at one half each.
Letters: see `pose.models.denoiser`; G, X widths of the two parts, T tasks.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module
from torch import Tensor, nn

from pose.models.denoiser import Condition, GestureDenoiser, StrictModel, keep_mask
from pose.models.gaussian_guess import GaussianGuess
from pose.models.local_attention import CrossLocalTrunk

TASKS = ("gesture", "expression")


class HolisticDiffusion(GestureDenoiser):
    """Predicts the clean sample of both tasks; `tasks` of one name is the single-task model."""

    prediction_type = "sample"
    speech_input = "features"

    @register_to_config
    def __init__(
        self,
        gesture_dim: int = 2052,  # G; unused without the task
        expression_dim: int = 153,  # X
        tasks: tuple[str, ...] = TASKS,
        speech_dim: int = 1434,  # A: 1133 acoustic and WavLM, 301 words
        style_dim: int = 4,  # K: speakers 2, 4, 6 and 8 of BEAT
        frames: int = 150,  # F, 5 s
        seed_frames: int = 30,  # S
        width: int = 384,
        speech_width: int = 96,
        layers: int = 8,
        heads: int = 4,
        feedforward: int = 1024,
        local_heads: int = 8,
        local_window: int = 15,
        dropout: float = 0.1,
        style_dropout: float = 0.1,
        num_train_timesteps: int = 1000,
        beta_schedule: str = "squaredcos_cap_v2",
        axes: int = 0,  # ours: of GaussianGuess, for each task; 0 for none
        context: int = 7,  # frames of speech to either side that the guess of one hears
        heard_whole: int = 0,  # of the last numbers of speech that the guess hears as they are
    ) -> None:
        super().__init__()
        if not tasks or set(tasks) - set(TASKS) or list(tasks) != [task for task in TASKS if task in tasks]:
            raise ValueError(f"tasks must be {TASKS} or one of them, got {tuple(tasks)}")
        if not 0 < 2 * seed_frames <= frames:
            raise ValueError(f"seed frames must be 1 to half of the window's {frames}, got {seed_frames}")
        dims = {"gesture": gesture_dim, "expression": expression_dim}
        self.dims = [dims[task] for task in tasks]
        self.style = nn.Linear(style_dim, width)
        self.speech = nn.Linear(speech_dim, speech_width)
        self.seed = nn.ModuleDict({task: nn.Linear(dims[task], speech_width) for task in tasks})
        self.pose_in = nn.ModuleDict({task: nn.Linear(dims[task], width) for task in tasks})
        self.trunk = CrossLocalTrunk(
            width, 2 * width + speech_width, layers, heads, feedforward, local_heads, local_window, dropout
        )
        self.pose_out = nn.ModuleDict({task: nn.Linear(width, dims[task]) for task in tasks})
        self.guess = None
        if axes:
            about = (axes, frames, style_dim, self.noise_schedule, speech_dim, context, heard_whole)
            self.guess = nn.ModuleDict({task: GaussianGuess(dims[task], *about) for task in tasks})
            for task in tasks:  # the network starts as the guess
                nn.init.zeros_(self.pose_out.get_parameter(f"{task}.weight"))

    @classmethod
    def beat(cls) -> HolisticDiffusion:
        """The published model: BEAT, 30 fps, four speakers; 13,721,693 parameters."""
        return cls()

    @classmethod
    def small(cls, gesture_dim: int, speech_dim: int, style_dim: int, **changes: Any) -> HolisticDiffusion:
        """A size for training on a CPU."""
        size = {"width": 128, "speech_width": 32, "layers": 4, "feedforward": 384}
        return cls(gesture_dim, speech_dim=speech_dim, style_dim=style_dim, **{**size, **changes})

    @property
    def pose_dim(self) -> int:
        return sum(self.dims)

    def split(self, vectors: Tensor) -> dict[str, Tensor]:
        """(…, P) to {task: (…, G or X)}: for losses by task."""
        return dict(zip(self.config.tasks, vectors.split(self.dims, -1), strict=True))

    def _guesses(self) -> list[GaussianGuess]:
        return [each for each in (self.guess or {}).values() if isinstance(each, GaussianGuess)]

    def condition(self, *, speech: Tensor, seed: Tensor | None = None, style: Tensor | None = None) -> Condition:
        """`frames` hold the tasks along the width: (B, F, T · speech_width)."""
        speech, style = self.checked_features(speech), self.checked_style(style, speech)
        seeds = self.split(self.checked_seed(seed, speech))
        said = style * keep_mask(style, self.config.style_dropout, self.training)
        sound = self.speech(speech[:, self.config.seed_frames :])
        frames = [torch.cat([self.seed[task](part), sound], 1) for task, part in seeds.items()]
        guess = tuple(part for each in self._guesses() for part in each.condition(speech))
        return Condition(torch.cat(frames, -1), self.style(said), said, guess)

    def null_condition(self, *, speech: Tensor, seed: Tensor | None = None) -> Condition:
        """Without speaker; the seed stays, as in training."""
        return self.condition(speech=speech, seed=seed)

    def denoise(self, sample: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        tasks = len(self.dims)
        clip = self.trunk.clip_token(timestep, condition).repeat(tasks, 1)  # (T B, E)
        frames = torch.cat(condition.frames.chunk(tasks, -1))
        parts = self.split(sample)
        tokens = torch.cat([self.pose_in[task](part) for task, part in parts.items()])
        features = self.trunk(clip, [tokens, frames]).chunk(tasks)
        clean = [out(part) for out, part in zip(self.pose_out.values(), features, strict=True)]
        if guesses := self._guesses():
            heard = zip(condition.guess[::2], condition.guess[1::2], strict=True)
            each = zip(clean, guesses, parts.values(), heard, strict=True)
            clean = [own + guess(part, timestep, condition.style, *of) for own, guess, part, of in each]
        return torch.cat(clean, -1)


class UncertaintyWeights(StrictModel):
    """Weights of the tasks' losses: L = Σ L_i / (2 σ_i²) + log σ_i with log σ_i trained from 0.

    Adam moves a parameter by about its learning rate a step, and log σ has to go two or three: `rate` is how many
    times faster it goes than the parameter (ours, for short trainings).

    `trained=False` is the fixed ½ each of the released code. Put it in the same module as the network, so that its
    parameters reach the optimiser.
    """

    @register_to_config
    def __init__(self, tasks: int = 2, trained: bool = True, rate: float = 1.0) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.zeros(tasks), requires_grad=trained)

    def forward(self, losses: Tensor) -> Tensor:
        """(T,) losses to the scalar that is minimised."""
        logarithm = self.config.rate * self.log_sigma
        return (losses * torch.exp(-2 * logarithm) / 2 + logarithm).sum()

    @torch.no_grad()
    def sigmas(self) -> Tensor:
        """(T,) σ, for the log."""
        return torch.exp(self.config.rate * self.log_sigma)

    @torch.no_grad()
    def shares(self) -> Tensor:
        """(T,) weights 1 / 2σ² made to sum to 1, for the log; the paper reports 0.5063 and 0.4937."""
        return torch.softmax(-2 * self.config.rate * self.log_sigma, 0)
