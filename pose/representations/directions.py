"""Unit directions of bones: TED Gesture's 9 (27 numbers) and TED Expressive's 42 (126), and bodies from them.

Axes are ours: y up, +z to the front, the person's left along +x. Rotations cannot be read off directions alone, so
`body_motion` finds rotations of the home skeleton that show them: the trunk stands between spine and shoulder line,
each further bone turns the shortest way from where its parent took it, palms and heads are fitted to all their
directions at once. Motion to directions to motion to directions is exact as long as palms and heads are rigid; how far
an arm is twisted about itself is not in the data.
Letters: F frames, N bones.
"""

from __future__ import annotations

import numpy as np
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it in this module

from pose.motion import Motion
from pose.representations.vectors import DEVIATION_FLOOR, Double, MotionVectors, home_motion, joint_columns
from pose.rotations import normalized, rotation_between
from pose.skeleton import Skeleton

# Points of the head that are no joints, from the head joint in its own axes, cm: chosen by hand on an adult head, with
# the nose nearer than the neck is long (10.2), so that the neck can bring it to any direction (`_lever`).
HEAD_POINTS = {
    "Nose": (0.0, 3.5, 9.3), "RightEye": (-3.2, 7.0, 7.5), "LeftEye": (3.2, 7.0, 7.5),
    "RightEar": (-7.5, 6.0, 1.5), "LeftEar": (7.5, 6.0, 1.5),
}  # fmt: skip
# (from, to) in the datasets' order of bones.
TED_BONES = (
    ("Spine", "Neck"), ("Neck", "Nose"), ("Nose", "HeadEnd"), ("Neck", "LeftArm"), ("LeftArm", "LeftForeArm"),
    ("LeftForeArm", "LeftHand"), ("Neck", "RightArm"), ("RightArm", "RightForeArm"), ("RightForeArm", "RightHand"),
)  # fmt: skip


def _finger_bones(side: str) -> tuple[tuple[str, str], ...]:
    bones = []
    for finger in ("Index", "Middle", "Pinky", "Ring", "Thumb"):
        chain = [f"{side}Hand", *(f"{side}Hand{finger}{k}" for k in (1, 2, 3))]
        bones += list(zip(chain[:-1], chain[1:], strict=True))
    return tuple(bones)


EXPRESSIVE_BONES = (
    ("Spine", "Neck"), ("Neck", "LeftArm"), ("Neck", "RightArm"), ("LeftArm", "LeftForeArm"),
    ("LeftForeArm", "LeftHand"), *_finger_bones("Left"), ("RightArm", "RightForeArm"), ("RightForeArm", "RightHand"),
    *_finger_bones("Right"), ("Neck", "Nose"), ("Nose", "RightEye"), ("Nose", "LeftEye"), ("RightEye", "RightEar"),
    ("LeftEye", "LeftEar"),
)  # fmt: skip


class DirectionVectors(MotionVectors):
    """(F, 27), or with `hands` (F, 126). The published centring is the mean alone: `fit_mean`."""

    @register_to_config
    def __init__(
        self,
        fps: float = 15.0,
        hands: bool = False,
        expression: bool = False,
        derivatives: bool = False,
        deviation_floor: float = DEVIATION_FLOOR,
        fidelity: str = "paper",
    ) -> None:
        super().__init__()
        self.bones = EXPRESSIVE_BONES if hands else TED_BONES
        self._set_up(3 * len(self.bones))

    def body_vectors(self, motion: Motion) -> Double:
        names = sorted({name for bone in self.bones for name in bone} - set(HEAD_POINTS))
        columns = dict(zip(names, joint_columns(motion, names), strict=True))
        positions, world = motion.skeleton.forward_kinematics(
            motion.rotations, motion.root_position, motion.translations
        )
        head = joint_columns(motion, ["Head"])[0]
        points = {name: positions[:, column] for name, column in columns.items()}
        points |= {name: positions[:, head] + world[:, head] @ offset for name, offset in HEAD_POINTS.items()}
        return np.concatenate([normalized(points[end] - points[start]) for start, end in self.bones], -1)

    def body_motion(self, vectors: Double) -> Motion:
        directions = normalized(vectors.reshape(len(vectors), -1, 3))
        wanted = {bone: directions[:, k] for k, bone in enumerate(self.bones)}
        return home_motion(self.config.fps, _Solver(wanted).rotations)

    def fit_mean(self, raw: list[Double]) -> None:
        """Centre without scaling, as published: the mean direction is taken away and the deviation stays 1."""
        self.fit(raw)
        self.deviation.fill_(1.0)


