"""Motion as a drawing, for looking at: the body with fingers from the front, and a face that moves.

Letters: F frames, S side of the picture. Orthographic, the person's left arm on the right; nearer bones are brighter.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.motion import Motion, expression_index

Image = NDArray[np.uint8]
Point = tuple[int, int]

SHIFT = 4  # cv2's fixed point: 1/16 pixel
BACKGROUND = (24, 26, 30)
LEFT, RIGHT, MIDDLE, FACE = (255, 170, 90), (90, 180, 255), (220, 220, 220), (235, 235, 235)
# What is seen, cm around the first frame's shoulders: from below the hips to above the head.
HALF_WIDTH, SHOULDERS_AT = 75.0, 0.40


def draw_figure(
    motion: Motion, size: int = 384, label: str = "", aim: NDArray[np.float64] | None = None
) -> NDArray[np.uint8]:
    """(F, S, S, 3) uint8 RGB. The camera stands still, aimed at `aim` (3,), by default as `figure_aim` says."""
    positions = motion.positions()
    skeleton = motion.skeleton
    aim = figure_aim(motion) if aim is None else aim
    scale = size / (2 * HALF_WIDTH)
    flat = np.stack([positions[..., 0] - aim[0], aim[1] - positions[..., 1]], -1) * scale
    flat += (size / 2, SHOULDERS_AT * size)
    depth = positions[..., 2] - aim[2]
    frames = np.empty((len(motion), size, size, 3), np.uint8)
    for k in range(len(motion)):
        canvas = np.full((size, size, 3), BACKGROUND, np.uint8)
        _bones(canvas, motion, flat[k], depth[k], scale)
        if "Head" in skeleton.names:
            world = skeleton.global_rotations(motion.rotations[k : k + 1])[0, skeleton.index("Head")]
            expression = None if motion.expression is None else motion.expression[k]
            _face(canvas, flat[k, skeleton.index("Head")], world, scale, expression)
        if label:
            cv2.putText(canvas, label, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, MIDDLE, 1, cv2.LINE_AA)
        frames[k] = canvas
    return frames


def figure_aim(motion: Motion) -> NDArray[np.float64]:
    """(3,) cm: between the shoulders of the first frame. Pieces of one stream are drawn with the first one's."""
    names = [name for name in ("LeftArm", "RightArm") if name in motion.skeleton.names]
    joints = [motion.skeleton.index(name) for name in names or motion.skeleton.names]
    return motion[:1].positions()[0, joints].mean(0)


def _bones(canvas: Image, motion: Motion, flat: NDArray[np.float64], depth: NDArray[np.float64], scale: float) -> None:
    bones = [(parent, joint) for joint, parent in enumerate(motion.skeleton.parents) if parent >= 0]
    for parent, joint in sorted(bones, key=lambda bone: depth[bone[1]]):  # far ones first
        name = motion.skeleton.names[joint]
        if name == "HeadEnd":
            continue
        colour = LEFT if name.startswith("Left") else RIGHT if name.startswith("Right") else MIDDLE
        shade = float(np.clip(0.75 + depth[joint] / 120.0, 0.45, 1.0))
        finger = "Hand" in name and not name.endswith("Hand")
        width = max(1, round((0.7 if finger else 2.2) * scale))
        shaded = (colour[0] * shade, colour[1] * shade, colour[2] * shade)
        cv2.line(canvas, _fixed(flat[parent]), _fixed(flat[joint]), shaded, width, cv2.LINE_AA, SHIFT)


def _face(
    canvas: Image,
    head: NDArray[np.float64],
    world: NDArray[np.float64],
    scale: float,
    expression: NDArray[np.float32] | None,
) -> None:
    def at(x: float, y: float, z: float) -> NDArray[np.float64]:
        point = world @ (x, y, z)
        return head + scale * np.array([point[0], -point[1]])

    def line(points: list[NDArray[np.float64]], closed: bool = False, width: float = 0.5) -> None:
        run = np.array([_fixed(point) for point in points], np.int32)
        cv2.polylines(canvas, [run], closed, FACE, max(1, round(width * scale)), cv2.LINE_AA, SHIFT)

    def value(name: str) -> float:
        return 0.0 if expression is None else float(expression[expression_index(name)])

    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    line([at(8.0 * np.sin(t), 7.0 + 11.0 * np.cos(t), 2.0) for t in turns], closed=True)
    for side, sign in (("Left", 1), ("Right", -1)):
        lid = 1.3 * (1.0 - min(value("eyeBlink" + side), 1.0)) + 0.5 * value("eyeWide" + side) + 0.05
        line([at(sign * 3.2 + 1.6 * np.cos(t), 8.5 + lid * np.sin(t), 8.0) for t in turns[::4]], closed=True)
        brow = 11.3 + 2.0 * value("browOuterUp" + side) - 1.2 * value("browDown" + side)
        inner = 11.3 + 2.0 * value("browInnerUp") - 1.6 * value("browDown" + side)
        line([at(sign * 1.6, inner, 8.0), at(sign * 5.0, brow, 8.0)])
    line([at(0.0, 7.5, 9.0), at(0.0, 4.5, 10.5)])
    smile = 0.5 * (value("mouthSmileLeft") + value("mouthSmileRight"))
    smile -= 0.5 * (value("mouthFrownLeft") + value("mouthFrownRight"))
    narrow = 1.0 - 0.45 * max(value("mouthPucker"), value("mouthFunnel"))
    opening = 5.0 * value("jawOpen") * (1.0 - 0.8 * value("mouthClose")) + 0.15
    half = 3.0 * narrow * (1.0 + 0.2 * smile)

    def lip(t: float, y: float) -> NDArray[np.float64]:
        x = half * np.cos(t)
        return at(x, y + 1.6 * smile * (x / 3.0) ** 2, 8.5)

    line(
        [lip(t, 1.2 + 0.4 * opening * np.sin(t) if t < np.pi else 1.2 + opening * np.sin(t)) for t in turns[::2]], True
    )


def _fixed(point: NDArray[np.float64]) -> Point:
    far = np.clip(point, -1e4, 1e4)
    return round(float(far[0]) * (1 << SHIFT)), round(float(far[1]) * (1 << SHIFT))
