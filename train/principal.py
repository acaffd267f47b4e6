"""The statistics that `GaussianGuess` needs, from training windows; and a start for networks narrower than a pose.

Letters: W windows, F frames, P width of what is denoised, E axes or width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose.models.denoiser import GestureDenoiser
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.models.gaussian_guess import GaussianGuess, cosine_transform
from pose.models.holistic import HolisticDiffusion
from pose.models.motion_codec import MotionCodec
from train.windows import GestureWindows

WINDOWS = 512  # that the statistics are taken from: covariances of a few dozen axes want no more


@torch.no_grad()
def fit_guess(model: GestureDenoiser, windows: GestureWindows, codec: MotionCodec | None) -> None:
    """Set the statistics of the model's guesses, and its first and last layer to the principal axes where they fit.

    ValueError when the model has no guess.
    """
    if isinstance(model, HolisticDiffusion) and model.guess is not None:
        guesses, ends = (
            list(model.guess.values()),
            [*zip(model.pose_in.values(), model.pose_out.values(), strict=True)],
        )
    else:
        guesses, ends = [model.guess], [None]
        if isinstance(model, DiffuseStyleGesture):
            ends = [(model.pose_in, model.pose_out)]
    if None in guesses:
        raise ValueError("the model has no Gaussian guess to fit; give it model.axes")
    sizes = [len(guess.basis) for guess in guesses]
    step = max(1, len(windows) // WINDOWS)
    parts: list[list[Tensor]] = [[] for _ in guesses]
    for index in range(0, len(windows), step):
        vectors = windows[index]["vectors"][None]
        vectors = vectors if codec is None else codec.encode(vectors)
        for part, found in zip(vectors[0].split(sizes, -1), parts, strict=True):
            found.append(part)
    for guess, found, layers in zip(guesses, parts, ends, strict=True):
        together = torch.stack(found)
        set_guess(guess, together)
        if layers is not None:
            _set_ends(*layers, guess)


def set_guess(guess: GaussianGuess, windows: Tensor) -> None:
    """Fit one guess to windows (W, F, P)."""
    flat = windows.flatten(0, 1)
    covariance = flat.T @ flat / len(flat)
    guess.basis.copy_(torch.linalg.eigh(covariance)[1].flip(1)[:, : guess.basis.shape[1]])
    values = cosine_transform(windows.shape[1]) @ (windows @ guess.basis)
    guess.variance.copy_(values.square().mean(0))


def _set_ends(first: nn.Linear, last: nn.Linear, guess: GaussianGuess) -> None:
    """A network narrower than the pose cannot see it through random weights: those dilute it among the noise."""
    count = min(first.out_features, guess.basis.shape[1])
    for layer, part in ((first, first.weight[:count].T), (last, last.weight[:, :count])):
        part.copy_(guess.basis[:, :count])
        nn.init.zeros_(layer.bias)
