"""The prior with its layers chosen anew where it is in doubt: candidates for `LayerChooser`, and their blend.

    out = prior + min(doubt / WHOLE_DOUBT, 1) * sum over layers of share * (layer - prior)

Letters: F frames, L layers (`LAYERS`), H W picture size, h w size the network works at, S maps of bones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avatar.models.layer_chooser import CELL, LayerChooser, mean_around
from avatar.warp.fill import push_pull
from avatar.warp.prior import THREADS, GeometricPrior, Piece, Prior
from pose.keypoints import HAND_EDGES, HANDS, Keypoints

LAYERS = (
    "background", "trunk and head", "left upper arm", "left forearm and hand", "right upper arm",
    "right forearm and hand",
)  # fmt: skip
TRUNK, ARM_LAYERS = 1, slice(2, 6)
MIRRORED = (0, 1, 4, 5, 2, 3)  # LAYERS of the mirrored picture
AREA = 256  # square root of h w; ours
MULTIPLE = 16  # of h and w
SOLID = 0.9  # coverage from which a layer's colour is its own
FEW = 12  # pixels at h w: a layer with fewer has no colour to continue
# Bones as groups of segments, and the reach of their maps in shoulder widths; ours.
SHOULDERS, HIPS, NOSE = (5, 6), (11, 12), 0
ARMS = ((5, 7), (7, 9), (6, 8), (8, 10))
ARM_REACH, HAND_REACH, TRUNK_REACH = 0.15, 0.1, 0.2
MIRRORED_BONES = (2, 3, 0, 1, 5, 4, 6, 7, 8)
BONE_MAPS = len(MIRRORED_BONES)
# Pixels of h w by which each of LAYERS may be seen beyond its own edge; ours. The trunk's cloth closes gaps beside
# arms; skin and cloth of arms that go further than a pixel hang below elbows.
REACH = (0, 16, 1, 1, 1, 1)
BEFORE_ARMS = 3  # of the trunk where an arm is
HAND_MAPS, HEAD_MAP = slice(4, 6), slice(8, 9)  # of the maps of bones
# Nearness from which hands begin to be left alone, and are (0.09 and 0.04 shoulder widths from their bones): no other
# layer shows fingers. Nearness from which no background is shown in place of hair and neck (0.6 and 0.46 from the line
# of nose and neck): small pictures, whose edges are doubted further in, lost the top of the head. Ours.
HAND_SPARED, HEAD_SPARED = (0.4, 0.7), (0.05, 0.1)
View: TypeAlias = tuple[slice, slice, slice, slice]
WHOLE: View = (slice(None),) * 4
WHOLE_DOUBT = 0.5  # of the prior, from which a choice counts whole: half of a sleeve over a wall is a ghost; ours
CHUNK = 2  # frames a thread handles at once: with four a run of 10 s needs 0.6 GB more and is no quicker


@dataclass(frozen=True)
class Candidates:
    """What `LayerChooser.forward` takes, at h w; F first everywhere."""

    colours: Tensor  # (F, 1 + L, 3, h, w)
    coverage: Tensor  # (F, L, h, w)
    sure: Tensor  # (F, L, h, w)
    doubt: Tensor  # (F, 1, h, w)
    bones: Tensor  # (F, S, h / 2, w / 2)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.colours, self.coverage, self.sure, self.doubt, self.bones))


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """h w for pictures H W."""
    scale = AREA / math.sqrt(size[0] * size[1]) / MULTIPLE
    return max(round(size[0] * scale), 1) * MULTIPLE, max(round(size[1] * scale), 1) * MULTIPLE


def bone_maps(keypoints: Keypoints, size: tuple[int, int]) -> Tensor:
    """(F, S, *size): exp(-distance / reach) to arms, hands, shoulders, spine and neck; zero where one is not known."""
    scale = torch.tensor([size[1] / keypoints.size[1], size[0] / keypoints.size[0]])
    points = torch.from_numpy(keypoints.points).float() * scale  # (F, 543, 2)
    known = torch.from_numpy(keypoints.confidence) > 0
    unit = (points[:, SHOULDERS[0]] - points[:, SHOULDERS[1]]).norm(dim=-1).clamp(min=0.1 * size[1])
    neck, hip = points[:, SHOULDERS].mean(1), points[:, HIPS].mean(1)
    rows, columns = torch.arange(size[0])[:, None] + 0.5, torch.arange(size[1]) + 0.5

    def nearness(starts: Tensor, ends: Tensor, reach: float) -> Tensor:  # (F, segments, 2) each -> (F, h, w)
        nearest = torch.full((len(points), *size), math.inf)
        for start, end in zip(starts.unbind(1), ends.unbind(1), strict=True):
            bone = end - start
            x, y = columns - start[:, :1, None], rows - start[:, 1:, None]  # (F, 1, w), (F, h, 1)
            length = bone.square().sum(-1)[:, None, None] + 1e-6
            along = (x * (bone[:, :1, None] / length) + y * (bone[:, 1:, None] / length)).clamp_(0, 1)
            across_x, across_y = x - along * bone[:, :1, None], y - along * bone[:, 1:, None]
            nearest = torch.minimum(nearest, across_x.square_().addcmul_(across_y, across_y))
        return torch.exp(-nearest.sqrt() / (reach * unit)[:, None, None])

    maps = []
    for a, b in ARMS:
        there = (known[:, a] & known[:, b])[:, None, None]
        maps.append(nearness(points[:, [a]], points[:, [b]], ARM_REACH) * there)
    starts, ends = ([edge[n] for edge in HAND_EDGES] for n in (0, 1))
    for hand in HANDS.values():
        mine, there = points[:, hand], known[:, hand].all(1)[:, None, None]
        maps.append(nearness(mine[:, starts], mine[:, ends], HAND_REACH) * there)
    maps.append(nearness(points[:, [SHOULDERS[0]]], points[:, [SHOULDERS[1]]], TRUNK_REACH))
    maps.append(nearness(neck[:, None], hip[:, None], 1.5 * TRUNK_REACH))
    maps.append(nearness(points[:, [NOSE]], neck[:, None], TRUNK_REACH))
    return torch.stack(maps, 1)


def candidates(prior: Prior, pieces: Sequence[Piece], keypoints: Keypoints) -> Candidates:
    """What the network sees of frames, from `GeometricPrior.render_layers`; a missing layer is the bare prior."""
    size = working_size(keypoints.size)
    frames, device = len(prior), prior.frames.device

    def small(x: Tensor) -> Tensor:
        return _mean_cells(x, size)

    own = small(prior.frames)
    colours = own[:, None].repeat(1, 1 + len(LAYERS), 1, 1, 1)
    coverage = torch.zeros(frames, len(LAYERS), *size, device=device)
    sure = torch.zeros_like(coverage)
    for piece in pieces:
        place = LAYERS.index(piece.name)
        alpha = small(piece.coverage)
        coverage[:, place], sure[:, place] = alpha[:, 0], small(piece.sure)[:, 0]
        colours[:, 1 + place] = _continued(small(piece.colour), alpha, own)
    maps = bone_maps(keypoints, (size[0] // CELL, size[1] // CELL)).to(device)
    return Candidates(colours, coverage, sure, 1 - small(prior.confidence), maps)


def _mean_cells(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(F, C, H, W) as `interpolate(mode="area")` makes it, in a third of the time where sides are halved."""
    if x.shape[2:] != (2 * size[0], 2 * size[1]):
        return functional.interpolate(x, size, mode="area")
    rows = x[:, :, ::2] + x[:, :, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)