class _Solver:
    """Local rotations (F, J, 3, 3) of the home skeleton that show the wanted directions, {(from, to): (F, 3)}."""

    def __init__(self, wanted: dict[tuple[str, str], Double]) -> None:
        self.wanted, self.skeleton = wanted, Skeleton.home()
        frames = len(next(iter(wanted.values())))
        self.rotations = self.skeleton.rest_rotations(frames).astype(np.float64)
        self.world = {-1: self.rotations[:, 0].copy()}  # global rotations (F, 3, 3) of the joints turned so far
        self._trunk()
        self._head()
        for side in ("Left", "Right"):
            self._arm(side)

    def _turn(self, joint: str, world: Double) -> None:
        """Give a joint its global rotation (F, 3, 3); joints below it that are not turned later follow it."""
        index = self.skeleton.index(joint)
        self.rotations[:, index] = np.swapaxes(self._parent_world(joint), -1, -2) @ world
        self.world[index] = world

    def _parent_world(self, joint: str) -> Double:
        """Global rotation (F, 3, 3) of the nearest turned joint above."""
        index = self.skeleton.parents[self.skeleton.index(joint)]
        while index not in self.world:
            index = self.skeleton.parents[index]
        return self.world[index]

    def _rest(self, start: str, end: str) -> Double:
        """(3,) from one joint to another in the rest pose, cm."""
        return self._place(end) - self._place(start)

    def _place(self, name: str) -> Double:
        if name in HEAD_POINTS:
            return self._place("Head") + np.array(HEAD_POINTS[name])
        joint, place = self.skeleton.index(name), np.zeros(3)
        while joint > 0:
            place, joint = place + self.skeleton.offsets[joint], self.skeleton.parents[joint]
        return place

    def _trunk(self) -> None:
        shoulders = [self.wanted["Neck", f"{side}Arm"] for side in ("Left", "Right")]
        rest = np.stack([normalized(self._rest("Spine", "Neck")), [1.0, 0.0, 0.0]])
        self._turn("Spine", _two_axes(rest, self.wanted["Spine", "Neck"], shoulders[0] - shoulders[1]))

    def _head(self) -> None:
        points = ("Nose", "HeadEnd") if ("Nose", "HeadEnd") in self.wanted else None
        if points:
            # One direction cannot tell how the head is turned about it: the shortest way from the trunk's.
            trunk = self._parent_world("Neck")
            rest = normalized(self._rest(*points))
            head = rotation_between(trunk @ rest, self.wanted[points]) @ trunk
        else:
            bones = [bone for bone in self.wanted if bone[0] in HEAD_POINTS]
            head = _fitted([normalized(self._rest(*bone)) for bone in bones], [self.wanted[bone] for bone in bones])
        nose = head @ np.array(HEAD_POINTS["Nose"])
        self._lever("Neck", nose, self._rest("Neck", "Head"), self.wanted["Neck", "Nose"])
        self._turn("Head", head)

    def _lever(self, joint: str, fixed: Double, arm: Double, direction: Double) -> None:
        """Turn a joint so that `fixed` (F, 3), known, plus the turned `arm` (3,) points in the direction."""
        along = (direction * fixed).sum(-1, keepdims=True)
        reach = along**2 - (fixed**2).sum(-1, keepdims=True) + (arm**2).sum()
        target = (along + np.sqrt(np.maximum(reach, 0.0))) * direction - fixed
        start = self._parent_world(joint)
        self._turn(joint, rotation_between(start @ arm, target) @ start)

    def _arm(self, side: str) -> None:
        shoulder, arm, elbow, hand = (f"{side}{name}" for name in ("Shoulder", "Arm", "ForeArm", "Hand"))
        base = self._parent_world(shoulder) @ self._rest("Neck", shoulder)
        self._lever(shoulder, base, self._rest(shoulder, arm), self.wanted["Neck", arm])
        for joint, end in ((arm, elbow), (elbow, hand)):
            self._swing(joint, end)
        if (hand, f"{hand}Index1") not in self.wanted:
            return
        bones = [(hand, f"{hand}{finger}1") for finger in ("Index", "Middle", "Pinky", "Ring", "Thumb")]
        palm = _fitted([normalized(self._rest(*bone)) for bone in bones], [self.wanted[bone] for bone in bones])
        self._turn(hand, palm)
        for finger in ("Index", "Middle", "Pinky", "Ring", "Thumb"):
            for k in (1, 2):
                self._swing(f"{hand}{finger}{k}", f"{hand}{finger}{k + 1}")

    def _swing(self, joint: str, end: str) -> None:
        """The shortest turn of a joint from its parent's orientation that takes its bone to the wanted direction."""
        start = self._parent_world(joint)
        self._turn(joint, rotation_between(start @ self._rest(joint, end), self.wanted[joint, end]) @ start)


def _two_axes(rest: Double, first: Double, second: Double) -> Double:
    """Rotations (F, 3, 3) from rest directions (2, 3) to `first` (F, 3) exactly and `second` (F, 3) in its plane."""

    def frame(a: Double, b: Double) -> Double:
        across = normalized(np.cross(a, b))
        return np.stack([normalized(a), across, np.cross(normalized(a), across)], -1)

    return frame(first, second) @ frame(rest[0], rest[1]).T


def _fitted(rest: list[Double], seen: list[Double]) -> Double:
    """The rotations (F, 3, 3) that best take the rest directions (3,) to the seen ones (F, 3) (Kabsch)."""
    covariance = sum(np.einsum("fa,b->fab", now, before) for before, now in zip(rest, seen, strict=True))
    left, _, right = np.linalg.svd(covariance)
    left[..., :, 2] *= np.linalg.det(left @ right)[..., None]
    return left @ right
