"""Which samples a step has: a function of seed and step, the same however many processes share them."""

import numpy as np
import pytest
import torch

from train.batches import GROUP_BLOCK, Draws, Sampled, StepBatches


def indices(batches):
    return [[index for index, _ in batch] for batch in batches]


def test_batches_are_a_function_of_the_step():
    whole = list(StepBatches([0] * 10, 4, 12, seed=3))
    assert list(StepBatches([0] * 10, 4, 12, seed=3, first=5)) == whole[5:]
    seen = [index for batch in indices(whole) for index in batch]
    for epoch in range(4):
        assert sorted(seen[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert seen[:10] != seen[10:20] and list(StepBatches([0] * 10, 4, 12, seed=4)) != whole
    assert [place for batch in whole for _, place in batch] == list(range(48))


@pytest.mark.parametrize("processes,accumulate", [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_micro_steps_share_the_same_step(processes, accumulate):
    groups = ["a", "b", "b"] * 5
    whole = list(StepBatches(groups, 4, 9, seed=1, first=2))
    parts = [list(StepBatches(groups, 4, 9, 1, 2, accumulate, process, processes)) for process in range(processes)]
    assert all(len(part) == 7 * accumulate for part in parts)
    for step in range(7):
        micro = [part[step * accumulate + k] for k in range(accumulate) for part in parts]
        assert sum(micro, []) == whole[step]
        assert len({len(part) for part in micro}) == 1


def test_a_step_has_one_group_and_groups_have_their_epochs():
    groups = [(64, 64)] * 3 + [(128, 64)] * 9
    steps = indices(StepBatches(groups, 2, GROUP_BLOCK + 40, seed=0))
    first = [batch for batch in steps if groups[batch[0]] == (64, 64)]
    assert all(groups[a] == groups[b] for a, b in steps)
    assert 0.22 < len(first) / len(steps) < 0.28
    seen = sum(first, [])
    assert all(sorted(seen[k : k + 3]) == [0, 1, 2] for k in range(0, 60, 3))
    # The second block of group draws, begun in its middle.
    late = indices(StepBatches(groups, 2, GROUP_BLOCK + 40, seed=0, first=GROUP_BLOCK + 17))
    assert late == steps[GROUP_BLOCK + 17 :]


def test_unequal_parts_are_refused():
    with pytest.raises(ValueError, match="a batch of 4 cannot be cut .* 3 processes .* a multiple of 3"):
        StepBatches([0], 4, 1, 0, processes=3)


class Noisy:
    groups = ["x", "x"]

    def __len__(self):
        return 2

    def draw(self, index, generator):
        return {"value": generator.normal() + 10 * index}


def test_random_numbers_belong_to_the_place():
    data = Sampled(Noisy(), seed=5)
    one, again, other = data[1, 7], data[1, 7], data[1, 8]
    assert one["value"] == again["value"] != other["value"] and one["draw"] == again["draw"] != other["draw"]
    assert Sampled(Noisy(), seed=6)[1, 7]["value"] != one["value"]
    assert data.groups == ["x", "x"] and Sampled([{}] * 3, 0).groups == [0, 0, 0]


def test_draws_do_not_depend_on_their_neighbours():
    seeds = torch.tensor([3, 9])
    both, second = Draws(seeds), Draws(seeds[1:])
    for name, shape in (("normal", (4, 2)), ("uniform", ()), ("normal", (3,))):
        np.testing.assert_array_equal(getattr(both, name)(*shape)[1], getattr(second, name)(*shape)[0])
    assert torch.equal(both.integers(2, 500)[1:], second.integers(2, 500))
    assert abs(float(Draws(seeds).normal(20000).std()) - 1) < 0.02
