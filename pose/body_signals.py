"""What a body says, freed of whose body it is: the signals that retargeting moves from one person to another.

Letters: F frames, S = 2 sides (left, right: the person's own), G = 5 fingers from the thumb to the little finger.
Axes are the image's: x right, y down, z away from the camera, for a person who faces the camera. Arms are measured in
arm lengths (shoulder to elbow to wrist) from their own shoulder, in the frame of the chest, so that a turning torso
does not fling them about; the torso is measured in shoulder widths (sw).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pose.motion import Motion
from pose.rotations import axis_angle_to_matrix, matrix_to_axis_angle, normalized
from pose.skeleton import Skeleton

Array = NDArray[np.float64]

FINGER_NAMES = ("Thumb", "Index", "Middle", "Ring", "Pinky")
TO_IMAGE = np.diag([1.0, -1.0, -1.0])  # from motion axes (y up, z to the camera) to image axes
ROOT_SHARE = 0.5  # part of the hips' own travel that reaches the shoulders: a photo's hips stay put (chosen by hand)


@dataclass(frozen=True)
class BodySignals:
    """F frames of signals.

    `wrist`, `elbow` (F, 2, 3) arm lengths from the shoulder. `hand` (F, 2, 3, 3) rotation of the hand relative to the
    first frame of the stream. `flexion` (F, 2, 5, 3) radians by which the bones of each finger are bent towards the
    palm, measured from the direction wrist to middle knuckle; 0 throughout where fingers are not known (for the thumb
    the measure is the same, though it bends across the palm). `chest` (F, 2) sw, and `roll` (F,) radians clockwise in
    the image: travel and lean of the shoulder line since the first frame. `shrug` (F, 2) sw that each shoulder is
    lower than in the first frame, within the chest. `head` (F, 3, 3) rotation relative to the first frame and the
    chest, in the axes of `FaceRig` (x right, y up, z to the camera). `expression` (F, 51) or None; `mesh` (F, 478, 2)
    or None: the expression as offsets from the photo's face with its mouth closed, px, before the head is turned.
    """

    wrist: Array
    elbow: Array
    hand: Array
    flexion: Array
    chest: Array
    roll: Array
    shrug: Array
    head: Array
    expression: NDArray[np.float32] | None = None
    mesh: Array | None = None

    def __len__(self) -> int:
        return len(self.wrist)

    def __getitem__(self, frames: slice) -> BodySignals:
        cut = {name: value[frames] for name, value in vars(self).items() if value is not None}
        return replace(self, **cut)


# Joint names of the kinds of skeleton that are known: clavicle, upper arm, forearm and hand of a side, then the head.
# {s} stands for the side as the kind writes it.
_NAMINGS = (
    # BEAT (home), Mixamo, ZeroEGGS, Vicon
    (("Left", "Right"), ("{s}Shoulder", "{s}Arm", "{s}ForeArm", "{s}Hand"), "Head", "{s}Hand{f}{n}"),
    # BEAT with the short names of its papers' code
    (("L", "R"), ("{s}Shoulder", "{s}Arm", "{s}Arm1", "{s}Hand"), "Head", "{s}Hand{i}{n}"),
    (("Left", "Right"), ("{s}Shoulder", "{s}Arm", "{s}Arm1", "{s}Hand"), "Head", "{s}Hand{f}{n}"),
    # Poser, Biovision: the "shoulder" is where the upper arm starts
    (("Left", "Right"), ("{s}Collar", "{s}Shoulder", "{s}Elbow", "{s}Wrist"), "Head", "{s}{f}{n}"),
    # Bandai-Namco
    (("L", "R"), ("Shoulder_{s}", "UpperArm_{s}", "LowerArm_{s}", "Hand_{s}"), "Head", "{f}{n}_{s}"),
    # SMPL and SMPL-X
    (("left", "right"), ("{s}_collar", "{s}_shoulder", "{s}_elbow", "{s}_wrist"), "head", "{s}_{f}{n}"),
)


class MotionReader:
    """Reads `BodySignals` from the motions of one stream; the first frame seen is the reference for all.

    Any skeleton whose arms and head have names of a known kind serves: everything is read from joint positions and
    from changes of global rotations, so rest poses and bone axes do not matter. The person may face any way.
    """

    def __init__(self) -> None:
        self._skeleton: Skeleton | None = None

    def read(self, motion: Motion) -> BodySignals:
        """Signals of a chunk; ValueError when its joints are unknown or it has another skeleton than the first."""
        if self._skeleton is None:
            self._start(motion)
        elif motion.skeleton != self._skeleton:
            raise ValueError("the skeleton changed within one stream of motion; map all chunks to one skeleton first")
        positions, world = self._kinematics(motion)
        # Rotations since the first frame, of the whole chest and of what hangs on it in its frame.
        chest = world[:, self._chest] @ self._chest0.T
        back = np.swapaxes(chest, 1, 2)

        shoulders, elbows, wrists = (positions[:, self._arms[:, k]] for k in (1, 2, 3))  # (F, 2, 3)
        wrist = np.einsum("fab,fsb->fsa", back, wrists - shoulders) / self._arm_length
        elbow = np.einsum("fab,fsb->fsa", back, elbows - shoulders) / self._arm_length
        hand = back[:, None] @ world[:, self._arms[:, 3]] @ np.swapaxes(self._hand0, -1, -2)
        head = back @ world[:, self._head] @ self._head0.T

        middle = shoulders.mean(1)
        root = positions[:, 0] - self._root0
        travel = middle - positions[:, 0] - self._middle0 + ROOT_SHARE * root
        line = shoulders[:, 0] - shoulders[:, 1]
        lean = np.arctan2(line[:, 1], np.hypot(line[:, 0], line[:, 2])) - self._lean0
        within = np.einsum("fab,fsb->fsa", back, shoulders - positions[:, self._chest, None])
        return BodySignals(
            wrist=wrist @ TO_IMAGE,
            elbow=elbow @ TO_IMAGE,
            hand=TO_IMAGE @ hand @ TO_IMAGE,
            flexion=self._flexion(positions, world),
            chest=travel[:, :2] * (1, -1) / self._width,
            roll=-lean,
            shrug=-(within - self._within0)[..., 1] / self._width,
            head=head,
            expression=motion.expression,
        )

    def _kinematics(self, motion: Motion) -> tuple[Array, Array]:
        positions, world = motion.skeleton.forward_kinematics(
            motion.rotations, motion.root_position, motion.translations
        )
        return positions @ self._heading.T, self._heading @ world

    def _start(self, motion: Motion) -> None:
        """Find the joints and take the first frame's pose as reference, turned to face +z."""
        skeleton = motion.skeleton
        self._arms, self._head, self._fingers = find_joints(skeleton)
        self._chest = skeleton.parents[self._arms[0, 0]]
        self._heading = np.eye(3)
        positions, _ = self._kinematics(motion[:1])
        line = positions[0, self._arms[0, 1]] - positions[0, self._arms[1, 1]]
        # Turning by this about the vertical brings the line of the shoulders, right to left, onto +x.
        self._heading = axis_angle_to_matrix([0.0, np.arctan2(line[2], line[0]), 0.0])
        positions, world = self._kinematics(motion[:1])

        shoulders, elbows, wrists = (positions[0, self._arms[:, k]] for k in (1, 2, 3))
        self._arm_length = float(
            (np.linalg.norm(elbows - shoulders, axis=-1) + np.linalg.norm(wrists - elbows, axis=-1)).mean()
        )
        self._width = float(np.linalg.norm(shoulders[0] - shoulders[1]))
        if min(self._arm_length, self._width) <= 0:
            raise ValueError("the skeleton has no arms or shoulders of any length; check its offsets")
        self._chest0, self._head0 = world[0, self._chest], world[0, self._head]
        self._hand0 = world[0, self._arms[:, 3]]
        self._root0 = positions[0, 0]
        self._middle0 = shoulders.mean(0) - positions[0, 0]
        line = shoulders[0] - shoulders[1]
        self._lean0 = float(np.arctan2(line[1], np.hypot(line[0], line[2])))
        self._within0 = shoulders - positions[0, self._chest]
        self._skeleton = skeleton

    def _flexion(self, positions: Array, world: Array) -> Array:
        flexion = np.zeros((len(positions), 2, len(FINGER_NAMES), 3))
        for side, fingers in enumerate(self._fingers):
            if fingers is None:
                continue
            local = np.swapaxes(world[:, self._arms[side, 3]], 1, 2)[:, None, None]
            knuckles = positions[:, fingers]  # (F, 5, 4, 3)
            bones = (local @ np.diff(knuckles, axis=2)[..., None])[..., 0]
            wrist = positions[:, self._arms[side, 3]]
            palm = (local[:, :, 0] @ (knuckles[:, :, 0] - wrist[:, None])[..., None])[..., 0]
            along, _, normal = hand_axes(palm[:, 2], palm[:, 1], palm[:, 4], side)
            out = np.einsum("fgbx,fx->fgb", bones, normal)
            straight = np.einsum("fgbx,fx->fgb", bones, along)
            flexion[:, side] = np.arctan2(out, straight)
        return flexion


