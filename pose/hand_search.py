"""Where a hand may be, and which of the hands that were seen are the left and the right one of this person.

The holistic graph looks for a hand once, where the body model puts the wrist, and gives up when that region is off.
Here regions of several sizes and angles around each wrist are proposed, and all answers of the landmark model are
judged together: hand against body side, distance from the body's wrist, and no hand taken twice.

A region is a square in image pixels, turned clockwise; all points are (N, 2) or (N, 3) pixels, x right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PALM = [0, 1, 5, 9, 13, 17]
SAME_HAND = 0.4  # mean distance of the palms' points, in hand lengths, below which two answers are one hand
REACH = 0.75  # farthest a hand's wrist may lie from the body's wrist, in shoulder widths
WRONG_SIDE = 0.35  # cost of a hand whose handedness fits the other arm, in shoulder widths of distance


class Region(NamedTuple):
    """A square: centre and side in pixels, clockwise angle in radians (0: hand or face upright)."""

    x: float
    y: float
    size: float
    angle: float


@dataclass(frozen=True)
class Hand:
    """One answer of the hand model: `points` (21, 3) pixels, z relative to the wrist; `world` (21, 3) metres;
    `score` presence in [0, 1]; `right` probability in [0, 1] that it is a right hand."""

    points: Array
    world: Array
    score: float
    right: float

    @property
    def length(self) -> float:
        """Size of the hand in pixels: the palm's two edges, which fingers do not change."""
        palm = self.points[[0, 5, 17], :2]
        return float(np.linalg.norm(palm - np.roll(palm, 1, axis=0), axis=1).sum() * 0.75)

    def fits(self, side: str) -> float:
        """Probability in [0, 1] that it is the hand of this `side`, "left" or "right"."""
        return self.right if side == "right" else 1 - self.right


def region_around(points: Array, angle: float, scale: float, shift: float = 0.0) -> Region:
    """The square around `points` in axes turned by `angle`, enlarged by `scale`, moved up by `shift` sides."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])  # image axes to the region's axes
    inside = points[:, :2] @ turn.T
    low, high = inside.min(axis=0), inside.max(axis=0)
    side = float((high - low).max())
    x, y = ((low + high) / 2 - np.array([0.0, shift * side])) @ turn
    return Region(float(x), float(y), side * scale, float(angle))


def hand_region(points: Array) -> Region:
    """The region the landmark model was trained on, from the landmarks of the hand: knuckles up, twice its size."""
    knuckles = points[[5, 9, 13], :2].mean(axis=0) - points[0, :2]
    return region_around(points, float(np.arctan2(knuckles[0], -knuckles[1])), 2.0, 0.1)


def face_region(points: Array) -> Region:
    """The region of the face model from its landmarks: eyes level, one and a half times the face."""
    eyes = points[263, :2] - points[33, :2]
    return region_around(points, float(np.arctan2(eyes[1], eyes[0])), 1.5)


def wrist_regions(elbow: Array, wrist: Array, knuckles: Array, unit: float) -> list[Region]:
    """Regions of three sizes and several angles around one wrist; `unit` is the shoulder width in pixels."""
    along = knuckles - wrist
    if np.linalg.norm(along) < 0.05 * unit:  # the body model folded the hand up: follow the forearm
        along = wrist - elbow
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    angle = float(np.arctan2(along[0], -along[1]))
    regions = []
    for size in (0.9, 0.65, 1.25):
        x, y = wrist + along * 0.2 * unit
        regions += [Region(float(x), float(y), size * unit, angle + turn) for turn in (0.0, -0.8, 0.8, np.pi)]
    return regions


def same_hand(first: Hand, second: Hand, within: float = SAME_HAND) -> bool:
    """Whether two answers are one hand, by their palms: the fingers of folded hands lie on each other."""
    apart = np.linalg.norm(first.points[PALM, :2] - second.points[PALM, :2], axis=1).mean()
    return bool(apart < within * max(first.length, second.length))


def distinct(hands: Sequence[Hand]) -> list[Hand]:
    """The best-scored answer of every hand."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda h: -h.score):
        if not any(same_hand(hand, other) for other in kept):
            kept.append(hand)
    return kept


def assign(hands: Sequence[Hand], wrists: dict[str, Array], unit: float) -> dict[str, Hand]:
    """Which hand belongs to which wrist ("left", "right"), by presence, distance and handedness; each at most once.

    `wrists` are the body's wrists (2,) in pixels, `unit` the shoulder width in pixels.
    """

    def worth(hand: Hand | None, side: str) -> float:
        if hand is None:
            return 0.0
        distance = float(np.linalg.norm(hand.points[0, :2] - wrists[side])) / unit
        if distance > REACH or not 0.3 < hand.length / (0.42 * unit) < 2.5:
            return -1.0
        return hand.score - distance - WRONG_SIDE * (1 - hand.fits(side))

    best: dict[str, Hand] = {}
    best_worth = 0.0
    options: list[Hand | None] = [None, *distinct(hands)]
    for left in options:
        for right in options:
            if left is not None and left is right:
                continue
            total = worth(left, "left") + worth(right, "right")
            if total > best_worth:
                best_worth = total
                best = {side: hand for side, hand in (("left", left), ("right", right)) if hand is not None}
    return best
