"""From driving keypoints to 2D bone transforms.

Letters: F frames, N points. A transform is (F, 2, 3): x' = M[:, :2] x + M[:, 2], from the photo to the frame.

A limb turns, and its length changes with its turn in depth while its width stays: L = R(angle) along and across the
bone, stretched along it. Short bones (a forearm that points at the camera) have no reliable direction: their angle is
a weighted mean with a fallback (the hand's, else the parent's), and the stretch is damped; the trial without this
grew wings at the elbow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar.warp.body import (
    ELBOW,
    HIP,
    PIXEL_CENTRE,
    RIGID_FACE,
    SHOULDER,
    WRIST,
    Arm,
    Body,
    wrist_of,
)  # fmt: skip
from avatar.warp.weights import ARM_BONES
from pose.keypoints import FACE, FINGERS, HANDS, Keypoints

Floats = NDArray[Any]  # float64

# Below this length (sw) a bone's own angle counts for less than half; chosen by hand between the shortest forearm of
# the 38 photos whose angle follows the arm (0.25) and the ones that point at the camera (0.1).
LIMB_DOUBT = 0.2
FINGER_DOUBT = 0.03
PALM = (0, 5, 9, 13, 17)  # wrist and knuckles: they move as a plate
THINNEST_HAND = 0.35  # of its width, seen edge-on: thickness of a palm over its breadth
HEAD_SHEAR = 0.15  # largest shear and unequal scale a head may take: cos of 30 degrees is 0.87


@dataclass(frozen=True)
class Pose:
    """Bone transforms of F frames: `trunk`, `head` (F, 2, 3); `arms` side -> (F, 19, 2, 3) in the order of the arm's
    weights; `hand_turn` side -> (F,) in [0, 1]: 0 where the palm shows another side than in the photo; `face`
    (F, 478, 2) in the photo's head, or None."""

    trunk: Floats
    head: Floats
    arms: dict[str, Floats]
    hand_turn: dict[str, Floats]
    face: NDArray[np.float32] | None


def rotation(angle: Floats) -> Floats:
    """(F,) radians -> (F, 2, 2)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def place(linear: Floats, source: Floats, target: Floats) -> Floats:
    """The transform with this linear part (F, 2, 2) that moves `source` (2,) to `target` (F, 2)."""
    return np.concatenate([linear, (target - linear @ source)[..., None]], -1)


def apply(transform: Floats, points: Floats) -> Floats:
    """(F, 2, 3) on (N, 2) or (F, N, 2) -> (F, N, 2)."""
    return points @ np.swapaxes(transform[:, :, :2], 1, 2) + transform[:, None, :, 2]


def inverse(linear: Floats) -> Floats:
    """Inverse of each (..., 2, 2); np.linalg.inv starts BLAS threads for these."""
    (a, b), (c, d) = (linear[..., 0, 0], linear[..., 0, 1]), (linear[..., 1, 0], linear[..., 1, 1])
    adjugate = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2)
    return adjugate / (a * d - b * c)[..., None, None]


def invert(transform: Floats) -> Floats:
    """Inverse of each (F, 2, 3)."""
    linear = inverse(transform[..., :2])
    return np.concatenate([linear, -(linear @ transform[..., 2:])], -1)


def angle_of(linear: Floats) -> Floats:
    """Rotation angle (F,) of the similarity nearest to a linear map."""
    return np.arctan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1])


def scale_of(linear: Floats) -> Floats:
    """Square root of the area ratio, (F,)."""
    return np.sqrt(np.abs(np.linalg.det(linear)))


def similarity(source: Floats, target: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Least-squares rotation with scale: linear part (F, 2, 2), mean of the source (2,), mean of the target (F, 2)."""
    share = weight / weight.sum()
    centre, moved = share @ source, np.einsum("n,fnj->fj", share, target)
    a, b = source - centre, target - moved[:, None]
    z = (a[:, 0] - 1j * a[:, 1]) * (b[..., 0] + 1j * b[..., 1])  # conj(a) b
    factor = (share * z).sum(-1) / max(float(share @ (a**2).sum(-1)), 1e-9)
    return rotation(np.angle(factor)) * np.abs(factor)[:, None, None], centre, moved


def affine(source: Floats, target: Floats, weight: Floats, stiffness: float) -> tuple[Floats, Floats, Floats]:
    """Least-squares affine map pulled to the similarity by `stiffness` times the spread of the points."""
    base, centre, moved = similarity(source, target, weight)
    share = weight / weight.sum()
    a, b = source - centre, target - moved[:, None]
    spread = np.einsum("n,ni,nj->ij", share, a, a)
    cross = np.einsum("n,fni,nj->fij", share, b, a)
    pull = stiffness * np.trace(spread) / 2
    return (cross + pull * base) @ inverse(spread + pull * np.eye(2)), centre, moved


