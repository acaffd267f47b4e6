"""Clothes and hair of a figure: which part takes which colour, and hair that leaves the eyes free.

Letters: N points of a piece. Decimetres, MakeHuman's axes, linear colours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.people import shaders
from train.people.base import BaseMesh
from train.people.looks import SUITS, Look
from train.people.meshes import Array, Mesh, components, read_mhclo, read_obj
from train.people.pieces import Piece, tinted

FINE = 2600  # points; a garment with fewer is subdivided once
TOP, JACKET, TIE, BOTTOM = range(4)  # places in a look's colours
# Islands of the suit's texture map: shirt with tie and collar, its cuffs; trousers; buttons.
SUIT_SHIRT, SUIT_CUFFS, SUIT_TROUSERS, SUIT_BUTTONS = (3, 6), (17, 18, 19, 20), (0, 1), (*range(11, 17), 21, 22)
PARTING, CURTAIN = 0.45, 0.80  # decimetres from the middle: of that style's parting, and where its hair may hang
SWEPT = ("bob02",)  # a style that hangs over an eye


def clothes_piece(body: BaseMesh, look: Look, outfit: Mesh) -> Piece:
    """The outfit in the look's colours and pattern."""
    path = body.assets / f"base/clothes/{look.outfit}/{look.outfit}.mhclo"
    template = read_obj(read_mhclo(path).obj)
    tones = cloth_roles(outfit, template, look.outfit)  # (faces,) index into the look's colours
    # A vertex at a seam is two, one of each colour.
    pairs = np.array([(i, tone) for face, tone in zip(outfit.faces, tones, strict=True) for i in face])
    unique, place = np.unique(pairs, axis=0, return_inverse=True)
    lengths = np.cumsum([len(face) for face in outfit.faces])[:-1]
    faces = [[int(i) for i in ring] for ring in np.split(place.ravel(), lengths)]
    used, tone = unique[:, 0], unique[:, 1]
    points = outfit.points[used]
    colour = np.concatenate([np.array(look.colours)[tone], np.ones((len(used), 1))], 1)
    suited = look.outfit in SUITS
    patterned = (tone == (JACKET if suited else TOP)).astype(float)
    return Piece(
        points, faces, outfit.weights[used], shaders.CLOTH, colour, points.copy(), None,
        gloss=0.5, own=patterned, subdivide=len(points) < FINE, name="clothes",
    )  # fmt: skip


def cloth_roles(outfit: Mesh, rest: Mesh, name: str) -> NDArray[np.int64]:
    """(faces,) which of a look's colours each face takes; `rest` is the outfit as its file has it."""
    parts = components(outfit)
    highest, middle = np.zeros((2, parts.max() + 1))
    for number in range(len(highest)):
        height = outfit.points[np.concatenate([outfit.faces[f] for f in np.flatnonzero(parts == number)]), 1]
        highest[number], middle[number] = height.max(), height.mean()
    order = np.argsort(np.argsort(-highest))  # part -> its rank from the top
    lowest = np.argmin(middle)
    if name == "male_casualsuit05":  # lapels, jacket, shirt, trousers by rank
        by_rank = np.array([TIE, TOP, JACKET, BOTTOM])
        return by_rank[order[parts]]
    if name == "male_elegantsuit01":
        islands = components(
            Mesh(np.zeros((len(outfit.uv), 3)), outfit.uv_faces, outfit.uv, outfit.uv_faces, outfit.groups)
        )
        roles = np.full(len(parts), JACKET)
        for chosen, role in (((*SUIT_SHIRT, *SUIT_CUFFS), TOP), ((*SUIT_TROUSERS, *SUIT_BUTTONS), BOTTOM)):
            roles[np.isin(islands, chosen)] = role
        x, y, _ = np.array([rest.points[face].mean(0) for face in rest.faces]).T
        knot = (y > 5.97) & (y < 6.52) & (np.abs(x) < 0.15 + 0.11 * (y - 5.97))
        blade = (y <= 5.97) & (np.abs(x) < 0.135 + 0.08 * (6.0 - y))
        roles[(knot | blade) & (islands == SUIT_SHIRT[0])] = TIE
        return roles
    if name == "male_worksuit01":
        return np.where(parts == np.argmax(highest), TOP, JACKET)
    roles = np.full(len(parts), TOP)
    if len(middle) > 1:
        roles[parts == lowest] = BOTTOM
    return roles


def hair_piece(body: BaseMesh, look: Look, hair: Mesh) -> Piece:
    """The hair, kept off the eyes and cut where the look says."""
    eye = body.head("eye.L")
    middle = np.array([0.0, (body.head("head") + body.tail("head"))[1] / 2, eye[2] - 1.2])
    swell = 1.05 if look.hair == "short02" else 1.02  # or the forehead shows through
    points = np.where(hair.points[:, 1:2] > eye[1] - 0.5, middle + swell * (hair.points - middle), hair.points)
    if look.hair in SWEPT:
        points = combed_aside(points, eye)
    if look.hair_end is not None:
        end = eye[1] - look.hair_end
        below = points[:, 1] < end
        points = points.copy()
        points[below, 1] = end + 0.06 * (points[below, 1] - end)
    piece = tinted(hair, shaders.HAIR, np.asarray(look.hair_colour), gloss=look.hair_gloss)
    piece.points, piece.anchors = points, None
    if look.hair in SWEPT:  # what joined the two sides of the curtain below the chin
        wide = [np.ptp(points[face, 0]) > 0.7 and points[face, 1].max() < eye[1] for face in hair.faces]
        piece.faces = [face for face, across in zip(hair.faces, wide, strict=True) if not across]
    piece.rest = points - middle
    piece.subdivide = len(points) < FINE
    return piece


def combed_aside(points: Array, eye: Array) -> Array:
    """Hair (N, 3) that hangs over the face, pushed to both sides of its parting like a curtain."""
    x, y, z = points.T
    level = np.clip((eye[1] + 0.70 - y) / 0.45, 0, 1)
    share = level * level * (3 - 2 * level) * np.clip((z - (eye[2] - 0.55)) / 0.35, 0, 1)

    def at_least(value: Array, least: Array) -> Array:
        return (value + least + np.sqrt((value - least) ** 2 + 0.004)) / 2

    right = -at_least(-x, -PARTING + (PARTING + CURTAIN) * share)
    left = at_least(x, PARTING + (CURTAIN - PARTING) * share)
    moved = np.where(share > 0, np.where(x < PARTING, right, left), x)
    return np.stack([moved, y, z - 0.3 * np.clip(np.abs(moved) - np.abs(x), 0, None)], 1)
