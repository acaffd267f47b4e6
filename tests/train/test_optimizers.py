"""Muon: orthogonal steps for matrices, AdamW's for the rest."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from train.config import LoopConfig
from train.optimizers import ADAMW_SHARE, NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, Muon, make_optimizer, orthogonal


def plainly(matrix: Tensor) -> Tensor:
    """Newton and Schulz as published, each step on the matrix itself."""
    x, (a, b, c) = matrix / matrix.norm(), NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


@pytest.mark.parametrize("shape", [(16, 16), (24, 216), (96, 24)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonal(matrix * 1e-3)
    values = torch.linalg.svdvals(made)
    assert values.max() < 1.25
    assert values.median() > 0.65
    expected = plainly(matrix) if shape[0] <= shape[1] else plainly(matrix.T).T
    torch.testing.assert_close(made, expected, atol=2e-3, rtol=0)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 1))


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, begin: int = 0) -> float:
    loss = torch.zeros(())
    for step in range(begin, begin + steps):
        x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x.roll(1, -1).tanh()).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_muon_learns() -> None:
    model = network()
    optimizer = make_optimizer(
        list(model.parameters()), LoopConfig(optimizer="muon", learning_rate=0.02), model[3].parameters()
    )
    first = trained(model, optimizer, 1)
    assert trained(model, optimizer, 80, 1) < 0.7 * first


def test_edges_and_vectors_step_as_adamw_does() -> None:
    model, other = network(), network()
    betas, rate = (0.9, 0.99), 0.02
    muon = Muon(model.parameters(), rate, betas, 0.1, [*model[0].parameters(), *model[2].parameters()])
    plain = torch.optim.AdamW(
        [*other[0].parameters(), *other[2].parameters(), other[3].bias],
        rate * ADAMW_SHARE, betas, eps=1e-8, weight_decay=0.1,
    )  # fmt: skip
    for turn in range(3):
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(turn))
            q.grad = p.grad.clone()
        muon.step()
        plain.step()
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        if name != "3.weight":  # the one matrix left
            torch.testing.assert_close(p, q)
    assert not torch.equal(model[3].weight, other[3].weight)


def test_saved_and_read_it_goes_on_the_same() -> None:
    model = network()
    optimizer = Muon(model.parameters(), 0.02, (0.9, 0.99), 0.01)
    trained(model, optimizer, 3)
    again = copy.deepcopy(model)
    resumed = Muon(again.parameters(), 0.02, (0.9, 0.99), 0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert trained(model, optimizer, 3, 3) == trained(again, resumed, 3, 3)


def test_an_unknown_optimiser_is_named() -> None:
    with pytest.raises(ValueError, match="adamw, adamw8bit, muon"):
        LoopConfig(optimizer="sgd")