def _continued(colour: Tensor, alpha: Tensor, otherwise: Tensor) -> Tensor:
    """A layer's colours (F, 3, h, w) where it covers, smoothly continued beyond; `otherwise` if it covers nothing."""
    if bool((alpha > SOLID).all()):
        return (colour / alpha).clamp(0, 1)
    solid = (alpha > SOLID).float()
    own = (colour / alpha.clamp(min=1e-3)).clamp(0, 1)
    out = otherwise.clone()
    for frame in range(len(colour)):
        known = solid[frame, 0].cpu().numpy()
        if known.sum() < FEW:
            continue
        values = own[frame].permute(1, 2, 0).cpu().numpy() * known[..., None]
        beyond = push_pull(np.ascontiguousarray(values), known).clip(0, 1)
        out[frame] = torch.from_numpy(beyond).permute(2, 0, 1).to(out)
    return torch.lerp(out, own, solid)


def _enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    """(F, C, h, w) at `size`, between pixels; with channels last it takes a third of the time."""
    return functional.interpolate(x.contiguous(memory_format=torch.channels_last), tuple(size), mode="bilinear")


def full_colours(piece: Piece, continued: Tensor, view: View = WHOLE) -> Tensor:
    """Colours (F, 3, H, W) of a layer in whole frames, from those of its candidate (F, 3, h, w) where it is
    continued; `view`: a part of them."""
    beyond = _enlarged(continued, piece.colour.shape[2:])[view]
    coverage = piece.coverage[view]
    own = piece.colour[view] / coverage.clamp(min=SOLID)
    return torch.lerp(beyond, own, ((coverage - SOLID) / (1 - SOLID)).clamp(0, 1)).clamp(0, 1)


