"""Motion of the home skeleton on MakeHuman's bones, and linear blend skinning.

Letters: F frames, J bones of the rig, V vertices. The home skeleton rests in a T-pose with the palms down, the rig in
its own A-pose with curled fingers: a bone's rotation is the home joint's, after the turn that takes the bone's rest
frame (direction and palm or hinge) to the joint's. Spine, neck, head and collar bones rest alike in both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pose.motion import Motion, expression_index
from pose.rotations import axis_angle_to_matrix
from pose.skeleton import HOME_HEIGHT, Skeleton
from train.people.base import BaseMesh
from train.people.meshes import Array

TRUNK = {
    "root": "Hips", "spine05": "Spine", "spine04": "Spine1", "spine03": "Spine2", "spine02": "Spine3",
    "neck01": "Neck", "neck02": "Neck1", "head": "Head",
}  # fmt: skip
SIDES = {"L": "Left", "R": "Right"}
FINGERS = {2: "Index", 3: "Middle", 4: "Ring", 5: "Pinky"}
# The hand's turn about the forearm is spread over its bones, or the wrist collapses like a wrung cloth; the upper arm
# takes half of its own near the shoulder. Chosen by hand.
FOREARM_TWIST = {"lowerarm01": 0.25, "lowerarm02": 0.65}
UPPERARM_TWIST = 0.5
GAZE = (np.radians(27.0), np.radians(20.0))  # sideways, up and down at coefficient 1, as in pose.face_shapes
CM_TO_DM = 0.1


def unit(vector: Array) -> Array:
    """Vectors (..., 3) of length 1."""
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12)


def frame(direction: Array, normal: Array) -> Array:
    """(3, 3) whose columns are the direction, the part of the normal across it, and their product."""
    direction = unit(direction)
    normal = unit(normal - direction * (normal @ direction))
    return np.stack([direction, normal, np.cross(direction, normal)], 1)


def twist_angle(rotation: Array, axis: Array) -> Array:
    """(F,) radians that rotations (F, 3, 3) turn about axes (F, 3) or (3,): the twist of swing and twist."""
    vector = np.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        -1,
    )
    angle = 2 * np.arctan2((vector * axis).sum(-1), 1 + np.trace(rotation, axis1=1, axis2=2))
    return (angle + np.pi) % (2 * np.pi) - np.pi


def swing(start: Array, end: Array) -> Array:
    """(F, 3, 3) the smallest rotations that take directions `start` (F, 3) to `end` (F, 3)."""
    axis = np.cross(start, end)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, (start * end).sum(-1, keepdims=True))
    return axis_angle_to_matrix(axis / np.maximum(sine, 1e-9) * angle)


class Puppet:
    """The rig of one morphed body. `pose` gives the bones' transforms, `skin_matrix` what vertices take of them."""

    def __init__(self, body: BaseMesh) -> None:
        self.order, self.index = body.order, body.index
        self.parents = [
            -1 if body.bones[bone]["parent"] is None else self.index[body.bones[bone]["parent"]] for bone in self.order
        ]
        self.heads = np.stack([body.head(bone) for bone in self.order])  # (J, 3)
        self.tails = np.stack([body.tail(bone) for bone in self.order])
        self.home = Skeleton.home()
        self._turns = {bone: pair for side in SIDES for bone, pair in self._limb_turns(side).items()}
        hips = self.home.offsets[self.home.index("LeftUpLeg")]
        legs = HOME_HEIGHT + hips[1]
        sole = min(body.points[body.joints[body.bones["toe1-1.L"]["tail"]]].mean(0)[1], 0.0)
        own = self.heads[self.index["upperleg01.L"]][1] - sole
        self.scale = own / (legs * CM_TO_DM)  # of this body's size to the home skeleton's

    def pose(self, motion: Motion) -> Array:
        """Transforms (F, J, 3, 4) from the rest pose to the motion's, with the eyes' gaze from the expression."""
        if motion.skeleton != self.home:
            raise ValueError("the motion is not on the home skeleton; map it first")
        world = self.home.global_rotations(motion.rotations)
        given = self._rotations(world)
        if motion.expression is not None:
            head = given["head"]
            given |= {f"eye.{side}": head @ gaze(motion.expression, side) for side in SIDES}
        frames = len(motion)
        rotation = np.empty((frames, len(self.order), 3, 3))
        shift = np.empty((frames, len(self.order), 3))
        root = np.array([0.0, HOME_HEIGHT, 0.0])
        travel = (motion.root_position.astype(np.float64) - root) * CM_TO_DM * self.scale
        for number, (bone, parent) in enumerate(zip(self.order, self.parents, strict=True)):
            head = self.heads[number]
            if parent < 0:
                rotation[:, number] = given.get(bone, np.eye(3))
                place = head + travel
            else:
                rotation[:, number] = given.get(bone, rotation[:, parent])
                place = rotation[:, parent] @ head + shift[:, parent]
            shift[:, number] = place - rotation[:, number] @ head
        return np.concatenate([rotation, shift[..., None]], -1)

    def place(self, transforms: Array, bone: str, end: bool = False) -> Array:
        """Where a bone starts (or ends) in each frame, (F, 3)."""
        number = self.index[bone]
        point = (self.tails if end else self.heads)[number]
        return transforms[:, number, :, :3] @ point + transforms[:, number, :, 3]

    def _rotations(self, world: Array) -> dict[str, Array]:
        """Global rotations (F, 3, 3) of the bones that do not just follow their parent."""
        name = self.home.index
        given = {bone: world[:, name(joint)] for bone, joint in TRUNK.items()}
        given["neck03"] = given["head"]  # the skin between follows the head: the neck has one bone more than home
        for side, home_side in SIDES.items():
            given[f"clavicle.{side}"] = world[:, name(home_side + "Shoulder")]
            for bone, (joint, turn) in self._turns.items():
                if bone.endswith(side):
                    given[bone] = world[:, name(joint)] @ turn
            self._spread_twist(given, side)
        return given

    def _spread_twist(self, given: dict[str, Array], side: str) -> None:
        """Share the turns of the arm about its own axis among its bones, in place."""
        rest = {
            bone: unit(self.heads[self.index[f"{after}.{side}"]] - self.heads[self.index[f"{bone}.{side}"]])
            for bone, after in (("upperarm01", "lowerarm01"), ("lowerarm01", "wrist"))
        }
        upper, fore, hand = (given.pop(f"{bone}.{side}") for bone in ("upperarm02", "lowerarm02", "wrist"))
        collar = given[f"clavicle.{side}"]
        twist = twist_angle(np.swapaxes(collar, -1, -2) @ upper, rest["upperarm01"])
        back = axis_angle_to_matrix(rest["upperarm01"] * (-UPPERARM_TWIST * twist)[:, None])
        given[f"upperarm01.{side}"], given[f"upperarm02.{side}"] = upper @ back, upper
        along = unit(fore @ rest["lowerarm01"])
        hinged = swing(unit(upper @ rest["lowerarm01"]), along) @ upper
        twist = twist_angle(hand @ np.swapaxes(hinged, -1, -2), along)
        for bone, share in FOREARM_TWIST.items():
            given[f"{bone}.{side}"] = axis_angle_to_matrix(along * (share * twist)[:, None]) @ hinged
        given[f"wrist.{side}"] = hand

    def _limb_turns(self, side: str) -> dict[str, tuple[str, Array]]:
        """For one arm: bone -> home joint and the turn (3, 3) from the bone's rest frame to the joint's."""
        sign, home_side = (1.0 if side == "L" else -1.0), SIDES[side]

        def head(bone: str) -> Array:
            return self.heads[self.index[f"{bone}.{side}"]]

        def rest_offset(joint: str) -> Array:
            return self.home.offsets[self.home.index(home_side + joint)]

        out = np.array([sign, 0.0, 0.0])
        shoulder, elbow, wrist = (head(bone) for bone in ("upperarm01", "lowerarm01", "wrist"))
        index, middle, little = (head(f"finger{number}-1") for number in (2, 3, 5))
        hinge = np.cross(elbow - shoulder, wrist - elbow)
        palm = -sign * np.cross(index - wrist, little - wrist)
        home_hinge, home_palm = np.array([0.0, -sign, 0.0]), np.array([0.0, -1.0, 0.0])
        turns = {
            "upperarm02": ("Arm", frame(out, home_hinge) @ frame(elbow - shoulder, hinge).T),
            "lowerarm02": ("ForeArm", frame(out, home_hinge) @ frame(wrist - elbow, hinge).T),
            "wrist": ("Hand", frame(rest_offset("HandMiddle1"), home_palm) @ frame(middle - wrist, palm).T),
        }
        for number, finger in FINGERS.items():
            for joint in (1, 2, 3):
                bone = f"finger{number}-{joint}"
                end = self.tails[self.index[f"{bone}.{side}"]]
                home_along = rest_offset(f"Hand{finger}{joint + 1}")
                turns[bone] = (f"Hand{finger}{joint}", frame(home_along, home_palm) @ frame(end - head(bone), palm).T)
        # The pad of the thumb faces the index finger.
        home_base = rest_offset("HandThumb1")
        home_index = rest_offset("HandIndex") + rest_offset("HandIndex1")
        for joint in (1, 2, 3):
            bone = f"finger1-{joint}"
            end = self.tails[self.index[f"{bone}.{side}"]]
            home_along = rest_offset(f"HandThumb{joint + 1}")
            at_home = frame(home_along, home_index - home_base)
            turns[bone] = (f"HandThumb{joint}", at_home @ frame(end - head(bone), index - head("finger1-1")).T)
        return {f"{bone}.{side}": (home_side + joint, turn) for bone, (joint, turn) in turns.items()}


def gaze(expression: NDArray[np.float32], side: str) -> Array:
    """Turns (F, 3, 3) of an eye in the head from the eyeLook coefficients of a side."""
    home_side = SIDES[side]
    look = {
        way: expression[:, expression_index(f"eyeLook{way}{home_side}")].astype(np.float64)
        for way in ("Up", "Down", "In", "Out")
    }
    left = (look["Out"] - look["In"]) * (1.0 if side == "L" else -1.0)
    zero = np.zeros_like(left)
    return axis_angle_to_matrix(np.stack([zero, GAZE[0] * left, zero], -1)) @ axis_angle_to_matrix(
        np.stack([GAZE[1] * (look["Down"] - look["Up"]), zero, zero], -1)
    )


def skin(points: Array, weights: csr_matrix, transforms: Array) -> Array:
    """Linear blend skinning of points (V, 3) at rest by `weights` (V, J) and transforms (J, 3, 4): (V, 3)."""
    blended = (weights @ transforms.reshape(len(transforms), 12)).reshape(-1, 3, 4)
    return np.einsum("vab,vb->va", blended[..., :3], points) + blended[..., 3]
