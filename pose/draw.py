"""Pose maps: keypoints as a coloured drawing, limbs by hue, the way pose-guided generators read them.

Letters: F frames, H W image size. All strokes are anti-aliased and placed with 1/16 pixel; their widths follow the
shoulder width, so that a drawing made small looks like a large one reduced. A stroke fades with the confidence of its
two ends and is not drawn below 0.3. Colours are ours.
"""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.keypoints import BODY_EDGES, FACE, FACE_CONTOUR, FINGERS, HANDS, LEFT_IRIS, RIGHT_IRIS, Keypoints

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Stroke = tuple[int, int, tuple[float, float, float]]  # two indices of the layout, RGB in [0, 1]

SHIFT = 4  # cv2's fixed point: 1/16 pixel
UNSEEN, SEEN = 0.3, 0.6  # confidence at which a stroke begins to show, and at which it is fully bright
LIMB_WIDTH, FINGER_WIDTH, FACE_WIDTH = 0.075, 0.02, 0.008  # of the shoulder width; DWPose's look at half-body size
UPPER_FACE = [FACE.start + 10, FACE.start + 2]  # middle of the forehead, end of the nose: 0.6 of a face's height
LIMB_DIMNESS = 0.6  # limbs are darker than joints, as in OpenPose's drawings: overlaps stay readable


def _hue(turn: float, value: float = 1.0) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(turn % 1.0, 1.0, value)


def _body_strokes() -> list[Stroke]:
    """Left limbs warm to green, right limbs blue to magenta: the two arms are never mistaken for each other."""
    turns = {
        (5, 6): 0.15, (5, 7): 0.04, (7, 9): 0.09, (6, 8): 0.55, (8, 10): 0.62, (5, 11): 0.25, (6, 12): 0.45,
        (11, 12): 0.35, (11, 13): 0.22, (13, 15): 0.28, (12, 14): 0.48, (14, 16): 0.51, (0, 1): 0.80, (0, 2): 0.88,
        (1, 3): 0.76, (2, 4): 0.93,
    }  # fmt: skip
    return [(a, b, _hue(turns[a, b])) for a, b in BODY_EDGES]


def _hand_strokes() -> list[Stroke]:
    """Five hues a hand, one a finger; the right hand's are shifted and paler."""
    strokes: list[Stroke] = []
    for side, part in HANDS.items():
        for number, finger in enumerate(FINGERS):
            red, green, blue = _hue(0.2 * number + (0.0 if side == "left" else 0.1))
            pale = 0.0 if side == "left" else 0.35
            colour = (red + (1 - red) * pale, green + (1 - green) * pale, blue + (1 - blue) * pale)
            chain = (0, *finger)
            strokes += [(part.start + a, part.start + b, colour) for a, b in zip(chain, chain[1:], strict=False)]
    return strokes


def _face_strokes() -> list[Stroke]:
    """The 68 contour points as lines: jaw, brows, nose, eyes, lips."""
    points = [FACE.start + i for i in FACE_CONTOUR]
    white, lips = (1.0, 1.0, 1.0), (1.0, 0.45, 0.45)
    runs = (
        (0, 17, False, white), (17, 22, False, white), (22, 27, False, white), (27, 31, False, white),
        (31, 36, False, white), (36, 42, True, white), (42, 48, True, white), (48, 60, True, lips),
        (60, 68, True, lips),
    )  # fmt: skip
    strokes: list[Stroke] = []
    for start, end, closed, colour in runs:
        run = points[start:end] + ([points[start]] if closed else [])
        strokes += [(a, b, colour) for a, b in zip(run, run[1:], strict=False)]
    return strokes


BODY_STROKES, HAND_STROKES, FACE_STROKES = _body_strokes(), _hand_strokes(), _face_strokes()


def draw_body(keypoints: Keypoints, size: tuple[int, int] | None = None) -> Image:
    """Body and hands without the face (which speech drives), (F, H, W, 3) uint8 RGB on black."""
    return _drawn(keypoints, size, ("body", "hands"))


def draw_hands(keypoints: Keypoints, size: tuple[int, int] | None = None) -> Image:
    """The two hands alone, (F, H, W, 3) uint8 RGB on black."""
    return _drawn(keypoints, size, ("hands",))


def draw_all(keypoints: Keypoints, size: tuple[int, int] | None = None) -> Image:
    """Body, hands and face contour, (F, H, W, 3) uint8 RGB on black."""
    return _drawn(keypoints, size, ("body", "hands", "face"))


def draw_keypoints(keypoints: Keypoints, size: tuple[int, int] | None = None) -> Tensor:
    """Body, hands and face contour as a pose map, (F, 3, H, W) float32 in [0, 1].

    `size` (height, width) when it should differ from the keypoints' own.
    """
    import torch

    return torch.from_numpy(draw_all(keypoints, size)).permute(0, 3, 1, 2).contiguous().float().div_(255)


