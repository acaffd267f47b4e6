"""The MakeHuman base mesh with its rig: morphs, joints, and garments fitted to it.

Letters: V vertices of the mesh at hand, J bones. Coordinates are MakeHuman's: decimetres, y up, the person faces +z
and their left is +x, as in `pose.skeleton` but for the unit.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from train.people.meshes import Array, Fitting, Mesh, read_mhclo, read_obj, read_target

ADVICE = (
    "Pass the folder that holds the MakeHuman CC0 assets: `makehuman/` (the application's data) and `base/` (its "
    "clothes, hair and eyebrows), from github.com/makehumancommunity"
)


def check_assets(assets: Path) -> None:
    """ValueError in one line unless the folder holds what a person is made of."""
    needed = (
        "makehuman/data/3dobjs/base.obj",
        "makehuman/data/rigs/default.mhskel",
        "makehuman/data/rigs/default_weights.mhw",
        "makehuman/data/targets/macrodetails",
        "base/clothes",
        "base/hair",
        "base/teeth/teeth_base/teeth_base.mhclo",
    )
    for name in needed:
        if not (assets / name).exists():
            raise ValueError(f"no {name} under {assets}. {ADVICE}")


@lru_cache(maxsize=1)
def read_rig(folder: Path) -> tuple[dict[str, Any], dict[str, list[int]], dict[str, list[list[float]]]]:
    """Bones, the base vertices of each joint, and (vertex, weight) pairs of each bone."""
    rig = json.loads((folder / "default.mhskel").read_text())
    return rig["bones"], rig["joints"], json.loads((folder / "default_weights.mhw").read_text())["weights"]


class BaseMesh:
    """One body at rest: change `points` with `morph`, then fit garments and ask for joints."""

    def __init__(self, assets: Path) -> None:
        check_assets(assets)
        self.assets = assets
        self.data = assets / "makehuman" / "data"
        self.mesh = read_obj(self.data / "3dobjs" / "base.obj")
        self.points = self.mesh.points.copy()
        self.bones, self.joints, pairs_of = read_rig(self.data / "rigs")
        self.order: list[str] = []  # parents first
        for bone in self.bones:
            chain = []
            while bone and bone not in self.order:
                chain.append(bone)
                bone = self.bones[bone]["parent"]
            self.order.extend(reversed(chain))
        self.index = {bone: number for number, bone in enumerate(self.order)}
        weights = np.zeros((len(self.points), len(self.order)))
        for bone, pairs in pairs_of.items():
            if bone in self.index and pairs:
                vertices, values = np.array(pairs).T
                weights[vertices.astype(int), self.index[bone]] += values
        weights[weights.sum(1) == 0, self.index["root"]] = 1.0
        self.weights = weights / weights.sum(1, keepdims=True)

    def target(self, name: str) -> Array:
        """(V, 3) displacements of a target, named by its path under `targets/` without the suffix."""
        vertices, offsets = read_target(self.data / "targets" / f"{name}.target")
        moved = np.zeros_like(self.points)
        moved[vertices] = offsets
        return moved

    def morph(self, target: str, amount: float = 1.0) -> None:
        """Add a share of a target to the body."""
        vertices, offsets = read_target(self.data / "targets" / f"{target}.target")
        self.points[vertices] += offsets * amount

    def mask(self, targets: list[str]) -> Array:
        """(V,) in [0, 1]: how much these targets move each base vertex, e.g. a lip's volume marks the lip."""
        mask = np.zeros(len(self.points))
        for target in targets:
            length = np.linalg.norm(self.target(target), axis=1)
            mask = np.maximum(mask, length / length.max())
        return mask

    def head(self, bone: str) -> Array:
        """(3,) where a bone starts, on the body as it is."""
        return self.points[self.joints[self.bones[bone]["head"]]].mean(0)

    def tail(self, bone: str) -> Array:
        """(3,) where it ends."""
        return self.points[self.joints[self.bones[bone]["tail"]]].mean(0)

    def fit(self, path: Path) -> Mesh:
        """A garment on the morphed body at rest, with the weights of the triangles that it hangs on."""
        fitting: Fitting = read_mhclo(path)
        scale = np.ones(3)
        for axis, (first, second, reference) in fitting.scale.items():
            scale[axis] = abs(self.points[first, axis] - self.points[second, axis]) / reference
        mesh = replace(read_obj(fitting.obj))  # files are read once: theirs stays as it is
        triples, weights = fitting.triples, fitting.weights
        mesh.points = (self.points[triples] * weights[..., None]).sum(1) + fitting.offsets * scale
        positive = np.clip(weights, 0, None)
        positive /= positive.sum(1, keepdims=True)
        mesh.weights = (self.weights[triples] * positive[..., None]).sum(1)
        mesh.hidden, mesh.anchors = fitting.hidden, (triples, weights)
        return mesh
