"""The joint hierarchy that motion is expressed on, its forward kinematics, and the home skeleton of Rhetor.

Letters: J joints, F frames. Lengths are centimetres; y points up, a person at rest faces +z and has the left arm
along +x. Joints stand in an order where parents precede their children.

The home skeleton has the 75 joints of BEAT (Liu et al. 2022) in the order of its BVH files; the rest offsets are ours:
an adult of 1.72 m in a T-pose with the palms down, all rotations identity. In both hands the joints 1 to 4 of a finger
are its knuckle, its two inner joints and its tip (thumb: base, knuckle, joint, tip), like the points of a hand in
`pose.keypoints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Right side and middle of the home skeleton: name, parent, offset from the parent. The left side is mirrored.
_MIDDLE = (
    ("Hips", "", (0.0, 0.0, 0.0)),
    ("Spine", "Hips", (0.0, 8.0, -1.0)),
    ("Spine1", "Spine", (0.0, 10.5, -0.5)),
    ("Spine2", "Spine1", (0.0, 11.0, -0.5)),
    ("Spine3", "Spine2", (0.0, 11.0, 0.0)),
    ("Neck", "Spine3", (0.0, 13.0, 0.5)),
    ("Neck1", "Neck", (0.0, 5.0, 1.0)),
    ("Head", "Neck1", (0.0, 5.0, 1.0)),
    ("HeadEnd", "Head", (0.0, 18.0, 1.0)),
)
_ARM = (
    ("Shoulder", "Spine3", (-3.0, 9.0, 1.0)),
    ("Arm", "Shoulder", (-14.5, 0.0, -1.0)),
    ("ForeArm", "Arm", (-28.0, 0.0, 0.0)),
    ("Hand", "ForeArm", (-25.5, 0.0, 0.0)),
    ("HandMiddle1", "Hand", (-9.0, 0.3, 0.0)),
    ("HandMiddle2", "HandMiddle1", (-4.5, 0.0, 0.0)),
    ("HandMiddle3", "HandMiddle2", (-2.8, 0.0, 0.0)),
    ("HandMiddle4", "HandMiddle3", (-2.3, 0.0, 0.0)),
    ("HandRing", "Hand", (-3.0, 0.2, -0.9)),
    ("HandRing1", "HandRing", (-5.5, 0.0, -1.2)),
    ("HandRing2", "HandRing1", (-4.1, 0.0, 0.0)),
    ("HandRing3", "HandRing2", (-2.6, 0.0, 0.0)),
    ("HandRing4", "HandRing3", (-2.3, 0.0, 0.0)),
    ("HandPinky", "Hand", (-2.9, 0.0, -1.6)),
    ("HandPinky1", "HandPinky", (-4.8, 0.0, -2.4)),
    ("HandPinky2", "HandPinky1", (-3.2, 0.0, 0.0)),
    ("HandPinky3", "HandPinky2", (-1.9, 0.0, 0.0)),
    ("HandPinky4", "HandPinky3", (-2.0, 0.0, 0.0)),
    ("HandIndex", "Hand", (-3.2, 0.2, 1.2)),
    ("HandIndex1", "HandIndex", (-6.0, 0.0, 1.2)),
    ("HandIndex2", "HandIndex1", (-4.2, 0.0, 0.0)),
    ("HandIndex3", "HandIndex2", (-2.4, 0.0, 0.0)),
    ("HandIndex4", "HandIndex3", (-2.1, 0.0, 0.0)),
    ("HandThumb1", "Hand", (-2.6, -0.8, 2.4)),
    ("HandThumb2", "HandThumb1", (-3.0, -0.5, 2.9)),
    ("HandThumb3", "HandThumb2", (-2.5, 0.0, 2.0)),
    ("HandThumb4", "HandThumb3", (-2.3, 0.0, 1.5)),
)
_LEG = (
    ("UpLeg", "Hips", (-9.0, -4.0, 0.0)),
    ("Leg", "UpLeg", (0.0, -41.0, 0.0)),
    ("Foot", "Leg", (0.0, -41.0, -1.5)),
    ("ForeFoot", "Foot", (0.0, -4.5, 7.0)),
    ("ToeBase", "ForeFoot", (0.0, -2.0, 5.0)),
    ("ToeBaseEnd", "ToeBase", (0.0, 0.0, 6.0)),
)
HOME_HEIGHT = 93.0  # cm of the hips above the floor when the home skeleton stands


@dataclass(frozen=True)
class Skeleton:
    """`names` and `parents` (-1 for the root, which is joint 0) of J joints, `offsets` (J, 3) cm from the parent.

    `end_sites` holds the tips of leaf bones, joint name to offset (3,): they never rotate, only BVH files carry them.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Array
    end_sites: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(self.parents) != count or self.offsets.shape != (count, 3):
            raise ValueError(
                f"{count} names need as many parents and offsets ({count}, 3), got {len(self.parents)} parents and "
                f"offsets {self.offsets.shape}"
            )
        if not count or self.parents[0] != -1:
            raise ValueError("joint 0 must be the root, with parent -1")
        for joint, parent in enumerate(self.parents[1:], 1):
            if not 0 <= parent < joint:
                raise ValueError(f"joint {joint} ({self.names[joint]}) has parent {parent}: parents must come first")
        duplicates = sorted({name for name in self.names if self.names.count(name) > 1})
        if duplicates:
            raise ValueError(f"joint names must differ, these occur twice: {', '.join(duplicates)}")
        if not np.isfinite(self.offsets).all():
            raise ValueError("the offsets hold NaN or infinite values")

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        """Same joints in the same order, offsets within 1e-5 cm (what files print); end sites are decoration."""
        if not isinstance(other, Skeleton):
            return NotImplemented
        same = self.names == other.names and self.parents == other.parents
        return same and np.allclose(self.offsets, other.offsets, rtol=0, atol=1e-5)

    def __hash__(self) -> int:
        return hash((self.names, self.parents))

    @classmethod
    def home(cls) -> Skeleton:
        """BEAT's 75 joints: the skeleton of every motion that Rhetor makes."""
        rows = list(_MIDDLE)
        for side, sign in (("Right", 1.0), ("Left", -1.0)):
            rows += _side(_ARM, side, sign)
        for side, sign in (("Right", 1.0), ("Left", -1.0)):
            rows += _side(_LEG, side, sign)
        names = tuple(name for name, _, _ in rows)
        parents = tuple(names.index(parent) if parent else -1 for _, parent, _ in rows)
        offsets = np.array([offset for _, _, offset in rows])
        leaves = set(range(len(names))) - set(parents)
        return cls(names, parents, offsets, {names[leaf]: np.zeros(3) for leaf in sorted(leaves)})

    def index(self, name: str) -> int:
        """Position of a joint; ValueError names the known ones."""
        if name not in self.names:
            raise ValueError(f"unknown joint {name!r}; this skeleton has {', '.join(self.names)}")
        return self.names.index(name)

    def rest_rotations(self, frames: int) -> NDArray[np.float32]:
        """(F, J, 3, 3) identities: the rest pose held."""
        return np.tile(np.eye(3, dtype=np.float32), (frames, len(self), 1, 1))

    def global_rotations(self, rotations: ArrayLike) -> Array:
        """Local (F, J, 3, 3) to global rotations (F, J, 3, 3)."""
        local = self._checked(rotations)
        result = np.empty_like(local)
        for joint, parent in enumerate(self.parents):
            result[:, joint] = local[:, joint] if parent < 0 else result[:, parent] @ local[:, joint]
        return result

    def local_rotations(self, rotations: ArrayLike) -> Array:
        """Global (F, J, 3, 3) to local rotations (F, J, 3, 3): the inverse of `global_rotations`."""
        world = self._checked(rotations)
        result = world.copy()
        parents = np.array(self.parents[1:], int)
        result[:, 1:] = np.swapaxes(world[:, parents], -1, -2) @ world[:, 1:]
        return result

    def forward_kinematics(
        self, rotations: ArrayLike, root_position: ArrayLike, translations: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Joint positions (F, J, 3) cm and global rotations (F, J, 3, 3).

        `rotations` (F, J, 3, 3) local; `root_position` (F, 3) is where the root is (its rest offset is not added);
        `translations` (F, J, 3) replaces the rest offsets, for motion whose bones slide.
        """
        world = self.global_rotations(rotations)
        root = np.asarray(root_position, np.float64)
        if root.shape != (len(world), 3):
            raise ValueError(f"root_position must be ({len(world)}, 3), got {root.shape}")
        offsets = self.offsets if translations is None else np.asarray(translations, np.float64)
        offsets = np.broadcast_to(offsets, (len(world), len(self), 3))
        positions = np.empty((len(world), len(self), 3))
        positions[:, 0] = root
        for joint, parent in enumerate(self.parents[1:], 1):
            positions[:, joint] = positions[:, parent] + np.einsum("fab,fb->fa", world[:, parent], offsets[:, joint])
        return positions, world

    def _checked(self, rotations: ArrayLike) -> Array:
        rotations = np.asarray(rotations, np.float64)
        if rotations.ndim != 4 or rotations.shape[1:] != (len(self), 3, 3):
            raise ValueError(f"rotations must be (F, {len(self)}, 3, 3), got {rotations.shape}")
        return rotations


def _side(
    rows: tuple[tuple[str, str, tuple[float, float, float]], ...], side: str, sign: float
) -> list[tuple[str, str, tuple[float, float, float]]]:
    middle = {name for name, _, _ in _MIDDLE}
    return [
        (side + name, parent if parent in middle else side + parent, (sign * x, y, z))
        for name, parent, (x, y, z) in rows
    ]
