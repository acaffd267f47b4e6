"""The statistics that `GaussianGuess` needs, from training windows; and a start for networks narrower than a pose.

Letters: W windows, F frames, P width of what is denoised, E axes or width, K styles and speakers, A, H, T as there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose.models.denoiser import GestureDenoiser
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.models.gaussian_guess import GaussianGuess, warped_cosines
from pose.models.holistic import HolisticDiffusion
from pose.models.motion_codec import MotionCodec
from train.windows import GestureWindows

WINDOWS = 1024  # that the statistics are taken from: covariances of a hundred axes want no more
RIDGES = (1e1, 1e2, 1e3, 1e4, 1e5, 1e6)  # that the penalty of regressions is chosen from, on clips left out
LEFT_OUT = 4  # every fourth clip
REGRESSED = 20_000  # frames that regressions are taken from: neighbours say the same
STILL = 0.1  # of the mean speed: slower is as good as still


@torch.no_grad()
def fit_guess(
    model: GestureDenoiser, windows: GestureWindows, codec: MotionCodec | None, emphasis: float = 1.0
) -> None:
    """Set the statistics of the model's guesses, and its first layer to the principal axes where it is alone.

    `emphasis`: how much more than it is heard the pace follows speech; regression makes it follow too little.

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
    styles, speech, clips = [], [], []
    for index in range(0, len(windows), max(1, len(windows) // WINDOWS)):
        item = windows[index]
        vectors = item["vectors"].to(model.device)
        if codec is not None:
            vectors = codec.encode(vectors[None])[0]
        styles.append(item["style"].to(model.device))
        speech.append(model.heard(item["speech"][None].to(model.device))[0])
        clips.append(windows.places[index][0])
        for part, found in zip(vectors.split(sizes, -1), parts, strict=True):
            found.append(part)
    for guess, found, first in zip(guesses, parts, firsts, strict=True):
        about = torch.stack(styles), torch.stack(speech), torch.tensor(clips)
        set_guess(guess, torch.stack(found), *about, emphasis)
        if first is not None:
            _set_first(first, guess)


@torch.no_grad()
def set_guess(
    guess: GaussianGuess, windows: Tensor, styles: Tensor, speech: Tensor, clips: Tensor, emphasis: float = 1.0
) -> None:
    """Fit one guess to windows (W, F, P), what is said of them (W, K), their speech (W, F, A) and clips (W,)."""
    # 1. Axes of poses and of speech
    flat, frames = windows.flatten(0, 1), windows.shape[1]
    covariance = (flat.T @ flat).double() / len(flat)  # single precision does not converge where many axes stand still
    guess.basis.copy_(torch.linalg.eigh(covariance)[1].flip(1)[:, : guess.basis.shape[1]])
    sound = speech.flatten(0, 1).double()
    guess.heard_mean.copy_(sound.mean(0))
    scale = sound.std(0).clamp(min=1e-3)
    spread, axes = torch.linalg.eigh(((sound - sound.mean(0)) / scale).T.cov())
    whole = guess.heard_whole
    count = guess.heard_axes.shape[1] - whole
    found = axes.flip(1)[:, :count] / scale[:, None] / spread.flip(0)[:count].clamp(min=1e-6).sqrt()
    guess.heard_axes.copy_(torch.cat([found, torch.diag(1 / scale)[:, len(scale) - whole :]], 1))
    # 2. The mean, by style, by speaker and by speech; the shortest solutions share what styles and speakers have in
    # common, and say 0 for nothing
    values = windows @ guess.basis
    solve = torch.linalg.pinv(styles.double()).float() if styles.shape[1] else None
    if solve is not None:
        guess.shift.copy_(solve @ values.mean(1))
        values = values - (styles @ guess.shift)[:, None]
    heard = guess.context_of(speech)
    some = slice(None, None, max(1, len(values) * frames // REGRESSED))
    inputs = heard[some].flatten(0, 1)
    number = clips[some].unique(return_inverse=True)[1].to(values.device)  # of the clips that are there
    left_out = (number % LEFT_OUT == LEFT_OUT - 1)[:, None].expand(-1, frames).flatten()
    guess.sway.copy_(ridge(inputs, values[some].flatten(0, 1), left_out))
    values = values - heard @ guess.sway
    # 3. The pace, by how fast is moved
    speed = torch.gradient(values[some], dim=1)[0].norm(dim=-1)
    speed = (speed / speed.mean() + STILL).log()
    speed = speed - speed.mean(1, keepdim=True)
    guess.pace.copy_(emphasis * ridge(inputs, speed.flatten()[:, None], left_out)[:, 0])
    # 4. Variances in its cosines. What stands still differs between people in other joints than those that move: each
    # cosine has its own axes.
    values = warped_cosines(heard @ guess.pace) @ values
    if solve is not None:
        energy = values[:, 1:].square().sum((1, 2)).clamp(min=1e-6).log()
        guess.loudness.copy_(solve @ (energy - energy.mean()))
        values[:, 1:] *= (-0.5 * styles @ guess.loudness).exp()[:, None, None]
    by_cosine = values.transpose(0, 1)
    variance, turns = torch.linalg.eigh((by_cosine.transpose(1, 2) @ by_cosine).double() / len(values))
    guess.variance.copy_(variance.clamp(min=0))
    guess.turns.copy_(turns)


def ridge(inputs: Tensor, targets: Tensor, left_out: Tensor) -> Tensor:
    """Weights (I, O) from (n, I) to (n, O), with the penalty that does best on the rows `left_out` (n,) bool.

    Zeros where nothing does better than 0 there, or nothing is left out.
    """
    inputs, targets = inputs.double(), targets.double()

    def solved(rows: Tensor, penalties: tuple[float, ...]) -> list[Tensor]:
        x, y = inputs[rows], targets[rows]
        few = len(x) < x.shape[1]  # Xᵀ (X Xᵀ + p)⁻¹ Y is the same as (Xᵀ X + p)⁻¹ Xᵀ Y, and the smaller one is solved
        square, right = (x @ x.T, y) if few else (x.T @ x, x.T @ y)
        eye = torch.eye(len(square), dtype=square.dtype, device=square.device)
        found = [torch.cholesky_solve(right, torch.linalg.cholesky(square + penalty * eye)) for penalty in penalties]
        return [x.T @ part for part in found] if few else found

    best = torch.zeros(inputs.shape[1], targets.shape[1], dtype=inputs.dtype, device=inputs.device)
    if not left_out.any() or left_out.all():
        return best.float()
    tried = solved(~left_out, RIDGES)
    errors = [(targets[left_out] - inputs[left_out] @ weights).square().mean() for weights in tried]
    place = int(torch.stack(errors).argmin())
    if errors[place] < targets[left_out].square().mean():
        (best,) = solved(torch.ones_like(left_out), (RIDGES[place],))
    return best.float()


def _set_first(first: nn.Linear, guess: GaussianGuess) -> None:
    """A network narrower than the pose cannot see it through random weights: those dilute it among the noise."""
    count = min(first.out_features, guess.basis.shape[1])
    first.weight[:count] = guess.basis[:, :count].T
    nn.init.zeros_(first.bias)
