"""Readers for MakeHuman's mesh formats, and what can be done to a polygon mesh before it is drawn.

Letters: V vertices, U texture coordinates, T triangles, J bones. Formats (plain text, read from the data files alone):
`.obj`; `.target`, rows "index dx dy dz"; `.mhclo`, rows "v1 v2 v3 w1 w2 w3 dx dy dz" or one index, that tie each
vertex of a garment to a triangle of the base mesh. Lengths are decimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass
class Mesh:
    """A polygon mesh; `weights` (V, J), `anchors` and `hidden` only where it was fitted to a body."""

    points: Array  # (V, 3)
    faces: list[list[int]]
    uv: Array  # (U, 2)
    uv_faces: list[list[int]]
    groups: list[str]  # one name a face
    weights: Array = field(default_factory=lambda: np.zeros((0, 0)))
    hidden: tuple[int, ...] = ()  # base vertices that a garment covers
    anchors: tuple[Indices, Array] | None = None  # base vertices (V, 3) and their shares (V, 3)


@dataclass(frozen=True)
class Fitting:
    """How a garment hangs on the base mesh: the content of a .mhclo file."""

    triples: Indices  # (V, 3) base vertices
    weights: Array  # (V, 3)
    offsets: Array  # (V, 3)
    scale: dict[int, tuple[int, int, float]]  # axis -> two base vertices and their distance on it in the template
    hidden: tuple[int, ...]
    obj: Path


@lru_cache(maxsize=64)
def read_obj(path: Path) -> Mesh:
    """A Wavefront mesh: vertices, texture coordinates, faces and their groups."""
    points, uv, faces, uv_faces, groups, group = [], [], [], [], [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            points.append([float(word) for word in words[1:4]])
        elif words[0] == "vt":
            uv.append([float(word) for word in words[1:3]])
        elif words[0] == "g":
            group = words[1] if len(words) > 1 else ""
        elif words[0] == "f":
            corners = [word.split("/") for word in words[1:]]
            faces.append([int(corner[0]) - 1 for corner in corners])
            uv_faces.append([int(corner[1]) - 1 if len(corner) > 1 and corner[1] else 0 for corner in corners])
            groups.append(group)
    return Mesh(np.array(points), faces, np.array(uv or [[0.0, 0.0]]), uv_faces, groups)


@lru_cache(maxsize=512)  # people share most of them
def read_target(path: Path) -> tuple[Indices, Array]:
    """Vertex indices (N,) and their displacements (N, 3) in decimetres."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line[:1].isdigit()]  # an average body's own target has none
    table = np.array(" ".join(rows).split(), float).reshape(-1, 4)
    return table[:, 0].astype(np.int64), table[:, 1:]


def read_mhclo(path: Path) -> Fitting:
    """Where a garment's vertices hang, what it hides of the body, and its mesh's file."""
    triples, weights, offsets, hidden, scale, obj, section = [], [], [], list[int](), {}, "", ""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("x_scale", "y_scale", "z_scale"):
            scale["xyz".index(words[0][0])] = (int(words[1]), int(words[2]), float(words[3]))
        elif words[0] == "obj_file":
            obj = words[1]
        elif words[0] in ("verts", "delete_verts"):
            section = words[0]
        elif section == "verts" and words[0].isdigit():
            # Header lines may follow "verts 0"; only rows that start with a number are vertices.
            single = len(words) == 1
            triples.append([int(words[0])] * 3 if single else [int(word) for word in words[:3]])
            weights.append([1.0, 0.0, 0.0] if single else [float(word) for word in words[3:6]])
            offsets.append([float(word) for word in words[6:9]] if len(words) >= 9 else [0.0, 0.0, 0.0])
        elif section == "delete_verts" and words[0].isdigit():
            text = " ".join(words).replace(" - ", "-")
            for item in text.split():
                first, _, last = item.partition("-")
                hidden.extend(range(int(first), int(last or first) + 1))
    rows = (np.array(triples), np.array(weights), np.array(offsets))
    return Fitting(*rows, scale, tuple(hidden), path.parent / obj)