def blended(prior: Prior, pieces: Sequence[Piece], shares: Tensor, colours: Tensor) -> Tensor:
    """Frames (F, 3, H, W) with each layer's share (F, L, h, w) in place of the prior, as far as that is in doubt;
    `colours` are the candidates'."""
    doubt = ((1 - prior.confidence) / WHOLE_DOUBT).clamp(max=1)
    change = torch.zeros_like(prior.frames)
    whole = _enlarged(shares, prior.frames.shape[2:])
    for piece in pieces:
        place = LAYERS.index(piece.name)
        share = whole[:, place : place + 1] * doubt
        seen = share.amax((0, 1)) > 1 / 255
        rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
        if len(rows) == 0:
            continue
        box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        view = (slice(None), slice(None), *box)
        layer = full_colours(piece, colours[:, 1 + place], view)
        change[view].addcmul_(share[view], layer - prior.frames[view])
    return (prior.frames + change).clamp(0, 1)


def held_back(shares: Tensor, seen: Candidates) -> Tensor:
    """Shares (F, L, h, w) that end REACH beyond a layer's edge, leave hands alone, show no background in the head."""

    def away(part: slice, spared: tuple[float, float]) -> Tensor:
        near = functional.interpolate(seen.bones[:, part].amax(1, keepdim=True), shares.shape[2:], mode="bilinear")
        return 1 - ((near - spared[0]) / (spared[1] - spared[0])).clamp(0, 1)

    within = torch.cat([_grown(seen.coverage[:, n : n + 1], reach) for n, reach in enumerate(REACH)], 1)
    arms = seen.coverage[:, ARM_LAYERS].amax(1)  # the trunk ends sooner before them: no patch of cloth on skin
    near = _grown(seen.coverage[:, TRUNK : TRUNK + 1], BEFORE_ARMS)[:, 0]
    within[:, TRUNK] = torch.maximum(near, within[:, TRUNK] * (1 - arms))
    free = mean_around(within, 3)  # no hard end
    free = free * away(HAND_MAPS, HAND_SPARED)
    background = LAYERS.index("background")
    free[:, background : background + 1] *= away(HEAD_MAP, HEAD_SPARED)
    return shares * free


def _grown(x: Tensor, reach: int) -> Tensor:
    """(F, 1, h, w): the largest of what lies within `reach` pixels in rows and columns."""
    rows = functional.max_pool2d(x, (2 * reach + 1, 1), 1, (reach, 0))  # rows, then columns: the same, sooner
    return functional.max_pool2d(rows, (1, 2 * reach + 1), 1, (0, reach))


class ChosenPrior:
    """A `GeometricPrior` whose layers a network chooses anew where it is in doubt; renders like it."""

    def __init__(self, prior: GeometricPrior, chooser: LayerChooser) -> None:
        if chooser.config.layers != len(LAYERS) or chooser.config.bone_maps != BONE_MAPS:
            raise ValueError(
                f"the layer chooser was trained for {chooser.config.layers} layers and {chooser.config.bone_maps} "
                f"maps of bones, the prior has {len(LAYERS)} and {BONE_MAPS}; train one with train/layer_choice.py"
            )
        self.prior, self.chooser = prior, chooser.eval().to(prior.device)

    def render(self, keypoints: Keypoints) -> Prior:
        """As `GeometricPrior.render`, with the same confidence."""
        parts = [keypoints[slice(start, start + CHUNK)] for start in range(0, len(keypoints), CHUNK)]
        if not parts:
            return self.prior.render(keypoints)
        with ThreadPoolExecutor(THREADS) as pool:
            made = list(pool.map(self._render, parts))
        return Prior(torch.cat([part.frames for part in made]), torch.cat([part.confidence for part in made]))

    @torch.no_grad()
    def _render(self, keypoints: Keypoints) -> Prior:
        prior, pieces = self.prior.render_layers(keypoints)
        seen = candidates(prior, pieces, keypoints)
        shares = held_back(self.chooser.shares(self.chooser(*seen)), seen)
        return Prior(blended(prior, pieces, shares, seen.colours), prior.confidence)
