"""The MakeHuman base mesh: readers for its formats, morphs, clothes fitting, the arm pose and skinning.

Letters: V vertices of the mesh at hand, J bones. Coordinates are MakeHuman's: decimetres, y up, the person faces +z
and their left is +x. `to_blender` turns them into Blender's metres with z up.

Formats (all plain text or JSON, read from the data files alone): `.obj`; `.target`, rows "index dx dy dz"; `.mhclo`,
rows "v1 v2 v3 w1 w2 w3 dx dy dz" or one index, that tie each vertex of a garment to a triangle of the base mesh;
`.mhskel` bones between joints, each the mean of its base vertices; `.mhw` skin weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.float64]


def to_blender(points: Array) -> Array:
    """(…, 3) decimetres, y up -> (…, 3) metres, z up, the person facing -y."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1) * 0.1


def unit(vector: Array) -> Array:
    vector = np.asarray(vector, float)
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12)


def turn(axis: Array | tuple[float, float, float], degrees: float) -> Array:
    """(3, 3) rotation about an axis, right-handed."""
    x, y, z = unit(np.array(axis, float))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def frame(direction: Array, normal: Array) -> Array:
    """(3, 3) whose columns are the direction, the part of the normal across it, and their product."""
    direction = unit(direction)
    normal = np.asarray(normal, float)
    normal = unit(normal - direction * (normal @ direction))
    return np.stack([direction, normal, np.cross(direction, normal)], 1)


@dataclass
class Mesh:
    """A polygon mesh; `weights` (V, J) only where it is to be skinned."""

    points: Array  # (V, 3)
    faces: list[list[int]]
    uv: Array  # (U, 2)
    uv_faces: list[list[int]]
    groups: list[str]  # one name a face
    weights: Array = field(default_factory=lambda: np.zeros((0, 0)))
    hidden: tuple[int, ...] = ()  # base vertices that a garment covers


def read_obj(path: Path) -> Mesh:
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


def read_target(path: Path) -> tuple[NDArray[np.int64], Array]:
    """Vertex indices (N,) and their displacements (N, 3) in decimetres."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if len(row) == 4 and row[0].isdigit()]
    vertices = np.array([int(row[0]) for row in rows], np.int64)  # an average body's own target has no rows
    return vertices, np.array([[float(word) for word in row[1:]] for row in rows]).reshape(-1, 3)


def read_mhclo(path: Path) -> dict:
    """Rows (index triple, weights, offset), the scale references of each axis, hidden vertices, the mesh's file."""
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
    return {"rows": rows, "scale": scale, "hidden": tuple(hidden), "obj": path.parent / obj}


def components(mesh: Mesh) -> NDArray[np.int64]:
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


class Human:
    """One person: morph `points` with `morph`, fit garments, then pose and skin everything with the same bones."""

    def __init__(self, assets: Path) -> None:
        self.assets = assets
        self.data = assets / "makehuman" / "data"
        if not (self.data / "3dobjs" / "base.obj").exists():
            raise ValueError(
                f"No makehuman/data/3dobjs/base.obj under {assets}. Pass the folder that holds the MakeHuman CC0 "
                "assets: `makehuman/` (the application's data) and `base/` (its clothes, hair and eyebrows)."
            )
        self.mesh = read_obj(self.data / "3dobjs" / "base.obj")
        self.points = self.mesh.points.copy()
        rig = json.loads((self.data / "rigs" / "default.mhskel").read_text())
        self.bones, self.joints = rig["bones"], rig["joints"]
        self.order: list[str] = []
        for bone in self.bones:
            chain = []
            while bone and bone not in self.order:
                chain.append(bone)
                bone = self.bones[bone]["parent"]
            self.order.extend(reversed(chain))
        self.index = {bone: number for number, bone in enumerate(self.order)}
        weights = np.zeros((len(self.points), len(self.order)))
        for bone, pairs in json.loads((self.data / "rigs" / "default_weights.mhw").read_text())["weights"].items():
            if bone in self.index and pairs:
                vertices, values = np.array(pairs).T
                weights[vertices.astype(int), self.index[bone]] += values
        weights[weights.sum(1) == 0, self.index["root"]] = 1.0
        self.weights = weights / weights.sum(1, keepdims=True)
        self.rotation = np.tile(np.eye(3), (len(self.order), 1, 1))
        self.shift = np.zeros((len(self.order), 3))

    def morph(self, target: str, amount: float = 1.0) -> None:
        """Add a share of a target, named by its path under `targets/` without the suffix."""
        vertices, offsets = read_target(self.data / "targets" / f"{target}.target")
        self.points[vertices] += offsets * amount

    def mask(self, targets: list[str]) -> Array:
        """(V,) in [0, 1]: how much these targets move each base vertex, e.g. a lip's volume marks the lip."""
        mask = np.zeros(len(self.points))
        for target in targets:
            vertices, offsets = read_target(self.data / "targets" / f"{target}.target")
            length = np.linalg.norm(offsets, axis=1)
            mask[vertices] = np.maximum(mask[vertices], length / length.max())
        return mask

    def head(self, bone: str) -> Array:
        return self.points[self.joints[self.bones[bone]["head"]]].mean(0)

    def tail(self, bone: str) -> Array:
        return self.points[self.joints[self.bones[bone]["tail"]]].mean(0)

    def fit(self, path: Path) -> Mesh:
        """A garment on the morphed body at rest, with the weights of the triangles that it hangs on."""
        garment = read_mhclo(path)
        triples, weights, offsets = garment["rows"]
        scale = np.ones(3)
        for axis, (first, second, reference) in garment["scale"].items():
            scale[axis] = abs(self.points[first, axis] - self.points[second, axis]) / reference
        mesh = read_obj(garment["obj"])
        mesh.points = (self.points[triples] * weights[..., None]).sum(1) + offsets * scale
        positive = np.clip(weights, 0, None)
        positive /= positive.sum(1, keepdims=True)
        mesh.weights = (self.weights[triples] * positive[..., None]).sum(1)
        mesh.hidden = garment["hidden"]
        return mesh

    def pose(self, rotations: dict[str, Array]) -> None:
        """Set global rotations (3, 3) by bone; a bone without one moves with its parent."""
        for bone in self.order:
            number, parent, head = self.index[bone], self.bones[bone]["parent"], self.head(bone)
            if parent is None:
                self.rotation[number] = rotations.get(bone, np.eye(3))
                self.shift[number] = head - self.rotation[number] @ head
                continue
            above = self.index[parent]
            self.rotation[number] = rotations.get(bone, self.rotation[above])
            place = self.rotation[above] @ head + self.shift[above]
            self.shift[number] = place - self.rotation[number] @ head

    def skin(self, points: Array, weights: Array) -> Array:
        """Linear blend skinning of (V, 3) points at rest."""
        posed = np.zeros_like(points)
        for number in range(len(self.order)):
            used = weights[:, number] > 0
            if used.any():
                moved = points[used] @ self.rotation[number].T + self.shift[number]
                posed[used] += weights[used, number, None] * moved
        return posed

    def place(self, point: Array, bone: str) -> Array:
        """Where a rest point that moves with one bone is in the pose."""
        return self.rotation[self.index[bone]] @ point + self.shift[self.index[bone]]
