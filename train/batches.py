"""Which samples a step learns from, and the random numbers that belong to them.

Everything random about a sample is drawn from (seed, place), its place counted from the run's first sample, and never
from the process that happens to hold it. A run on eight processes therefore sees the same clips, crops and noise as a
run on one, and a killed run goes on as if it had not been.

Letters: B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

GROUP_BLOCK = 4096  # steps whose groups are drawn together: step n is found without drawing all before it one by one


class RandomDataset(Protocol):
    """A dataset whose items are partly random (crops, dropouts) has this method instead of `__getitem__`, and may have
    `groups`: a label an item, such as its size; all items of a step have the same."""

    def __len__(self) -> int: ...

    def draw(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """One item, a function of index and generator."""
        ...


def seed_of(*numbers: int) -> int:
    """63 random bits that are a function of `numbers`."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Draws:
    """Random numbers of each sample of a batch, from the batch's own "draw" (B,): the same on any device and process.

    Numbers come in the order they are asked for; drawing more for one sample does not move the others'.
    """

    def __init__(self, seeds: Tensor) -> None:
        self.device = seeds.device
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape), standard normal."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._generators]).to(self.device)

    def uniform(self) -> Tensor:
        """(B,) in [0, 1)."""
        return torch.stack([torch.rand((), generator=g) for g in self._generators]).to(self.device)

    def integers(self, low: int, high: int) -> Tensor:
        """(B,) whole numbers from `low` to below `high`."""
        return torch.stack([torch.randint(low, high, (), generator=g) for g in self._generators]).to(self.device)


class StepBatches:
    """A batch sampler: the samples of step n are a function of (seed, n) alone.

    Yields the micro-batches of one process, lists of (index, place). A step's samples are all of one group; groups
    take turns at random, by size. Within a group, epochs are permutations; a rest is not dropped but joined to the
    next epoch. A step is cut into equal parts, one a process and micro-step, so that means over them weigh the same.
    """

    def __init__(
        self,
        groups: Sequence[Hashable],  # one label an item
        batch_size: int,  # of a step, over all processes and micro-steps
        steps: int,
        seed: int,
        first: int = 0,  # step to begin with
        accumulate: int = 1,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        if batch_size % (accumulate * processes):
            raise ValueError(
                f"a batch of {batch_size} cannot be cut into equal parts for {processes} processes and {accumulate} "
                f"micro-steps; make loop.batch_size a multiple of {accumulate * processes}"
            )
        labels = sorted(set(groups), key=str)
        self.members = [np.array([i for i, g in enumerate(groups) if g == label]) for label in labels]
        self.size, self.batch_size, self.steps, self.seed, self.first = len(groups), batch_size, steps, seed, first
        self.accumulate, self.process, self.processes = accumulate, process, processes

    def __len__(self) -> int:
        return max(self.steps - self.first, 0) * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        share = self.batch_size // (self.accumulate * self.processes)
        orders: dict[tuple[int, int], np.ndarray] = {}
        for step, (group, turn) in enumerate(self._turns(), self.first):
            chosen = self._samples(group, turn, orders)
            for part in range(self.accumulate):
                begin = (part * self.processes + self.process) * share
                yield [(chosen[i], step * self.batch_size + i) for i in range(begin, begin + share)]

    def _samples(self, group: int, turn: int, orders: dict[tuple[int, int], np.ndarray]) -> list[int]:
        """Items of a group's batch number `turn`; `orders` remembers the epochs in use."""
        members, chosen = self.members[group], []
        for place in range(turn * self.batch_size, (turn + 1) * self.batch_size):
            epoch = place // len(members)
            if (group, epoch) not in orders:
                for old in [key for key in orders if key[0] == group and key[1] < epoch - 1]:
                    del orders[old]
                # The group last: numpy's seeds of (seed, epoch) and (seed, epoch, 0) are the same.
                orders[group, epoch] = np.random.default_rng([self.seed, epoch, group]).permutation(members)
            chosen.append(int(orders[group, epoch][place % len(members)]))
        return chosen

    def _turns(self) -> Iterator[tuple[int, int]]:
        """The group of each step from the first on, and how many batches of it came before."""
        counts = np.array([len(members) for members in self.members])
        before = np.zeros(len(counts), int)
        for block in range(-(-self.steps // GROUP_BLOCK)):
            stop = min((block + 1) * GROUP_BLOCK, self.steps)
            random = np.random.default_rng([self.seed, block, len(counts), 1])
            drawn = random.choice(len(counts), GROUP_BLOCK, p=counts / counts.sum())[: stop - block * GROUP_BLOCK]
            for step, group in enumerate(drawn.tolist(), block * GROUP_BLOCK):
                if step >= self.first:
                    yield group, int(before[group])
                before[group] += 1


class Sampled(Dataset):
    """A dataset read by (index, place): every item gets its own random numbers, and "draw", a seed for more."""

    def __init__(self, data: Any, seed: int) -> None:
        self.data, self.seed = data, seed

    @property
    def groups(self) -> Sequence[Hashable]:
        return getattr(self.data, "groups", None) or [0] * len(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, chosen: tuple[int, int]) -> dict[str, Any]:
        index, place = chosen
        draw = seed_of(self.seed, place)
        item = self.data.draw(index, np.random.default_rng(draw)) if hasattr(self.data, "draw") else self.data[index]
        return {**item, "draw": torch.tensor(draw)}
