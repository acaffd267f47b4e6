"""One person ready to be drawn: body, clothes, hair, eyes, teeth, tongue, brows and lashes as one set of triangles.

Letters: N control points at rest, M drawn vertices (N subdivided where a mesh is coarse), T triangles, J bones,
E = 51 expression coefficients. Decimetres, MakeHuman's axes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, coo_matrix, csr_matrix, identity

from train.people import shaders
from train.people.base import BaseMesh
from train.people.expressions import expression_basis
from train.people.looks import BUZZ, Look
from train.people.meshes import Array, Indices, subdivision, triangles
from train.people.pieces import Piece, brow_piece, eye_pieces, lash_piece, mouth_pieces, near_teeth, skin_piece
from train.people.puppet import Puppet, skin, unit
from train.people.wardrobe import clothes_piece, hair_piece

FloatImage = NDArray[np.float32]
CAVITY = np.array([0.16, 0.035, 0.03])  # colour of the mouth's inside
SMALLEST_OPEN = {shaders.SKIN: 0.45, shaders.CLOTH: 0.35, shaders.HAIR: 0.3}  # floor of baked occlusion
LID_THICKNESS = 1.035  # of the eye's radius


class Figure:
    """A person built from the CC0 assets by a `Look`."""

    def __init__(self, assets: Path, look: Look) -> None:
        self.look = look
        self.body = body = BaseMesh(assets)
        for name, amount in look.targets.items():
            body.morph(name, amount)
        self.basis = expression_basis(body, look.units)  # (E, V, 3) of the base mesh
        body.points = body.points + np.tensordot(look.face_at_rest(), self.basis, 1)
        self.puppet = Puppet(body)
        self.bare_weights = csr_matrix(body.weights)
        self._assemble(self._pieces())

    def _pieces(self) -> list[Piece]:
        """The parts, skin first."""
        look, body = self.look, self.body
        outfit = body.fit(body.assets / f"base/clothes/{look.outfit}/{look.outfit}.mhclo")
        style = "short01" if look.hair == BUZZ else look.hair
        hair = body.fit(body.assets / f"base/hair/{style}/{style}.mhclo")
        brow = body.fit(body.assets / f"base/eyebrows/{look.brow}/{look.brow}.mhclo")
        eyes, self.balls = eye_pieces(body)
        pieces = [skin_piece(body, look, outfit, hair), clothes_piece(body, look, outfit), *eyes, *mouth_pieces(body)]
        if look.hair != BUZZ:
            pieces.append(hair_piece(body, look, hair))
        return [*pieces, brow_piece(look, brow), lash_piece(body, look)]

    def _assemble(self, pieces: list[Piece]) -> None:
        """Join the pieces into matrices and arrays that do not change any more."""
        self._near_teeth_all = np.zeros(sum(len(piece.points) for piece in pieces))
        self._near_teeth_all[: len(self.body.points)] = near_teeth(self.body)  # the skin comes first
        starts = np.cumsum([0, *(len(piece.points) for piece in pieces)])
        self.rest = np.concatenate([piece.points for piece in pieces])
        self.weights = csr_matrix(np.concatenate([piece.weights for piece in pieces]))
        moved_rows, moved = [], []
        flat = self.basis.transpose(1, 0, 2)  # (V, E, 3)
        for start, piece in zip(starts, pieces, strict=False):
            if piece.anchors is None:
                continue
            triples, shares = piece.anchors
            delta = sum(flat[triples[:, k]] * shares[:, k, None, None] for k in range(3))
            rows = np.flatnonzero(np.abs(delta).max((1, 2)) > 1e-4)
            moved_rows.append(rows + start)
            moved.append(delta[rows])
        self.moved_rows = np.concatenate(moved_rows)
        self.moved = np.concatenate(moved).transpose(1, 0, 2).reshape(len(self.basis), -1).astype(np.float32)

        skin_count = len(self.body.points)
        self._lids = [
            np.flatnonzero(np.linalg.norm(self.rest[:skin_count] - middle, axis=1) < 1.7 * radius)
            for middle, radius in self.balls
        ]
        blocks, faces, count = [], [], 0
        materials: dict[int, list[Indices]] = {}
        static: list[FloatImage] = []
        self.ranges: dict[str, slice] = {}
        self._given_open: list[tuple[slice, Array | float | None, int]] = []
        for piece in pieces:
            matrix, polygons = identity(len(piece.points), format="csr"), piece.faces
            if piece.subdivide:
                matrix, polygons = subdivision(piece.faces, len(piece.points))
            corners = triangles(polygons) + count
            materials.setdefault(piece.kind, []).append(corners)
            faces.append(corners)
            blocks.append(matrix)
            rows = matrix.shape[0]
            surface = np.zeros((len(piece.points), 4))
            surface[:, 0], surface[:, 1], surface[:, 2], surface[:, 3] = piece.kind, 1.0, piece.gloss, piece.own
            static.append(matrix @ np.concatenate([piece.rest, piece.colour, surface], 1))
            static[-1][:, 7] = piece.kind
            given = matrix @ piece.open if isinstance(piece.open, np.ndarray) else piece.open
            span = slice(count, count + rows)
            self._given_open.append((span, given, piece.kind))
            if piece.name:
                self.ranges[piece.name] = span
            count += rows
        self.refine = block_diag(blocks, format="csr")
        self.static = np.concatenate(static).astype(np.float32)
        self.materials = {kind: np.concatenate(corners) for kind, corners in materials.items()}
        self.faces = np.concatenate(faces)
        every = self.faces.ravel()
        ones = np.ones(len(every), np.float32)
        self._corner_sum: csr_matrix = coo_matrix(
            (ones, (every, np.repeat(np.arange(len(self.faces)), 3))), (count, len(self.faces))
        ).tocsr()

    def at_rest(self, expression: NDArray[np.float32]) -> Array:
        """Control points (N, 3) with an expression (E,), not posed yet."""
        points = self.rest.copy()
        points[self.moved_rows] += (expression @ self.moved).reshape(-1, 3)
        for (middle, radius), near in zip(self.balls, self._lids, strict=True):
            points[near] = outside(points[near], middle, LID_THICKNESS * radius)
        return points

    def points(self, transforms: Array, expression: NDArray[np.float32]) -> tuple[FloatImage, FloatImage]:
        """Drawn vertices and their normals (M, 3) each, for bone transforms (J, 3, 4) and an expression (E,)."""
        control = skin(self.at_rest(expression), self.weights, transforms)
        places = (self.refine @ control).astype(np.float32)
        return places, self.normals(places)

    def normals(self, places: FloatImage) -> FloatImage:
        """(M, 3) unit normals, faces weighted by their area."""
        a, b, c = (places[self.faces[:, k]] for k in range(3))
        normals = self._corner_sum @ np.cross(b - a, c - a)
        return unit(normals).astype(np.float32)

    def base_points(self, transforms: Array, expression: NDArray[np.float32]) -> Array:
        """The posed base mesh (V, 3), for points that are tied to it."""
        rest = self.body.points + np.tensordot(expression.astype(np.float64), self.basis, 1)
        return skin(self.clear_of_eyes(rest), self.bare_weights, transforms)

    def clear_of_eyes(self, points: Array) -> Array:
        """Base vertices at rest with lids that slide over the eyes."""
        for middle, radius in self.balls:
            near = np.linalg.norm(points - middle, axis=1) < LID_THICKNESS * radius
            points[near] = outside(points[near], middle, LID_THICKNESS * radius)
        return points

    def set_occlusion(self, open_: FloatImage) -> None:
        """Take baked openness (M,) in [0, 1] into the static attributes; eyes and teeth keep their own."""
        for span, given, kind in self._given_open:
            floor = SMALLEST_OPEN.get(kind, 0.0)
            self.static[span, 8] = open_[span] * (1 - floor) + floor if given is None else given
        span = self.ranges["skin"]
        cavity = (self.refine @ self._near_teeth_all)[span] * np.clip((0.10 - open_[span]) / 0.06, 0, 1)
        self.static[span, 3:6] += cavity[:, None] * (CAVITY - self.static[span, 3:6])
        self.static[span, 8] -= cavity * (self.static[span, 8] - 0.25)


def outside(points: Array, middle: Array, radius: float) -> Array:
    """Points (N, 3) with those in the front of a ball pushed out to its surface: lids slide over the eye."""
    away = points - middle
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    inside = (distance < radius) & (away[:, 2:] > 0.25 * radius)
    return np.where(inside, middle + away * (radius / np.maximum(distance, 1e-9)), points)
