"""The search for one person's face, body and hands in a picture, by asking the models about many regions of it.

A small model sees what fills its region well, at about the angle it was trained on; so answers are asked for again
about the region that they themselves imply, averaged over neighbouring regions, and looked for in enlarged parts where
the whole picture gave none.

All points are pixels, x right, y down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.hand_search import Hand, Region, assign, face_region, hand_region, same_hand, wrist_regions
from pose.person import Body, extent

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

TILE = 1.5  # finders see faces above a twentieth of their picture; tiles are larger than their spacing by this factor
SURE = 0.99  # presence of a hand above which no other view of it is tried; a hidden wrist gets less than that
SEEN = 0.9  # the same in a video, where time is short
AGREEING = 0.25  # mean distance of palms, in hand lengths, within which two answers read a hand alike
RIGHT_HAND = 0.7  # probability of the side above which likewise
JITTER = (  # growth, turn in radians, shift right and down in sides: regions over which answers are averaged
    (1.0, 0.0, 0.0, 0.0), (0.93, 0.12, 0.01, 0.0), (1.07, -0.12, -0.01, 0.0),
    (1.0, -0.2, 0.0, 0.015), (1.0, 0.2, 0.0, -0.015), (1.12, 0.0, 0.0, 0.0),
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """An image (H, W, 3) uint8 RGB and the same in the models' own form."""

    image: Image
    packet: Any

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return int(self.image.shape[0]), int(self.image.shape[1])


class LandmarkModel(Protocol):
    """Landmarks of one hand, or of one face (a `Hand` of 478 points), in a region of a picture; None when absent."""

    hand: bool

    def __call__(self, picture: Picture, region: Region) -> Hand | None: ...


class Models(Protocol):
    """What the search needs of a set of models."""

    @property
    def face(self) -> LandmarkModel: ...

    @property
    def hand(self) -> LandmarkModel: ...

    def picture(self, image: Image) -> Picture: ...

    def face_regions(self, image: Image) -> list[Region]:
        """Where faces may be."""

    def palms(self, image: Image) -> list[Array]:
        """Hands (21, 3) in the whole image."""

    def body(self, image: Image, corner: tuple[int, int], size: tuple[int, int]) -> Body | None:
        """The body in an image that is a part, at `corner` (x, y), of one of `size` (height, width)."""


def settle(model: LandmarkModel, picture: Picture, region: Region) -> Hand | None:
    """Ask, then ask twice more about the region that the answer itself implies, as a tracker would."""
    answer = model(picture, region)
    for _ in range(2):
        if answer is None:
            return None
        again = model(picture, (hand_region if model.hand else face_region)(answer.points))
        if again is None:
            return answer if model.hand else None
        answer = again
    return answer


def average(model: LandmarkModel, picture: Picture, first: Hand) -> Hand:
    """The median answer over slightly different regions: one answer is off by a hundredth of its region.

    Hands whose wrist is hidden can be read in two ways; answers that read it otherwise than `first` are left out.
    """
    base = (hand_region if model.hand else face_region)(first.points)
    answers = []
    for grow, turn, right, down in JITTER:
        x, y = base.x + right * base.size, base.y + down * base.size
        answer = model(picture, Region(x, y, base.size * grow, base.angle + turn))
        if answer is not None and (not model.hand or same_hand(answer, first, AGREEING)):
            answers.append(answer)
    if len(answers) < 3:
        return first
    return Hand(
        np.median([a.points for a in answers], axis=0).astype(np.float32),
        np.median([a.world for a in answers], axis=0).astype(np.float32),
        float(np.mean([a.score for a in answers])),
        float(np.mean([a.right for a in answers])),
    )


def find_faces(models: Models, image: Image) -> list[Hand]:
    """All faces of the picture by their meshes, the largest first."""
    picture = models.picture(image)
    regions = sorted(models.face_regions(image), key=lambda r: -r.size)
    answers = [settle(models.face, picture, region) for region in regions]
    return _distinct_faces([face for face in answers if face is not None])


def find_small_faces(models: Models, image: Image) -> list[Hand]:
    """Faces too small for the finders, in overlapping enlarged tiles."""
    height, width = image.shape[:2]
    for parts in (2, 4):
        found: list[Hand] = []
        high, wide = int(TILE * height / parts), int(TILE * width / parts)
        if min(high, wide) < 48:
            return []
        for top in np.linspace(0, height - high, 2 * parts - 1).astype(int):
            for left in np.linspace(0, width - wide, 2 * parts - 1).astype(int):
                tile = np.ascontiguousarray(image[top : top + high, left : left + wide])
                shift = np.array([left, top, 0], np.float32)
                found += [replace(f, points=f.points + shift) for f in find_faces(models, tile)]
        if found:
            return _distinct_faces(found)
    return []


