"""The optimisers that `loop.optimizer` names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from train.config import LoopConfig

# Keller Jordan 2024, "Muon: An optimizer for hidden layers in neural networks": coefficients, steps and momentum.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
MOMENTUM = 0.95
# Ours: the step of what is not a matrix, by AdamW, as a share of the matrices'.
ADAMW_SHARE = 0.05


def make_optimizer(
    parameters: list[nn.Parameter],
    loop: LoopConfig,
    edges: Iterable[nn.Parameter] = (),  # of layers that read the input or give the output
) -> torch.optim.Optimizer:
    """AdamW, its version with moments of 8 bits (Dettmers et al. 2022), or Muon."""
    if loop.optimizer == "adamw":
        return torch.optim.AdamW(parameters, loop.learning_rate, loop.betas, weight_decay=loop.weight_decay)
    if loop.optimizer == "muon":
        return Muon(parameters, loop.learning_rate, loop.betas, loop.weight_decay, edges)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ValueError(
            f"loop.optimizer=adamw8bit needs bitsandbytes and a GPU that it supports ({error}); install it, or use "
            "loop.optimizer=adamw"
        ) from None
    return AdamW8bit(parameters, loop.learning_rate, loop.betas, weight_decay=loop.weight_decay)


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal for weights of two axes and more inside a network, AdamW for the others (Jordan 2024).

    A convolution is taken as a matrix of outputs x (inputs x places). `torch.optim.Muon` takes matrices only and works
    in bfloat16, which is slow on processors without its arithmetic; this one works in the weights' own precision. Not
    for FSDP, which would make a share of a matrix orthogonal.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        rate: float,
        betas: tuple[float, float],
        weight_decay: float,
        edges: Iterable[nn.Parameter] = (),  # layers at input and output, for AdamW too
    ) -> None:
        parameters, outside = list(parameters), {id(p) for p in edges}
        matrices = [p for p in parameters if p.ndim >= 2 and id(p) not in outside]
        others = [p for p in parameters if p.ndim < 2 or id(p) in outside]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "lr": rate, "matrices": True},
            {"params": others, "lr": rate * ADAMW_SHARE, "matrices": False},
        ]
        super().__init__([g for g in groups if g["params"]], {"betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("Muon takes no closure; compute the gradients before the step")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if isinstance(weight, DTensor):
                    raise ValueError("loop.optimizer=muon takes whole weights; use loop.optimizer=adamw with FSDP")
                update = (
                    self._matrix(weight, weight.grad)
                    if group["matrices"]
                    else self._adamw(weight, weight.grad, group["betas"])
                )
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _matrix(self, weight: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update = gradient.lerp(state["momentum"], MOMENTUM).flatten(1)  # Nesterov's
        rows, columns = update.shape
        return orthogonal(update).reshape(weight.shape) * math.sqrt(max(1.0, rows / columns))

    def _adamw(self, weight: Tensor, gradient: Tensor, betas: tuple[float, float]) -> Tensor:
        state = self.state[weight]
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - betas[0])
        state["square"].lerp_(gradient.square(), 1 - betas[1])
        count = float(state["step"])
        mean, square = state["mean"] / (1 - betas[0] ** count), state["square"] / (1 - betas[1] ** count)
        return mean / (square.sqrt() + 1e-8)


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix (m, n) with its singular values brought near 1 (0.7 to 1.2), by Newton and Schulz.

    X <- (a + b A + c A²) X with A = X Xᵀ, five times. All of it are polynomials of the first A on the shorter side,
    so they are multiplied there and with the matrix once: a third of the work of a wide one.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=1e-7)
    gram = wide @ wide.T
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    whole, (a, b, c) = one, NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        part = a * one + b * gram + c * (gram @ gram)
        whole, gram = part @ whole, part @ part @ gram
    made = whole @ wide
    return made if matrix.shape[0] <= matrix.shape[1] else made.T
