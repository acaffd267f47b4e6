"""Which part of the person every pixel of the photo belongs to.

Letters: H W image size. Labels: 0 background, 1 trunk and head, 2 left upper arm, 3 left forearm and hand, 4 right
upper arm, 5 right forearm and hand. Found by a random walker between seeds at the bones, with links that break at
edges of colour, at half the size of the photo (four times as fast; the matte restores the outer outline).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatar.warp.body import Arm, Array, Body, hand_distance, segment_distance
from avatar.warp.fill import push_pull
from avatar.warp.laplace import diffuse
from avatar.warp.matte import guided_filter

TRUNK = 1
UPPER = {"left": 2, "right": 4}
FORE = {"left": 3, "right": 5}
CLASSES = 5
# Links exp(-500 dLab²) + 2e-4: a step of 0.1 in Lab/255 stops the walker (the trial tried 100-2000).
CONTRAST, FLOOR = 500.0, 2e-4


@dataclass(frozen=True)
class Parts:
    """`labels` (H, W) int32, `shares` (H, W, 5) float32: soft membership of labels 1-5, summing to 1 in the matte."""

    labels: np.ndarray
    shares: Array


def find_parts(image: np.ndarray, matte: Array, body: Body) -> Parts:
    """Labels of the matte's pixels."""
    height, width = body.size
    inside = matte > 0.5
    if not body.arms:
        trunk_only = np.zeros((height, width, CLASSES), np.float32)
        trunk_only[..., 0] = 1
        return Parts(np.where(inside, TRUNK, 0).astype(np.int32), trunk_only)
    small_inside = cv2.resize(matte, (width // 2, height // 2), interpolation=cv2.INTER_AREA) > 0.5
    lab = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    lab = cv2.GaussianBlur(lab.astype(np.float32) / 255, (0, 0), 0.8)
    seeds = _seeds(body, small_inside, lab)
    right = np.exp(-CONTRAST * ((lab[:, 1:] - lab[:, :-1]) ** 2).sum(-1)) + FLOOR
    down = np.exp(-CONTRAST * ((lab[1:] - lab[:-1]) ** 2).sum(-1)) + FLOOR
    shares = diffuse(np.where(seeds > 0, seeds - 1, -1), CLASSES, right, down, small_inside)
    shares = _without_slivers(_return_islands(shares, seeds, small_inside), body, small_inside)
    shares = push_pull(cv2.GaussianBlur(shares, (0, 0), 0.7), small_inside.astype(np.float32))
    shares = cv2.resize(shares, (width, height), interpolation=cv2.INTER_LINEAR)
    # back to the edges of the full-size photo: fingertips before a sleeve are a few pixels wide
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    shares = np.stack([guided_filter(grey, np.ascontiguousarray(shares[..., c]), 3, 4e-4) for c in range(CLASSES)], -1)
    shares = np.clip(shares, 0, 1)
    if body.clasped:
        _give_overlap_to_front(shares, body)
    shares = shares / np.maximum(shares.sum(-1, keepdims=True), 1e-6)
    labels = np.where(inside, shares.argmax(-1) + 1, 0).astype(np.int32)
    return Parts(labels, shares)


def _off_axis(arm: Arm, outward: float, inside: np.ndarray, unit: float) -> Array:
    """How far (2,) pixels the middle of the upper arm lies from the line of its joints.

    The detector puts shoulder and elbow up to 0.1 sw too near to the trunk; the outline tells: half an upper arm with
    its sleeve measures 0.13 sw (median of the 38 photos), what lies outside of the bone beyond that is the error.
    """
    bone = arm.elbow - arm.shoulder
    length = float(np.linalg.norm(bone)) + 1e-6
    normal = np.array([-bone[1], bone[0]], np.float32) / length
    if normal[0] * outward < 0:
        normal = -normal
    if abs(normal[0]) < 0.5:  # a raised arm: its outline is on both sides
        return np.zeros(2, np.float32)
    steps = np.arange(0, 0.4 * unit, 1.0, dtype=np.float32)
    reach = []
    for along in (0.4, 0.5, 0.6, 0.7, 0.8):
        ray = (arm.shoulder + along * bone)[None] + steps[:, None] * normal
        x = np.clip(ray[:, 0] / 2, 0, inside.shape[1] - 1).astype(int)
        y = np.clip(ray[:, 1] / 2, 0, inside.shape[0] - 1).astype(int)
        outside = np.nonzero(~inside[y, x])[0]
        reach.append(steps[outside[0]] if len(outside) else 0.0)
    return normal * np.float32(np.clip(0.6 * (np.median(reach) - 0.14 * unit), 0, 0.08 * unit))


def _seeds(body: Body, inside: np.ndarray, lab: Array) -> np.ndarray:
    """Seeds (H/2, W/2) int: a label at the bones and where no arm is near, 0 where colour has to decide."""
    size = (inside.shape[0], inside.shape[1])
    unit = body.unit
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) * 2 + 0.5  # centres of 2x2 pixels
    seeds = np.zeros(size, np.int32)
    near = np.zeros(size, bool)
    neck, hip = body.neck, body.hips.mean(0)
    down = np.clip((y - neck[1]) / max(float(hip[1] - neck[1]), 1.0), 0, 1)
    from_axis = np.abs(x - (neck[0] + (hip[0] - neck[0]) * down))
    arm_seeds, hand_maps = [], []
    fore_near = np.full(size, np.inf, np.float32)
    arm_near = np.full(size, np.inf, np.float32)
    for side, arm in body.arms.items():
        shift = _off_axis(arm, body.outward(side), inside, unit)
        shoulder, elbow = arm.shoulder + shift, arm.elbow + shift
        upper, along_upper = segment_distance(x, y, shoulder, elbow)
        fore, along_fore = segment_distance(x, y, elbow, arm.wrist)
        hand = hand_distance(arm, size, 0.5) * 2
        hand_maps.append(hand)
        fore_near = np.minimum(fore_near, fore)
        bone = arm.elbow - arm.shoulder
        if body.outward(side) * bone[0] > 0.35 * np.linalg.norm(bone):  # a hanging arm lies against the trunk
            arm_near = np.minimum(arm_near, upper)
        bone_x = shoulder[0] + (elbow - shoulder)[0] * np.clip(along_upper, 0, 1)
        outside = body.outward(side) * (x - bone_x)  # > 0 on the side of the bone that points away from the trunk
        at_upper = (upper < 0.055 * unit) & (along_upper > 0.12)
        beside = (outside > -0.03 * unit) & (along_upper > 0) & (along_upper < 0.9) & (upper < 0.22 * unit)
        at_upper |= beside & (upper < 0.7 * fore)  # not the cuff of a forearm raised beside it
        at_upper &= (hand > 0.06 * unit) & ((fore > 0.08 * unit) | (along_upper < 0.1))
        at_fore = ((fore < 0.05 * unit) & (along_fore > 0.12)) | (hand < 0.022 * unit)
        to_shoulder: Array = shoulder - elbow
        to_wrist: Array = arm.wrist - elbow
        # A folded forearm points at the camera and lies before the upper arm: all of its width is forearm.
        if to_shoulder @ to_wrist > 0.6 * float(np.linalg.norm(to_shoulder) * np.linalg.norm(to_wrist)):
            width = (fore < 0.11 * unit) & (along_fore > 0.1) & (along_fore < 0.85) & inside
            at_upper &= ~width
            colour = _typical(lab, width & (fore < 0.05 * unit))
            if colour is not None:
                at_fore |= width & (np.linalg.norm(lab - colour, axis=-1) < 0.12)
        arm_seeds.append((side, at_upper, at_fore))
        near |= ((upper < 0.19 * unit) & (along_upper > -0.3)) | (fore < 0.15 * unit) | (hand < 0.075 * unit)
        near |= (outside > 0) & (y > arm.shoulder[1] - 0.1 * unit)
    all_hands = np.min(hand_maps, axis=0)
    # below the armpits the trunk is narrower than the shoulders: what hangs from an arm held away is its sleeve
    narrow = np.where((y > neck[1] + 0.25 * unit) & (arm_near < 0.32 * unit), 0.36, 0.5)
    seeds[~near & ((from_axis < narrow * unit) | (y < neck[1] - 0.1 * unit))] = TRUNK
    seeds[(from_axis < 0.26 * unit) & (all_hands > 0.09 * unit) & (fore_near > 0.17 * unit)] = TRUNK
    for side, at_upper, _ in arm_seeds:
        seeds[at_upper] = UPPER[side]
    for (side, _, at_fore), hand in zip(arm_seeds, hand_maps, strict=True):
        seeds[at_fore & (hand <= all_hands + 1e-3)] = FORE[side]
    _tell_skin_from_sleeves(seeds, lab, inside, body, arm_seeds, hand_maps)
    return seeds


def _tell_skin_from_sleeves(
    seeds: np.ndarray,
    lab: Array,
    inside: np.ndarray,
    body: Body,
    arm_seeds: list[tuple[str, np.ndarray, np.ndarray]],
    hand_maps: list[Array],
) -> None:
    """Seeds (in place) by colour around short sleeves.

    Fingers before a sleeve: there the walker is off by pixels. Skin at a hem is upper arm even where
    the detector's forearm runs up to it: a folded forearm that points at the camera is drawn too long.
    """
    unit = body.unit
    hue = np.array([0.3, 1, 1], np.float32)  # of Lab: the shaded side of an arm is as dark as a dark sleeve
    y, x = np.mgrid[: seeds.shape[0], : seeds.shape[1]].astype(np.float32) * 2 + 0.5
    for (side, at_upper, _), hand in zip(arm_seeds, hand_maps, strict=True):
        arm = body.arms[side]
        skin, sleeve = _typical(lab, inside & (hand < 0.02 * unit)), _typical(lab, inside & at_upper)
        if arm.hand is None or skin is None or sleeve is None or np.linalg.norm(hue * (skin - sleeve)) < 0.05:
            continue
        to_skin, to_sleeve = (np.linalg.norm(hue * (lab - colour), axis=-1) for colour in (skin, sleeve))
        share = to_sleeve / (to_skin + to_sleeve + 1e-6)
        upper, along = segment_distance(x, y, arm.shoulder, arm.elbow)
        fore, _ = segment_distance(x, y, arm.elbow, arm.wrist)
        cloth = ((share < 0.35) & (upper < 0.22 * unit) & (along < 0.9) & (hand > 0.03 * unit) & inside).astype(
            np.uint8
        )
        cloth = cv2.morphologyEx(cloth, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(cloth)
        if len(stats) < 2:
            continue
        cloth = (pieces == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)  # the sleeve, not shaded skin
        below_hem = cv2.distanceTransform(1 - cloth, cv2.DIST_L2, 5) * 2
        bare = (share > 0.6) & (upper < 0.14 * unit) & (along > 0.2) & (along < 0.9) & (hand > 0.045 * unit)
        seeds[bare & (below_hem < 0.1 * unit) & (seeds == FORE[side])] = 0
        seeds[bare & (below_hem < 0.05 * unit)] = UPPER[side]
        fingers = (fore > 0.12 * unit) & (hand < 0.12 * unit)
        bone_x = arm.shoulder[0] + (arm.elbow - arm.shoulder)[0] * np.clip(along, 0, 1)
        fingers &= (upper < 0.25 * unit) & (along < 0.95)
        fingers &= body.outward(side) * (x - bone_x) > -0.05 * unit  # towards the trunk, its cloth looks the same
        seeds[fingers & (hand > 0.028 * unit) & (share < 0.25)] = UPPER[side]
        seeds[fingers & (hand < 0.05 * unit) & (share > 0.75)] = FORE[side]


def _typical(lab: Array, where: np.ndarray) -> Array | None:
    """Median colour (3,) of some pixels, None when there are too few."""
    return np.median(lab[where], axis=0) if where.sum() > 30 else None


def _return_islands(shares: Array, seeds: np.ndarray, inside: np.ndarray) -> Array:
    """Pieces of a part without a seed of their own go to their second choice (a sleeve's shadow on the trunk)."""
    for _ in range(2):
        labels = np.where(inside, shares.argmax(-1) + 1, 0)
        for label in range(1, CLASSES + 1):
            count, pieces = cv2.connectedComponents((labels == label).astype(np.uint8))
            if count <= 2:
                continue
            has_seed = np.bincount(pieces[seeds == label], minlength=count) > 0
            has_seed[0] = True
            shares[~has_seed[pieces], label - 1] = 0
    return shares


def _without_slivers(shares: Array, body: Body, inside: np.ndarray) -> Array:
    """Strips too thin to be what they are labelled go to their neighbours.

    Strips of an arm's label thinner than 6 to 10 pixels, but for fingers: along an outline the colours mix and the
    walker runs up its edge. Strips of trunk beside an upper arm thinner than 0.08 sw: a sleeve's shaded underside.
    """
    size, unit = (inside.shape[0], inside.shape[1]), body.unit
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) * 2 + 0.5
    labels = np.where(inside, shares.argmax(-1) + 1, 0)
    thin = np.zeros(size, bool)
    trunk = labels == TRUNK
    width = max(int(0.04 * unit), 3)
    flaps = trunk & ~_opened(trunk, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    beside = np.zeros(size, bool)
    for side, arm in body.arms.items():
        hand = hand_distance(arm, size, 0.5) * 2 < 0.06 * unit
        for label, pixels in ((UPPER[side], 5), (FORE[side], 3)):
            own = labels == label
            thin |= own & ~_opened(own, np.ones((pixels, pixels), np.uint8)) & ~hand
        distance, along = segment_distance(x, y, arm.shoulder, arm.elbow)
        beside |= (distance < 0.3 * unit) & (along > 0.25) & (along < 1.2)
    flaps &= beside
    fat = (inside & ~thin & ~flaps).astype(np.float32)
    filled = push_pull(shares, fat)
    filled[flaps, TRUNK - 1] *= 0.01  # what touches an arm at all goes to it
    return np.where((thin | flaps)[..., None], filled, shares)


def _opened(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Morphological opening with the area outside of the picture counted as inside the mask."""
    radius = max(kernel.shape)
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), radius, radius, radius, radius, cv2.BORDER_REPLICATE)
    return cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[radius:-radius, radius:-radius] > 0


def _give_overlap_to_front(shares: Array, body: Body) -> None:
    """Where clasped hands overlap, the nearer one owns the pixels (in place)."""
    hulls = {}
    for side, arm in body.arms.items():
        hull = np.zeros(body.size, np.uint8)
        assert arm.hand is not None
        cv2.fillConvexPoly(hull, cv2.convexHull(np.round(arm.hand).astype(np.int32)), (1,))
        hulls[side] = cv2.dilate(hull, np.ones((9, 9), np.uint8)) > 0
    overlap = hulls["left"] & hulls["right"]
    front, back = ("left", "right") if body.arms["left"].depth < body.arms["right"].depth else ("right", "left")
    shares[overlap, FORE[front] - 1] += shares[overlap, FORE[back] - 1]
    shares[overlap, FORE[back] - 1] = 0