def limb(
    start: Floats, end: Floats, to_start: Floats, to_end: Floats, fallback: Floats, width: Floats, doubt: float
) -> Floats:
    """Transform of a bone from (start, end) (2,) to (to_start, to_end) (F, 2).

    `fallback` (F,) is the angle of a bone too short to have one, `width` (F,) the scale across, `doubt` the length
    in pixels at which both angles count the same.
    """
    bone, moved = end - start, to_end - to_start
    own = (bone[0] - 1j * bone[1]) * (moved[:, 0] + 1j * moved[:, 1])
    angle = np.angle(own + doubt**2 * width * np.exp(1j * fallback))
    linear = rotation(angle) * width[:, None, None]
    missing = moved - linear @ bone
    return place(linear + missing[:, :, None] * bone / (bone @ bone + (0.5 * doubt) ** 2), start, to_start)


class Rig:
    """The photo's bones, ready to follow keypoints."""

    def __init__(self, reference: Keypoints, body: Body) -> None:
        self.body = body
        self.reference = reference
        self.points = reference.points[0].astype(np.float64) - PIXEL_CENTRE
        self.known = reference.confidence[0] > 0

    def pose(self, keypoints: Keypoints) -> Pose:
        """Transforms of every frame; a point that a frame does not know stays with its parent bone."""
        body = self.body
        points = keypoints.points.astype(np.float64) - PIXEL_CENTRE
        known = (keypoints.confidence > 0) & self.known
        frames = len(points)
        still = np.broadcast_to(np.eye(3)[:2], (frames, 2, 3)).copy()
        trunk = self._trunk(points, known) if body.has_shoulders else still
        points = np.where(known[..., None], points, apply(trunk, self.points))
        head, face = still, None
        if body.face is not None:
            head = self._head(points, known, trunk)
            seen = known[:, FACE].all(-1)
            own = apply(invert(head), points[:, FACE])
            face = np.where(seen[:, None, None], own, body.face).astype(np.float32)
        elif body.has_shoulders:
            head = trunk
        arms, turns = {}, {}
        grip = self._grip(points, scale_of(trunk[..., :2])) if body.clasped else None
        for side, arm in body.arms.items():
            arms[side], turns[side] = self._arm(arm, points, known, trunk, grip)
        return Pose(trunk, head, arms, turns, face)

    def _trunk(self, points: Floats, known: NDArray[np.bool_]) -> Floats:
        """Shoulders and hips; breathing (shoulders rising over still hips) is carried by the affine part."""
        body = self.body
        index = [SHOULDER["left"], SHOULDER["right"]]
        weight = [1.0, 1.0]
        if body.has_hips:
            index += [HIP["left"], HIP["right"]]
            weight += [0.5, 0.5]  # MediaPipe's hips are its least certain points, often below the picture
        target = np.where(known[:, index, None], points[:, index], self.points[index])
        linear, centre, moved = affine(self.points[index], target, np.array(weight), 0.1)
        return place(linear, centre, moved)

    def _head(self, points: Floats, known: NDArray[np.bool_], trunk: Floats) -> Floats:
        """Affine map of the rigid face points, held near a similarity: small 3D turns carry hair and ears along."""
        index = [FACE.start + i for i in RIGID_FACE]
        base, centre, moved = similarity(self.points[index], points[:, index], np.ones(len(index)))
        linear, _, _ = affine(self.points[index], points[:, index], np.ones(len(index)), 0.02)
        size = scale_of(base)[:, None, None]
        linear = base + np.clip(linear - base, -HEAD_SHEAR * size, HEAD_SHEAR * size)
        head = place(linear, centre, moved)
        return np.where(known[:, FACE].all(-1)[:, None, None], head, trunk)

    def _grip(self, points: Floats, scale: Floats) -> Floats:
        """One transform of both clasped hands: their mean place and turn; hands pulled apart do not grow."""
        index = [HANDS[side].start + i for side in HANDS for i in PALM]
        linear, centre, moved = similarity(self.points[index], points[:, index], np.ones(len(index)))
        size = scale_of(linear)
        held = np.clip(size, 0.85 * scale, 1.15 * scale) / np.maximum(size, 1e-6)
        # hands that move against each other leave the angle undetermined: it counts with the scale that fits
        angle = angle_of(linear) * np.clip(size / scale, 0, 1)
        return place(rotation(angle) * (size * held)[:, None, None], centre, moved)

    def _arm(
        self, arm: Arm, points: Floats, known: NDArray[np.bool_], trunk: Floats, grip: Floats | None
    ) -> tuple[Floats, Floats]:
        """(F, 19, 2, 3) transforms of one arm, and how far the palm still faces as in the photo (F,)."""
        side, unit = arm.side, self.body.unit
        frames = len(points)
        use_hand = arm.hand is not None
        hand_known = known[:, HANDS[side]].all(-1) if use_hand else np.zeros(frames, bool)
        shoulder, elbow = points[:, SHOULDER[side]], points[:, ELBOW[side]]
        body_wrist = points[:, WRIST[side]]
        wrist = wrist_of(points, side, use_hand)
        if use_hand:  # without a driving hand, its wrist keeps the photo's offset from the body's wrist
            offset = arm.wrist - self.points[WRIST[side]]
            wrist = np.where(hand_known[:, None], wrist, body_wrist + offset)
        trunk_angle, width = angle_of(trunk[..., :2]), scale_of(trunk[..., :2])
        turn = np.ones(frames)
        a, b, c = (p.astype(np.float64) for p in (arm.shoulder, arm.elbow, arm.wrist))
        bones = np.empty((frames, ARM_BONES, 2, 3))
        bones[:, 0] = trunk
        bones[:, 1] = limb(a, b, shoulder, elbow, trunk_angle, width, LIMB_DOUBT * unit)
        palm = None
        if grip is not None:
            palm = grip
            wrist = apply(grip, c[None])[:, 0]
        elif use_hand:
            palm, turn = self._palm(side, points, width)
        own_angle = angle_of(bones[:, 1, :, :2])
        fore_angle = np.where(hand_known, angle_of(palm[..., :2]), own_angle) if palm is not None else own_angle
        bones[:, 2] = limb(b, c, elbow, wrist, fore_angle, width, LIMB_DOUBT * unit)
        rigid = place(rotation(angle_of(bones[:, 2, :, :2])) * width[:, None, None], c, wrist)
        bones[:, 3] = rigid if palm is None else np.where(hand_known[:, None, None], palm, rigid)
        bones[:, 4:] = bones[:, 3:4]
        if use_hand and grip is None:
            fingers = self._fingers(side, points, bones[:, 3], unit)
            bones[:, 4:] = np.where(hand_known[:, None, None, None], fingers, bones[:, 3:4])
        return bones, np.where(hand_known, turn, 1.0)

    def _palm(self, side: str, points: Floats, width: Floats) -> tuple[Floats, Floats]:
        """Affine map of the palm. Seen edge-on it keeps `THINNEST_HAND` of its width; a palm that shows its other
        side is the photo's palm mirrored, and not to be trusted."""
        index = [HANDS[side].start + i for i in PALM]
        weight = np.array([2.0, 1, 1, 1, 1])
        linear, centre, moved = affine(self.points[index], points[:, index], weight, 0.03)
        left, stretch, right = np.linalg.svd(linear)
        mirrored = np.linalg.det(linear) < 0
        floor = THINNEST_HAND * width[:, None]
        held = np.clip(stretch, floor, 1.8 * width[:, None])
        turn = np.clip((stretch[:, 1] / np.maximum(stretch[:, 0], 1e-6) - 0.35) / 0.3, 0, 1) * ~mirrored
        return place(left * held[:, None] @ right, centre, moved), turn

    def _fingers(self, side: str, points: Floats, palm: Floats, unit: float) -> Floats:
        """(F, 15, 2, 3): each segment follows its own two joints; across it scales with the palm."""
        start = HANDS[side].start
        width = np.clip(scale_of(palm[..., :2]), 0.6, 1.5)
        sign = np.sign(np.linalg.det(palm[..., :2]))
        out = np.empty((len(points), len(FINGERS) * 3, 2, 3))
        n = 0
        for finger in FINGERS:
            parent = palm
            for i, j in zip(finger, finger[1:], strict=False):
                a, b = self.points[start + i], self.points[start + j]
                to_a, to_b = points[:, start + i], points[:, start + j]
                bone = limb(a, b, to_a, to_b, angle_of(parent[..., :2]), width, FINGER_DOUBT * unit)
                mirrored = self._mirrored_limb(a, b, to_a, to_b, width)
                out[:, n] = np.where((sign < 0)[:, None, None], mirrored, bone)
                parent = out[:, n]
                n += 1
        return out

    @staticmethod
    def _mirrored_limb(a: Floats, b: Floats, to_a: Floats, to_b: Floats, width: Floats) -> Floats:
        """A finger segment of a hand that shows its other side: across the bone, left and right are exchanged."""
        bone, moved = b - a, to_b - to_a
        length = np.linalg.norm(bone) + 1e-6
        along = bone / length
        across = np.array([-along[1], along[0]])
        moved_across = np.stack([moved[:, 1], -moved[:, 0]], -1)
        moved_across = moved_across / np.maximum(np.linalg.norm(moved_across, axis=-1, keepdims=True), 1e-6)
        linear = moved[:, :, None] * along / length + width[:, None, None] * moved_across[:, :, None] * across
        return place(linear, a, to_a)
