"""The statistics that `GaussianGuess` needs, from training windows; and a start for networks narrower than a pose.

Letters: W windows, F frames, P width of what is denoised, E axes or width, K styles and speakers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose.models.denoiser import GestureDenoiser
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.models.gaussian_guess import GaussianGuess
from pose.models.holistic import HolisticDiffusion
from pose.models.motion_codec import MotionCodec
from train.windows import GestureWindows

WINDOWS = 1024  # that the statistics are taken from: covariances of a hundred axes want no more


@torch.no_grad()
def fit_guess(model: GestureDenoiser, windows: GestureWindows, codec: MotionCodec | None) -> None:
    """Set the statistics of the model's guesses, and its first layer to the principal axes where it is alone.

    ValueError when the model has no guess.
    """
    firsts: list[nn.Linear | None] = [None]
    if isinstance(model, HolisticDiffusion) and model.guess is not None:
        guesses, firsts = list(model.guess.values()), list(model.pose_in.values())
    else:
        guesses = [model.guess]
        if isinstance(model, DiffuseStyleGesture):
            firsts = [model.pose_in]
    if None in guesses:
        raise ValueError("the model has no Gaussian guess to fit; give it model.axes")
    sizes = [len(guess.basis) for guess in guesses]
    parts: list[list[Tensor]] = [[] for _ in guesses]
    styles = []
    for index in range(0, len(windows), max(1, len(windows) // WINDOWS)):
        item = windows[index]
        vectors = item["vectors"].to(model.device)
        if codec is not None:
            vectors = codec.encode(vectors[None])[0]
        styles.append(item["style"].to(model.device))
        for part, found in zip(vectors.split(sizes, -1), parts, strict=True):
            found.append(part)
    for guess, found, first in zip(guesses, parts, firsts, strict=True):
        set_guess(guess, torch.stack(found), torch.stack(styles))
        if first is not None:
            _set_first(first, guess)


def set_guess(guess: GaussianGuess, windows: Tensor, styles: Tensor) -> None:
    """Fit one guess to windows (W, F, P) and what is said of them (W, K)."""
    flat, frames = windows.flatten(0, 1), windows.shape[1]
    covariance = (flat.T @ flat).double() / len(flat)  # single precision does not converge where many axes stand still
    guess.basis.copy_(torch.linalg.eigh(covariance)[1].flip(1)[:, : guess.basis.shape[1]])
    values = guess.cosines.to(windows) @ (windows @ guess.basis)
    if styles.shape[1]:
        # The shortest solutions: they share what styles and speakers have in common, and say 0 for nothing.
        solve = torch.linalg.pinv(styles.double()).float()
        guess.shift.copy_(solve @ values[:, 0] / frames**0.5)
        energy = values[:, 1:].square().sum((1, 2)).clamp(min=1e-6).log()
        guess.loudness.copy_(solve @ (energy - energy.mean()))
        values[:, 0] -= styles @ guess.shift * frames**0.5
        values[:, 1:] *= (-0.5 * styles @ guess.loudness).exp()[:, None, None]
    # What stands still differs between people in other joints than those that move: each cosine has its own axes.
    by_cosine = values.transpose(0, 1)
    variance, turns = torch.linalg.eigh((by_cosine.transpose(1, 2) @ by_cosine).double() / len(values))
    guess.variance.copy_(variance.clamp(min=0))
    guess.turns.copy_(turns)


def _set_first(first: nn.Linear, guess: GaussianGuess) -> None:
    """A network narrower than the pose cannot see it through random weights: those dilute it among the noise."""
    count = min(first.out_features, guess.basis.shape[1])
    first.weight[:count] = guess.basis[:, :count].T
    nn.init.zeros_(first.bias)