def _distinct_faces(faces: list[Hand]) -> list[Hand]:
    """Every face once, the largest first."""
    kept: list[Hand] = []
    for face in sorted(faces, key=lambda f: -extent(f.points)):
        centre = face.points[:, :2].mean(axis=0)
        if all(np.linalg.norm(k.points[:, :2].mean(axis=0) - centre) > 0.5 * extent(k.points) for k in kept):
            kept.append(face)
    return kept


def find_body(models: Models, image: Image, face: Hand, others: list[Hand]) -> Body | None:
    """The body of the person with this face; None if the model never finds it (a close-up)."""
    height, width = size = (int(image.shape[0]), int(image.shape[1]))
    body = models.body(image, (0, 0), size)
    if body is not None and body.owns(face.points):
        return body
    # Somebody else was taken, or the person is small: hide the other heads, look only around this one.
    masked = image.copy()
    for other in others:
        x, y, side, _ = face_region(other.points)
        left, right, top, bottom = (int(v) for v in (x - side / 2, x + side / 2, y - side / 2, y + side / 2))
        masked[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 127
    side = extent(face.points)
    x, y = (float(v) for v in face.points[:, :2].mean(axis=0))
    for wide, high in ((4.0, 7.0), (2.5, 5.0), (8.0, 12.0)):
        left, top = max(0, int(x - wide * side)), max(0, int(y - 2 * side))
        right, bottom = min(width, int(x + wide * side)), min(height, int(y + high * side))
        body = models.body(np.ascontiguousarray(masked[top:bottom, left:right]), (left, top), size)
        if body is not None and body.owns(face.points):
            return body
    return None


def find_hands(
    models: Models, picture: Picture, body: Body, seen: Iterable[Hand] = (), thorough: bool = True
) -> dict[str, Hand]:
    """The left and the right hand, each only if it is there; `seen` are answers to consider as well.

    A thorough search takes up to 0.4 s a hand, the other one 0.05 s.
    """
    height, width = picture.size
    unit = body.unit
    wrists = {"left": body.points[15, :2], "right": body.points[16, :2]}
    regions = {}
    for side, (elbow, index, little) in {"left": (13, 19, 17), "right": (14, 20, 18)}.items():
        x, y = wrists[side]
        if -0.3 * unit < x < width + 0.3 * unit and -0.3 * unit < y < height + 0.3 * unit:
            knuckles = body.points[[index, little], :2].mean(axis=0)
            regions[side] = wrist_regions(body.points[elbow, :2], wrists[side], knuckles, unit)
    # First the likeliest region of each side, where most hands are found; others until an answer is sure.
    answers = [*seen, *(settle(models.hand, picture, around[0]) for around in regions.values())]
    for side, around in regions.items():
        reaches = (0.6, 1.0) if thorough else (0.8,)
        tries: list[Callable[[], list[Hand | None]]] = [
            partial(_find_palms, models, picture, around[0], reach * unit) for reach in reaches
        ]
        tries += [partial(_settled, models, picture, region) for region in (around[1:] if thorough else [])]
        for attempt in tries:
            hand = assign([h for h in answers if h is not None], wrists, unit).get(side)
            if hand is not None and hand.score > (SURE if thorough else SEEN) and hand.fits(side) > RIGHT_HAND:
                break
            answers += attempt()
    return assign([h for h in answers if h is not None], wrists, unit)


def _settled(models: Models, picture: Picture, region: Region) -> list[Hand | None]:
    return [settle(models.hand, picture, region)]


def _find_palms(models: Models, picture: Picture, around: Region, reach: float) -> list[Hand | None]:
    """Hands that the palm detector sees in the enlarged square of half side `reach` in the middle of a region."""
    left, top = max(0, int(around.x - reach)), max(0, int(around.y - reach))
    crop = picture.image[top : max(top, int(around.y + reach)), left : max(left, int(around.x + reach))]
    if min(crop.shape[:2]) < 8:
        return []
    factor = 384 / max(crop.shape[:2])  # the palm detector reads 192 pixels and likes palms of 40 and more
    enlarged = cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    corner = np.array([left, top, 0], np.float32)
    shrink = np.float32(crop.shape[1] / enlarged.shape[1])
    palms = models.palms(enlarged)
    return [settle(models.hand, picture, hand_region(points * shrink + corner)) for points in palms]