def draw_over(image: Image, keypoints: Keypoints) -> Image:
    """The first frame's skeleton over a dimmed (H, W, 3) RGB picture of any size, for looking at."""
    skeleton = draw_all(keypoints[:1], (image.shape[0], image.shape[1]))[0]
    cover = skeleton.max(axis=2, keepdims=True).astype(np.float32) / 255
    return (image * (1 - cover) * 0.7 + skeleton).clip(0, 255).astype(np.uint8)


def _drawn(keypoints: Keypoints, size: tuple[int, int] | None, parts: tuple[str, ...]) -> Image:
    if size is not None and size != keypoints.size:
        keypoints = keypoints.resized(size)
    canvases = np.zeros((len(keypoints), *keypoints.size, 3), np.uint8)
    for canvas, points, confidence in zip(canvases, keypoints.points, keypoints.confidence, strict=True):
        unit = float(np.linalg.norm(points[5] - points[6]))
        # A turned or unseen body has narrow shoulders: the face's height bounds the unit from below. It is measured to
        # the nose, or widths would tell how far the mouth is open.
        upper = points[UPPER_FACE] if confidence[FACE.start] >= UNSEEN else np.zeros((1, 2), np.float32)
        unit = max(unit, 2.0 * float(np.ptp(upper[:, 1])), 16.0)
        if "body" in parts:
            _limbs(canvas, points, confidence, unit)
        if "face" in parts:
            _lines(canvas, points, confidence, FACE_STROKES, FACE_WIDTH * unit)
            for iris in (LEFT_IRIS, RIGHT_IRIS):
                _dot(canvas, points, confidence, FACE.start + iris[0], FACE_WIDTH * unit, (1.0, 1.0, 1.0))
        if "hands" in parts:
            _lines(canvas, points, confidence, HAND_STROKES, FINGER_WIDTH * unit, LIMB_DIMNESS)
            for _, tip, colour in HAND_STROKES:
                _dot(canvas, points, confidence, tip, 0.7 * FINGER_WIDTH * unit, colour)
    return canvases


def _strength(*confidence: float) -> float:
    return float(np.clip((min(confidence) - UNSEEN) / (SEEN - UNSEEN), 0.0, 1.0))


def _fixed(points: Array, canvas: Image) -> NDArray[np.int32]:
    """cv2's fixed-point coordinates, in which the top-left pixel's centre is 0; far points are brought near."""
    far = 4.0 * max(canvas.shape)
    return np.round((np.clip(points, -far, far) - 0.5) * (1 << SHIFT)).astype(np.int32)


def _colour(colour: tuple[float, float, float], strength: float) -> tuple[float, float, float]:
    return colour[0] * 255 * strength, colour[1] * 255 * strength, colour[2] * 255 * strength


def _limbs(canvas: Image, points: Array, confidence: Array, unit: float) -> None:
    """Limbs as slim ellipses between the joints, joints as discs over them."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)  # (24, 2)
    for number, (a, b, colour) in enumerate(BODY_STROKES):
        strength = _strength(confidence[a], confidence[b])
        along = (points[b] - points[a]) / 2
        length = float(np.linalg.norm(along))
        if strength == 0 or length < 0.5:
            continue
        width = LIMB_WIDTH * unit * (0.5 if number >= len(BODY_STROKES) - 4 else 1.0) / 2
        across = np.array([-along[1], along[0]]) / length * width
        outline = (points[a] + points[b]) / 2 + circle[:, :1] * along + circle[:, 1:] * across
        polygon = _fixed(outline, canvas)
        cv2.fillConvexPoly(canvas, polygon, _colour(colour, strength * LIMB_DIMNESS), cv2.LINE_AA, SHIFT)
    joints: dict[int, tuple[float, float, float]] = {}
    for a, b, colour in BODY_STROKES:
        joints.setdefault(a, colour)
        joints[b] = colour
    for index, colour in joints.items():
        radius = LIMB_WIDTH * unit * (0.3 if index < 5 else 0.55)
        _dot(canvas, points, confidence, index, radius, colour)


def _lines(
    canvas: Image, points: Array, confidence: Array, strokes: list[Stroke], width: float, bright: float = 1.0
) -> None:
    """Strokes of one width; below one pixel they get dimmer instead of thinner."""
    thickness = max(1, round(width))
    dim = bright * min(1.0, max(width, 0.35))
    fixed = _fixed(points, canvas)
    for a, b, colour in strokes:
        strength = _strength(confidence[a], confidence[b]) * dim
        if strength > 0:
            ends = fixed[a].tolist(), fixed[b].tolist()
            cv2.line(canvas, *ends, _colour(colour, strength), thickness, cv2.LINE_AA, SHIFT)


def _dot(
    canvas: Image, points: Array, confidence: Array, index: int, radius: float, colour: tuple[float, float, float]
) -> None:
    strength = _strength(confidence[index])
    if strength > 0:
        centre = _fixed(points[index], canvas).tolist()
        pixels = max(1, round(radius * (1 << SHIFT)))
        cv2.circle(canvas, centre, pixels, _colour(colour, strength), cv2.FILLED, cv2.LINE_AA, SHIFT)
