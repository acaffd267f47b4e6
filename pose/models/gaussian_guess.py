"""The best linear guess of a clean window, which the small networks start from and add to (ours).

A thousand numbers a frame, of which few dozen move by themselves, and slowly: to take such a window for what it is, a
new network needs very many steps, and until then it answers with the mean pose or trembles. What a Gaussian process
with the training data's own covariances would answer is known without training: in cosines of time and the principal
axes of each of them, a value x = a x_0 + s ε of variance λ without noise is best answered with a λ / (a² λ + s²) x
(Wiener 1949). Style and speaker move the mean and the variance.

Speech does two things, both read off it by ridge regression. It moves the mean of each frame (mouths), and it sets the
pace: which way hands go is the speaker's choice, but that they go is heard, so time runs faster where speech lets
expect much movement. The cosines are then those of the warped time, made orthonormal again: a value that changes
slowly in warped time changes fast where the pace is high, and rests where it is low. The networks then only learn what
this does not know: the seed, what follows from speech in other ways, and that people are not Gaussian.
Letters: B clips, F frames, P width of a pose vector, E axes, K styles and speakers, A width of the speech features,
H axes of those, T frames of speech that one frame hears.

Principal axes of speech are its loud and slow sides; that the lips meet is on none of them. So numbers that say such a
thing may stand last in the features and be heard as they are, beside the axes (`heard_whole`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn

HEARD_AXES = 16  # H, by hand: more fit the training clips better and the others worse
FASTEST = 3.0  # of the pace over its mean, and its inverse: what is heard is never certain


class GaussianGuess(nn.Module):
    """Its statistics are set once, by `train.guess`: `basis` (P, E) of orthonormal columns; for each cosine the axes
    in which it varies by itself, `turns` (F, E, E), and how much, `variance` (F, E); by style and speaker `shift`
    (K, E) of the mean and `loudness` (K,), the logarithm of how much more moves; of speech `heard_mean` (A,),
    `heard_axes` (A, H), `sway` (T H, E), what a frame's mean is moved by, and `pace` (T H,), the logarithm of how much
    faster its time runs.
    """

    basis: Tensor
    turns: Tensor
    variance: Tensor
    shift: Tensor
    loudness: Tensor
    heard_mean: Tensor
    heard_axes: Tensor
    sway: Tensor
    pace: Tensor
    clean_share: Tensor

    def __init__(
        self,
        pose_dim: int,
        axes: int,
        frames: int,
        style_dim: int,
        schedule: dict[str, Any],
        speech_dim: int,
        context: int,  # frames of speech heard to either side; 0.45 s: strokes begin about so long before their stress
        heard_whole: int = 0,  # of the last numbers of speech
    ) -> None:
        super().__init__()
        axes, heard = min(axes, pose_dim), min(HEARD_AXES, speech_dim) + heard_whole
        self.context, self.heard_whole = context, heard_whole
        self.register_buffer("basis", torch.zeros(pose_dim, axes))
        self.register_buffer("turns", torch.eye(axes).repeat(frames, 1, 1))
        self.register_buffer("variance", torch.zeros(frames, axes))
        self.register_buffer("shift", torch.zeros(style_dim, axes))
        self.register_buffer("loudness", torch.zeros(style_dim))
        self.register_buffer("heard_mean", torch.zeros(speech_dim))
        self.register_buffer("heard_axes", torch.zeros(speech_dim, heard))
        self.register_buffer("sway", torch.zeros((2 * context + 1) * heard, axes))
        self.register_buffer("pace", torch.zeros((2 * context + 1) * heard))
        # a² of each timestep; s² = 1 - a²
        self.register_buffer("clean_share", DDPMScheduler(**schedule).alphas_cumprod, persistent=False)

    def context_of(self, speech: Tensor) -> Tensor:
        """(B, F, A) to (B, F, T H): what each frame hears; the window's ends go on as they are."""
        axes = ((speech - self.heard_mean) @ self.heard_axes).transpose(1, 2)
        axes = F.pad(axes, (self.context, self.context), mode="replicate")
        return axes.unfold(2, 2 * self.context + 1, 1).transpose(1, 2).flatten(2)

    @torch.no_grad()
    def condition(self, speech: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Speech (B, F, A) to the times (B, F, F), orthonormal rows, and what the mean is moved by, (B, F, E).

        `kept` (B, 1, 1): 0 where speech is dropped.
        """
        with torch.autocast(speech.device.type, enabled=False):
            heard = self.context_of(speech.float())
            heard = heard if kept is None else heard * kept
            return warped_cosines(heard @ self.pace), heard @ self.sway

    def forward(self, sample: Tensor, timestep: Tensor, style: Tensor, times: Tensor, sway: Tensor) -> Tensor:
        """(B, F, P) at `timestep` (B,) to the guess of the clean sample; without statistics it is 0, the mean.

        `style` (B, K) as the model is told it: zeros where nothing is said, in between for mixtures. `times` and
        `sway` as `condition` gives them.
        """
        with torch.autocast(sample.device.type, enabled=False):
            share = self.clean_share.to(sample)[timestep][:, None]
            clean = share.sqrt()
            frames = len(self.variance)
            louder = (style @ self.loudness).exp()[:, None]
            mean = (style @ self.shift) * math.sqrt(frames)
            values = sample @ self.basis - clean[:, None] * sway
            values = (times @ values).transpose(0, 1)  # (F, B, E)
            values = torch.cat([values[:1] - clean * mean, values[1:]]) @ self.turns
            # Where somebody stands has nothing to do with how lively he is: the mean over time is not louder.
            spread = torch.cat([self.variance[:1, None].expand(-1, len(sample), -1), self.variance[1:, None] * louder])
            values = clean * spread / (share * spread + 1 - share) * values
            values = values @ self.turns.transpose(1, 2)
            values = torch.cat([values[:1] + mean, values[1:]]).transpose(0, 1)
            return (times.transpose(1, 2) @ values + sway) @ self.basis.T


def warped_cosines(pace: Tensor) -> Tensor:
    """Logarithms of the pace (B, F) to (B, F, F), orthonormal rows: cosines of a time that runs at that pace.

    At an even pace they are the discrete cosine transform (DCT-II). Gram and Schmidt take them in order, so that the
    first is always the mean and the next ones the slowest.
    """
    frames = pace.shape[1]
    limit = math.log(FASTEST)
    speed = (pace - pace.mean(1, keepdim=True)).clamp(-limit, limit).exp()
    place = (speed.cumsum(1) - speed / 2) / speed.sum(1, keepdim=True)
    rows = torch.cos(math.pi * torch.arange(frames, device=pace.device) * place.double()[..., None])  # (B, F, row)
    columns, triangle = torch.linalg.qr(rows)
    signs = triangle.diagonal(dim1=1, dim2=2).sign()
    return (columns * torch.where(signs == 0, 1, signs)[:, None]).transpose(1, 2).to(pace)
