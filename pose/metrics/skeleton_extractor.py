"""The extractor of BEAT2's FGD (VAESKConv of EMAGE): convolutions that follow the skeleton, for users' own weights.

Letters: F frames, E edges of the skeleton, C channels an edge, T = F / 16 steps.

An edge is a bone with six channels (6D rotation). Each of four layers halves the frames; each output of an edge reads
the edges within two steps of it. After each layer chains of bones are merged in pairs, from 55 edges to 35, 20 and 20;
the fourth layer keeps them apart again by joints of more than two bones. Features are the 240 numbers of every step.
The construction is that of Aberman et al. 2020, "Skeleton-Aware Networks for Deep Motion Retargeting".
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pose.metrics.extractors import Double, Extractor
from pose.representations.joints import SMPLX_PARENTS

Edges = list[tuple[int, int]]
_REACH = 2  # steps between edges that a convolution joins
_GROWTH = (1, 1, 2, 1)  # of the channels an edge, by layer


class SkeletonEncoder(Extractor):
    """BEAT2: (1, F, 330) 6D rotations of SMPL-X's 55 joints, not normalised, global orientation in; 240 features.

    `features` takes one file (1, F, 330), cuts F to a multiple of 32 as released and returns (F / 16, 240).
    """

    frames, width = 0, 330

    def __init__(self) -> None:
        super().__init__()
        count = len(SMPLX_PARENTS)
        # The root's own rotation hangs on an edge to a joint that does not exist.
        edges: Edges = [(0, count), *((parent, joint) for joint, parent in enumerate(SMPLX_PARENTS) if joint)]
        channels, layers = 6, []
        for place, growth in enumerate(_GROWTH):
            last = place == len(_GROWTH) - 1
            merged, shorter = _merged(edges, last)
            layers.append(nn.Sequential(_SkeletonLayer(edges, merged, channels, channels * growth)))
            channels *= growth
            edges = edges if last else shorter
        self.layers = nn.ModuleList(layers)

    def forward(self, sixd: Tensor) -> Tensor:
        """(B, F, 330) to (B * T, 240)."""
        x = sixd.transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return x.transpose(1, 2).flatten(0, 1)

    @torch.no_grad()
    def features(self, windows: ArrayLike) -> Double:
        values = np.asarray(windows)
        kept = values.shape[1] // 32 * 32 if values.ndim == 3 else 0
        if not kept:
            raise ValueError(f"a file must be (1, F, 330) with at least 32 frames, got {values.shape}")
        return super().features(values[:, :kept])


class _SkeletonConv(nn.Module):
    """A convolution over time whose weights join near edges only; `mask` is stored with the weights."""

    def __init__(self, near: list[list[int]], inner: int, outer: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.weight = nn.Parameter(torch.zeros(outer * len(near), inner * len(near), kernel))
        self.bias = nn.Parameter(torch.zeros(outer * len(near)))
        mask = torch.zeros_like(self.weight)
        for edge, others in enumerate(near):
            for other in others:
                mask[edge * outer : (edge + 1) * outer, other * inner : (other + 1) * inner] = 1
        self.mask = nn.Parameter(mask, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv1d(x, self.weight * self.mask, self.bias, stride=2, padding=self.padding)


class _SkeletonPool(nn.Module):
    """The mean of the edges of each chain, as a matrix stored with the weights."""

    def __init__(self, merged: list[list[int]], edges: int, channels: int) -> None:
        super().__init__()
        matrix = torch.zeros(len(merged), edges)
        for row, chain in enumerate(merged):
            matrix[row, chain] = 1.0 / len(chain)
        self.weight = nn.Parameter(torch.kron(matrix, torch.eye(channels)), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ x


class _SkeletonLayer(nn.Module):
    """tanh(pool(group norm(convolution of 4 frames) + convolution of 1 frame)), half the frames."""

    def __init__(self, edges: Edges, merged: list[list[int]], inner: int, outer: int) -> None:
        super().__init__()
        near = _near(edges)
        self.residual = nn.Sequential(_SkeletonConv(near, inner, outer, 4, 1), nn.GroupNorm(10, outer * len(edges)))
        self.shortcut = _SkeletonConv(near, inner, outer, 1, 0)
        pool = [] if len(merged) == len(edges) else [_SkeletonPool(merged, len(edges), outer)]
        self.common = nn.Sequential(*pool, nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.common(self.residual(x) + self.shortcut(x))
        return result


def _near(edges: Edges) -> list[list[int]]:
    """For each edge the edges within two steps; edges that share a joint are one step apart."""
    touch = np.array([[bool(set(a) & set(b)) for b in edges] for a in edges])
    within = np.linalg.matrix_power(touch.astype(int), _REACH) > 0
    return [np.flatnonzero(row).tolist() for row in within]


def _merged(edges: Edges, last: bool) -> tuple[list[list[int]], Edges]:
    """Which edges become one, in the order of the new ones, and the new edges.

    A chain ends at a tip and at a joint of more than two edges. Its edges are merged in pairs, the first alone if they
    are odd in number; in the last layer the whole chain is one.
    """
    degree = np.bincount(np.array(edges).ravel())
    chains: list[list[int]] = []

    def walk(joint: int, chain: list[int]) -> None:
        if degree[joint] > 2 and joint != 0:
            chains.append(chain)
            chain = []
        if degree[joint] == 1:
            chains.append(chain)
            return
        for number, (start, end) in enumerate(edges):
            if start == joint:
                walk(end, [*chain, number])

    walk(0, [])
    if last:
        return chains, edges
    merged = []
    for chain in chains:
        odd = len(chain) % 2
        merged += [chain[:1]] * odd + [chain[i : i + 2] for i in range(odd, len(chain), 2)]
    return merged, [(edges[chain[0]][0], edges[chain[-1]][1]) for chain in merged]
