"""Where the loss of decoded pictures looks."""

import torch

from train.avatar_task import _squares


def test_the_square_with_the_most_weight_is_compared():
    weight = torch.zeros(2, 1, 3, 8, 8)
    weight[0, ..., 5:8, 1:4] = 1  # all of it in one 3 x 3 square, in another place for each clip
    weight[1, :, 1, 0:3, 4:7] = 2
    places = torch.arange(64.0).reshape(1, 1, 1, 8, 8).expand(2, 4, 3, 8, 8)
    cut, same = _squares(3, weight, places, weight)
    assert cut.shape == (2, 4, 3, 3, 3)
    assert cut[0, 0, 0, 0, 0] == 5 * 8 + 1 and cut[1, 0, 0, 0, 0] == 4
    assert same.sum() == weight.sum()


def test_without_a_side_all_is_compared():
    weight = torch.rand(1, 1, 2, 4, 6)
    for side in (None, 4, 9):
        assert torch.equal(_squares(side, weight, weight)[0], weight)
