"""Light, camera and what else surrounds a figure, at random or plain; and the baking of its occlusion.

Decimetres, MakeHuman's axes. All values were chosen by hand on contact sheets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pose.motion import EXPRESSION_NAMES, expression_index
from train.people.figure import Figure
from train.people.looks import Look, triple
from train.people.meshes import Array
from train.people.puppet import unit
from train.people.raster import Camera, Lights, Rasteriser

DIRECTIONS = 48  # of light that the baked occlusion tries
LID_SHUT = 0.6  # while baking: an open lid's fold would stay dark when it closes
DISTANCE = 34.0  # of the camera


def plain_lights() -> Lights:
    """Three soft lights from the front left, right and behind."""
    return Lights(
        key_way=unit(np.array([-0.6, 0.6, 1.0])),
        fill_way=unit(np.array([0.9, 0.1, 0.6])),
        rim_way=unit(np.array([-0.8, 0.6, -0.7])),
        rim2_way=unit(np.array([0.9, 0.5, -0.6])),
        key_light=np.array([1.15, 1.09, 1.01]),
        fill_light=np.array([0.26, 0.28, 0.30]),
        rim_light=np.array([0.40, 0.43, 0.45]),
        rim2_light=np.array([0.40, 0.38, 0.36]),
        sky_light=np.array([0.32, 0.34, 0.36]),
        ground_light=np.array([0.19, 0.17, 0.15]),
    )


def draw_lights(random: np.random.Generator) -> Lights:
    """Light from a window or lamps: side, height, warmth and softness vary, nobody is left in the dark."""
    side = float(random.choice([-1.0, 1.0]))
    turn, height = side * random.uniform(0.15, 0.95), random.uniform(0.25, 0.85)
    key_way = unit(np.array([np.sin(turn), height, np.cos(turn)]))
    warmth = random.normal(0, 0.06)
    warm, cool = np.array([1 + warmth, 1.0, 1 - warmth]), np.array([1 - 0.7 * warmth, 1.0, 1 + 0.7 * warmth])
    soft = random.uniform(0, 1)  # 1: an overcast window, light from everywhere
    key = random.uniform(0.85, 1.2) * (1 - 0.25 * soft)
    around = 0.26 + 0.26 * soft
    return Lights(
        key_way=key_way,
        fill_way=unit(np.array([-side * random.uniform(0.5, 1.0), 0.1, 0.6])),
        rim_way=unit(np.array([side * 0.8, random.uniform(0.3, 0.8), -0.7])),
        rim2_way=unit(np.array([-side * 0.9, random.uniform(0.2, 0.7), -0.6])),
        key_light=key * warm,
        fill_light=random.uniform(0.15, 0.4) * cool,
        rim_light=random.uniform(0.1, 0.55) * cool,
        rim2_light=random.uniform(0.1, 0.5) * warm,
        sky_light=around * cool,
        ground_light=0.55 * around * warm,
        exposure=float(random.uniform(0.92, 1.1)),
    )


def uniforms(look: Look) -> dict[str, Any]:
    """What the shaders need of a look beside its vertices' attributes."""
    weave = look.weave
    return {
        "iris": look.iris,
        "iris_rim": tuple(0.2 * c for c in look.iris),
        "flush": (1.0, 0.75, 0.68),
        "weave": (float(weave.kind), weave.along, weave.contrast, weave.down),
        "weave_colour": weave.colour,
    }


def directions(count: int = DIRECTIONS) -> Array:
    """(N, 3) unit directions spread evenly over the sphere by the golden angle."""
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    return np.stack([np.cos(turn) * np.sin(polar), np.cos(polar), np.sin(turn) * np.sin(polar)], 1)


def bake(rasteriser: Rasteriser, figure: Figure, transforms: Array) -> None:
    """Load a figure into the rasteriser with the occlusion that it has in a pose (J, 3, 4)."""
    expression = np.zeros(len(EXPRESSION_NAMES), np.float32)
    for side in ("Left", "Right"):
        expression[expression_index("eyeBlink" + side)] = LID_SHUT
    rasteriser.load(figure.materials, figure.static)
    figure.set_occlusion(rasteriser.occlusion(*figure.points(transforms, expression), directions()))
    rasteriser.load(figure.materials, figure.static)


def close_up(figure: Figure, yaw: float, size: tuple[int, int]) -> Camera:
    """A camera on the face, turned about it by `yaw` radians to the person's left."""
    eye = figure.body.head("eye.L")
    target = np.array([0.0, eye[1] - 0.3, eye[2] - 0.8])
    place = target + DISTANCE * np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    return Camera(triple(place), triple(target), 4.2, size)


def draw_camera(random: np.random.Generator, figure: Figure, size: tuple[int, int]) -> Camera:
    """Half a body with room for both hands, from the front or a little to the side, at about eye height."""
    eye = figure.body.head("eye.L")
    shoulders = 2 * figure.puppet.heads[figure.puppet.index["upperarm01.L"]][0]
    span = float(random.uniform(2.45, 2.95) * shoulders * min(size[0] / size[1], 1.3))
    eyes_at = random.uniform(0.20, 0.27)  # of the picture's height below its top
    middle = np.array([random.normal(0, 0.02) * span, eye[1] - span * (0.5 - eyes_at), 0.0])
    yaw, tilt = np.clip(random.normal(0, 0.10), -0.25, 0.25), random.uniform(-0.02, 0.08)
    distance = random.uniform(24.0, 40.0)
    place = middle + distance * np.array([np.sin(yaw) * np.cos(tilt), np.sin(tilt), np.cos(yaw) * np.cos(tilt)])
    return Camera(triple(place), triple(middle), span, size)
