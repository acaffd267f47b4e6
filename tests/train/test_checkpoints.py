"""What training leaves on disk: sharded weights made whole, averages, experiments that may go on."""

import os
from dataclasses import dataclass, field

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from train.checkpoints import Averaged, forget_after, same_experiment, whole_weights
from train.config import LoopConfig


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone, as FSDP needs one."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_sharded_weights_are_whole_within_and_averages_survive(group):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = [p.detach().clone() for p in module.parameters()]
    fully_shard(module[0], mesh=group)
    fully_shard(module, mesh=group)
    averaged = Averaged(module, 0.1)
    for _ in range(2):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(1.0)
        averaged.step()  # the first takes the new weights, the second 0.1 of those and 0.9 of the newer
    with averaged, whole_weights(module):
        inside = list(module.parameters())
        assert not any(isinstance(p, DTensor) for p in inside)
        for old, now in zip(before, inside, strict=True):
            torch.testing.assert_close(now, old + 1.9)
    assert all(isinstance(p, DTensor) for p in module.parameters())
    # Saved whole, loaded into shares again.
    state = averaged.state_dict()
    assert not any(isinstance(p, DTensor) for p in state["shadow_params"])
    again = Averaged(module, 0.1)
    again.load_state_dict(state)
    for a, b in zip(again.ema.shadow_params, averaged.ema.shadow_params, strict=True):
        assert isinstance(a, DTensor) and torch.equal(a.full_tensor(), b.full_tensor())


def test_plain_weights_are_left_alone():
    module = nn.Linear(2, 2)
    with Averaged(module, 0.0), whole_weights(module):
        assert isinstance(module.weight, nn.Parameter)


@dataclass(frozen=True)
class Experiment:
    width: int = 3
    loop: LoopConfig = field(default_factory=LoopConfig)


def test_an_experiment_goes_on_with_its_own_settings(tmp_path):
    path = tmp_path / "config.yaml"
    same_experiment(path, Experiment())
    # A field that is newer than the run has its default in it; steps may grow, and micro-steps change nothing.
    path.write_text(os.linesep.join(line for line in path.read_text().splitlines() if "optimizer" not in line))
    same_experiment(path, Experiment(loop=LoopConfig(steps=7, accumulate=2)))
    with pytest.raises(ValueError, match="other settings .width, loop.seed."):
        same_experiment(path, Experiment(4, LoopConfig(seed=1)))


def test_log_lines_that_will_come_again_are_forgotten(tmp_path):
    path = tmp_path / "losses.jsonl"
    path.write_text('{"step": 1}\n{"step": 4}\n{"step": 5}\n{"st')
    forget_after(path, 4)
    assert path.read_text() == '{"step": 1}\n{"step": 4}\n'
    forget_after(path, 0)
    assert path.read_text() == ""
