"""The presenter's body: the base mesh of `train.people` in one pose, and the way to Blender's axes.

Letters: V vertices of the mesh at hand, J bones. Coordinates are MakeHuman's: decimetres, y up, the person faces +z
and their left is +x. `to_blender` turns them into Blender's metres with z up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.people.base import BaseMesh
from train.people.meshes import Array, Mesh, components, part
from train.people.puppet import frame, unit

__all__ = ["Array", "Human", "Mesh", "components", "frame", "part", "to_blender", "turn", "unit"]


def to_blender(points: Array) -> Array:
    """(…, 3) decimetres, y up -> (…, 3) metres, z up, the person facing -y."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1) * 0.1


def turn(axis: Array | tuple[float, float, float], degrees: float) -> Array:
    """(3, 3) rotation about an axis, right-handed."""
    x, y, z = unit(np.array(axis, float))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


class Human(BaseMesh):
    """One person: morph `points` with `morph`, fit garments, then pose and skin everything with the same bones."""

    def __init__(self, assets: Path) -> None:
        super().__init__(assets)
        self.rotation = np.tile(np.eye(3), (len(self.order), 1, 1))
        self.shift = np.zeros((len(self.order), 3))

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