def hand_axes(middle: Array, index: Array, little: Array, side: int) -> tuple[Array, Array, Array]:
    """Unit axes (..., 3) of a hand from its knuckles relative to the wrist, in right-handed axes.

    Along the palm to the middle knuckle; across it, little finger to index; out of the palm. `side` 0 left, 1 right.
    """
    along = normalized(middle)
    across = index - little
    across = normalized(across - (across * along).sum(-1, keepdims=True) * along)
    normal = np.cross(along, across) * (1.0 if side == 0 else -1.0)
    return along, across, normal


def find_joints(skeleton: Skeleton) -> tuple[NDArray[np.int64], int, list[NDArray[np.int64] | None]]:
    """The joints that retargeting reads: arms (2, 4) from clavicle to hand, the head, (5, 4) of each hand's fingers.

    Fingers that the skeleton lacks are None. ValueError when its names are of no known kind.
    """
    # Some programs write a name space in front: mixamorig:LeftArm.
    names = {name.rpartition(":")[2].lower(): joint for joint, name in enumerate(skeleton.names)}
    for sides, arm, head, finger in _NAMINGS:
        wanted = [[part.format(s=side).lower() for part in arm] for side in sides]
        if any(name not in names for side in wanted for name in side) or head.lower() not in names:
            continue
        arms = np.array([[names[name] for name in side] for side in wanted])
        fingers: list[NDArray[np.int64] | None] = []
        for side in sides:
            hand = [
                [finger.format(s=side, f=name, i=name[0], n=n).lower() for n in range(1, 5)] for name in FINGER_NAMES
            ]
            known = all(name in names for row in hand for name in row)
            fingers.append(np.array([[names[name] for name in row] for row in hand]) if known else None)
        return arms, names[head.lower()], fingers
    kinds = "; ".join(", ".join(part.format(s=sides[0]) for part in arm) for sides, arm, _, _ in _NAMINGS)
    raise ValueError(
        f"unknown skeleton with joints {', '.join(skeleton.names[:12])}...: arms must be named as one of: {kinds}; "
        "rename the joints in the file"
    )


def limited_rotation(rotation: Array, limit: float) -> Array:
    """Rotations (..., 3, 3) with their angle smoothly kept under `limit` radians; small ones stay as they are."""
    vector = matrix_to_axis_angle(rotation)
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    return axis_angle_to_matrix(vector * (limit * np.tanh(angle / limit) / np.maximum(angle, 1e-12)))
