"""The parts of a figure except clothes and hair: skin, eyes, teeth, tongue, brows and lashes.

Letters: N points of a piece, V base vertices, J bones. Decimetres, MakeHuman's axes, linear colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from train.people import shaders
from train.people.base import BaseMesh
from train.people.looks import BUZZ, Look
from train.people.meshes import Array, Mesh, part

EYE_RINGS, EYE_SECTORS = 18, 24


@dataclass
class Piece:
    """A part of a figure before it joins the others."""

    points: Array  # (N, 3) at rest
    faces: list[list[int]]
    weights: Array  # (N, J)
    kind: int  # a material of `shaders`
    colour: Array  # (N, 4) linear colour, alpha
    rest: Array  # (N, 3) place or texture coordinate for the material
    anchors: tuple[NDArray[np.int64], Array] | None  # base vertices that carry the expression
    gloss: Array | float = 0.0
    own: Array | float = 0.0
    open: Array | float | None = None  # occlusion known beforehand
    subdivide: bool = False
    name: str = ""


def tinted(mesh: Mesh, kind: int, colour: tuple[float, float, float] | Array, **rest: Any) -> Piece:
    """A fitted mesh in one colour."""
    colours = np.ones((len(mesh.points), 4))
    colours[:, :3] = colour
    return Piece(
        mesh.points,
        mesh.faces,
        mesh.weights,
        kind,
        colours,
        mesh.points,
        mesh.anchors,
        **rest,
    )


def skin_piece(body: BaseMesh, look: Look, outfit: Mesh, hair: Mesh) -> Piece:
    """Skin that clothes leave bare, with lips, blush, stubble and the scalp under the hair coloured."""
    points = body.points
    hidden = np.zeros(len(points), bool)
    hidden[list(outfit.hidden)] = True
    wrists = [body.index[f"{bone}.{side}"] for bone in ("wrist", "lowerarm02") for side in "LR"]
    hidden[body.weights[:, wrists].sum(1) > 0.4] = False  # a cuff would show a hole
    hips = body.head("upperleg01.L")[1] - 1.5
    shown = [
        not hidden[face].all() and points[face, 1].max() > hips and group == "body"
        for face, group in zip(body.mesh.faces, body.mesh.groups, strict=True)
    ]
    mesh = part(body.mesh, np.array(shown))
    colour = np.tile(np.array([*look.skin, 1.0]), (len(points), 1))

    def blend(mask: Array, tint: tuple[float, float, float] | Array, amount: float) -> None:
        share = (amount * mask)[:, None]
        colour[:, :3] = colour[:, :3] * (1 - share) + np.asarray(tint) * share

    lip = np.clip(
        2.2 * body.mask(["mouth/mouth-lowerlip-volume-incr", "mouth/mouth-upperlip-volume-incr"]) - 0.25, 0, 1
    )
    cheek = body.mask(["cheek/l-cheek-volume-incr", "cheek/r-cheek-volume-incr"]) ** 1.3
    nose = body.mask(["nose/nose-point-up"]) ** 1.2
    ears = body.mask(["ears/l-ear-scale-incr", "ears/r-ear-scale-incr"])
    blend(np.max([0.6 * cheek, 0.4 * nose, 0.4 * ears, knuckles(body)], 0), look.blush, 0.8)
    if look.stubble:
        blend(beard(body, lip), np.asarray(look.hair_colour) * 0.7 + 0.01, look.stubble)
    near, _ = cKDTree(hair.points).query(points)
    eye = body.head("eye.L")
    reach, soft = (0.40, 0.15) if look.hair == BUZZ else (0.10, 0.06)  # decimetres from the hair's mesh
    scalp = np.clip((reach - near) / soft, 0, 1) * (points[:, 1] > eye[1] - 0.35) * (points[:, 2] < eye[2] - 0.25)
    blend(scalp, np.asarray(look.hair_colour) * 0.8, 0.8 if look.hair == BUZZ else 1.0)
    blend(lip, look.lip, 0.9)
    return Piece(
        points, mesh.faces, body.weights, shaders.SKIN, colour, points.copy(),
        (np.repeat(np.arange(len(points))[:, None], 3, 1), np.tile([1.0, 0.0, 0.0], (len(points), 1))),
        gloss=0.4 + 0.8 * lip * look.lip_gloss, name="skin",
    )  # fmt: skip


def knuckles(body: BaseMesh) -> Array:
    """(V,) in [0, 1]: finger joints and tips, which are redder."""
    mask = np.zeros(len(body.points))
    for side in "LR":
        for number in range(1, 6):
            for joint in (1, 2, 3):
                away = np.linalg.norm(body.points - body.head(f"finger{number}-{joint}.{side}"), axis=1)
                mask = np.maximum(mask, 0.25 * np.exp(-((away / 0.13) ** 2)))
            tip = np.linalg.norm(body.points - body.tail(f"finger{number}-3.{side}"), axis=1)
            mask = np.maximum(mask, 0.5 * np.exp(-((tip / 0.16) ** 2)))
    return mask


def beard(body: BaseMesh, lip: Array) -> Array:
    """(V,) in [0, 1]: jaw, chin and upper lip, softly."""
    points = body.points
    eye = body.head("eye.L")
    mouth = points[lip > 0.5].mean(0)
    level = np.clip((mouth[1] + 0.22 - points[:, 1]) / 0.25, 0, 1) * np.clip(
        (points[:, 1] - mouth[1] + 1.0) / 0.4, 0, 1
    )
    front = np.clip((points[:, 2] - eye[2] + 1.1) / 0.4, 0, 1)
    cheeks = np.clip(1.2 - np.abs(points[:, 0]) / 0.95 + (mouth[1] - points[:, 1]) * 0.9, 0, 1)
    return level * front * cheeks * (1 - lip)


def near_teeth(body: BaseMesh) -> Array:
    """(V,) 0 or 1: body vertices in the box of the teeth; those in it that no light reaches are the cavity."""
    teeth = body.fit(body.assets / "base/teeth/teeth_base/teeth_base.mhclo").points
    middle, size = teeth.mean(0), np.ptp(teeth, axis=0) / 2
    inside = np.abs(body.points - middle) / (size * (1.25, 1.35, 1.0) + (0, 0, 0.05))
    return (inside.max(1) < 1.3).astype(float)


def eye_pieces(body: BaseMesh) -> tuple[list[Piece], list[tuple[Array, float]]]:
    """Two balls of our own at the middles and of the size of the assets' eyes; also (middle, radius) of each."""
    eyes = body.fit(body.data / "eyes/high-poly/high-poly.mhclo")
    pieces = []
    balls: list[tuple[Array, float]] = []
    for side, sign in (("L", 1.0), ("R", -1.0)):
        own = eyes.points[np.sign(eyes.points[:, 0]) == sign]
        middle = (own.min(0) + own.max(0)) / 2
        radius = 0.5 * float(np.ptp(own[:, 0]))
        balls.append((middle, radius))
        ways, faces = ball()
        weights = np.zeros((len(ways), len(body.order)))
        weights[:, body.index[f"eye.{side}"]] = 1.0
        colour = np.ones((len(ways), 4))
        lid = np.clip(0.80 - 0.85 * (ways[:, 1] - 0.10), 0.35, 1.0)  # the upper lid's shadow
        pieces.append(
            Piece(
                middle + radius * ways,
                faces,
                weights,
                shaders.EYE,
                colour,
                ways,
                None,
                open=lid,
                name=f"eye{side}",
            )
        )
    return pieces, balls