def components(mesh: Mesh) -> Indices:
    """(faces,) number of the connected part that each face belongs to, from 0."""
    rows = np.concatenate([face[:-1] for face in mesh.faces])
    columns = np.concatenate([face[1:] for face in mesh.faces])
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), (len(mesh.points),) * 2)
    labels = connected_components(graph, directed=False)[1]
    return np.unique([labels[face[0]] for face in mesh.faces], return_inverse=True)[1]


def part(mesh: Mesh, keep: NDArray[np.bool_]) -> Mesh:
    """The mesh with some of its faces alone (all vertices stay)."""
    chosen = np.flatnonzero(keep)
    faces, uv_faces = ([rows[i] for i in chosen] for rows in (mesh.faces, mesh.uv_faces))
    return replace(mesh, faces=faces, uv_faces=uv_faces, groups=[mesh.groups[i] for i in chosen])


def triangles(faces: Sequence[Sequence[int]]) -> Indices:
    """(T, 3): polygons cut into fans; corners that repeat, as in the files' padded triangles, are dropped."""
    rows = []
    for face in faces:
        ring = list(dict.fromkeys(face))
        rows += [(ring[0], ring[k], ring[k + 1]) for k in range(1, len(ring) - 1)]
    return np.array(rows, np.int64).reshape(-1, 3)


def subdivision(faces: Sequence[Sequence[int]], count: int) -> tuple[csr_matrix, list[list[int]]]:
    """One step of Catmull and Clark (1978): a matrix (N, V) from old to new points, and the new faces.

    The first V new points are the old ones, moved; then one for each edge and one for each face. Edges of one face
    keep their line. Points that no face uses stay.
    """
    rings = [list(dict.fromkeys(face)) for face in faces]
    edges: dict[tuple[int, int], list[int]] = {}
    for number, ring in enumerate(rings):
        for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
            edges.setdefault((min(a, b), max(a, b)), []).append(number)
    index = {edge: count + number for number, edge in enumerate(edges)}
    first_face = count + len(edges)
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []

    def add(row: int, shares: dict[int, float]) -> None:
        rows.extend([row] * len(shares))
        columns.extend(shares)
        values.extend(shares.values())

    def mixed(*terms: tuple[float, dict[int, float]]) -> dict[int, float]:
        total: dict[int, float] = {}
        for amount, shares in terms:
            for key, share in shares.items():
                total[key] = total.get(key, 0.0) + amount * share
        return total

    middles = [{i: 1 / len(ring) for i in ring} for ring in rings]
    for number, middle in enumerate(middles):
        add(first_face + number, middle)
    for (a, b), owners in edges.items():
        ends = {a: 0.5, b: 0.5}
        inside = len(owners) == 2
        add(index[a, b], mixed((0.5, ends), *((0.25, middles[f]) for f in owners)) if inside else ends)
    around: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    touching: list[list[int]] = [[] for _ in range(count)]
    for edge in edges:
        around[edge[0]].append(edge)
        around[edge[1]].append(edge)
    for number, ring in enumerate(rings):
        for i in ring:
            touching[i].append(number)
    for vertex in range(count):
        border = [edge for edge in around[vertex] if len(edges[edge]) != 2]
        n = len(touching[vertex])
        if not around[vertex]:
            add(vertex, {vertex: 1.0})
        elif border:
            others = [sum(edge) - vertex for edge in border]
            keep = {vertex: 0.75 if len(border) == 2 else 1.0}
            add(vertex, mixed((1.0, keep), *((0.125, {o: 1.0}) for o in others if len(border) == 2)))
        else:
            faces_part = ((1 / n / n, middles[f]) for f in touching[vertex])
            edges_part = ((2 / n / len(around[vertex]), {a: 0.5, b: 0.5}) for a, b in around[vertex])
            add(vertex, mixed(*faces_part, *edges_part, ((n - 3) / n, {vertex: 1.0})))
    matrix = coo_matrix((values, (rows, columns)), (first_face + len(rings), count)).tocsr()
    divided = []
    for number, ring in enumerate(rings):
        for before, at, after in zip(ring[-1:] + ring[:-1], ring, ring[1:] + ring[:1], strict=True):
            left, right = (index[min(at, o), max(at, o)] for o in (before, after))
            divided.append([at, right, first_face + number, left])
    return matrix, divided
