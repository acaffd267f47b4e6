"""Attention itself, beyond what the networks' tests show."""

import torch

from avatar.models.attention import MAX_SEQUENCES, attend


def test_more_sequences_than_a_kernel_takes_are_done_in_parts():
    query, key, value = (torch.randn(MAX_SEQUENCES + 3, 2, 4) for _ in range(3))
    whole = attend(query, key, value, heads=2)
    for part in (slice(0, 5), slice(MAX_SEQUENCES - 2, MAX_SEQUENCES + 3)):
        torch.testing.assert_close(whole[part], attend(query[part], key[part], value[part], heads=2))