def ball() -> tuple[Array, list[list[int]]]:
    """A unit sphere around +z: directions (K, 3) and its faces."""
    polar = np.linspace(0, np.pi, EYE_RINGS + 1)[1:-1]
    turn = np.linspace(0, 2 * np.pi, EYE_SECTORS, endpoint=False)
    rings = np.stack(
        [
            np.outer(np.sin(polar), np.cos(turn)),
            np.outer(np.sin(polar), np.sin(turn)),
            np.outer(np.cos(polar), np.ones_like(turn)),
        ],
        -1,
    ).reshape(-1, 3)
    ways = np.concatenate([rings, [[0, 0, 1], [0, 0, -1]]])
    front, back = len(rings), len(rings) + 1
    faces = []
    for sector in range(EYE_SECTORS):
        after = (sector + 1) % EYE_SECTORS
        faces.append([front, sector, after])
        for ring in range(len(polar) - 1):
            low, high = ring * EYE_SECTORS, (ring + 1) * EYE_SECTORS
            faces.append([low + sector, high + sector, high + after, low + after])
        last = (len(polar) - 1) * EYE_SECTORS
        faces.append([last + after, last + sector, back])
    return ways, faces


def mouth_pieces(body: BaseMesh) -> list[Piece]:
    """Teeth and tongue."""
    teeth = body.fit(body.assets / "base/teeth/teeth_base/teeth_base.mhclo")
    tongue = body.fit(body.assets / "base/tongue/tongue01/tongue01.mhclo")
    front = teeth.points[:, 2].max()
    depth = np.clip(1 - (front - teeth.points[:, 2]) / 0.22, 0.0, 1.0)  # darker towards the molars
    return [
        tinted(teeth, shaders.TEETH, (0.72, 0.68, 0.61), open=0.18 + 0.72 * depth),
        tinted(tongue, shaders.MOUTH, (0.40, 0.13, 0.12), open=0.5),
    ]


def brow_piece(look: Look, brow: Mesh) -> Piece:
    """The brows' cards; their place for the shader is (from the inner end outwards, from below upwards)."""
    rest = np.zeros((len(brow.points), 3))
    for sign in (1.0, -1.0):
        mine = np.sign(brow.points[:, 0]) == sign
        along = np.abs(brow.points[mine, 0])
        rest[mine, 0] = (along - along.min()) / np.ptp(along)
        column = np.round(rest[mine, 0] * 12)
        height = brow.points[mine, 1]
        low, high = (np.array([f(height[np.abs(column - c) <= 1]) for c in column]) for f in (np.min, np.max))
        rest[mine, 1] = (height - low) / np.maximum(high - low, 1e-6)
    mesh = Mesh(brow.points, brow.faces, brow.uv, brow.uv_faces, brow.groups, brow.weights, (), brow.anchors)
    mesh.points = mesh.points + np.array([0, 0, 0.008])
    mesh.points[:, 1] += look.brow_tilt * (0.33 - np.abs(mesh.points[:, 0]))
    piece = tinted(mesh, shaders.BROW, np.asarray(look.brow_colour))
    piece.rest, piece.open = rest, 1.0
    return piece


def lash_piece(body: BaseMesh, look: Look) -> Piece:
    """Lashes, clearer away from the lid and below the eye."""
    lashes = body.fit(body.assets / f"base/eyelashes/{look.lashes}/{look.lashes}.mhclo")
    skin_vertices = np.unique(
        np.concatenate([f for f, g in zip(body.mesh.faces, body.mesh.groups, strict=True) if g == "body"])
    )
    away = cKDTree(body.points[skin_vertices]).query(lashes.points)[0]
    lower = lashes.points[:, 1] < body.head("eye.L")[1]
    piece = tinted(lashes, shaders.LASH, (0.012, 0.009, 0.008))
    piece.colour[:, 3] = np.clip(1.15 - 2 * away / away.max(), 0, 1) * np.where(lower, 0.15, 0.9) * look.lash_strength
    piece.open = 1.0
    return piece
