"""Skin weights: how much of each bone's motion a pixel of the photo follows.

Letters: H W image size, h w grid size (a weight every `GRID` pixels), B bones, N mesh vertices. Weights live in the
photo, not in the target pose, so cloth keeps its texture. They solve Laplace's equation inside the matte. Links are
cut along part borders, except in the shoulder and elbow zones, where neighbouring layers overlap and share the same
weights and so move identically: no seam.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatar.warp.body import Arm, Array, Body, hand_distance, segment_distance
from avatar.warp.fill import push_pull
from avatar.warp.laplace import diffuse, smoothstep
from avatar.warp.parts import FORE, TRUNK, UPPER, Parts
from pose.keypoints import FINGERS

GRID = 4
SHOULDER_END = 0.3  # the shoulder zone ends at 0.3 of the upper arm: shorter ones crease the sleeve
ELBOW_RADIUS = 0.17  # sw
WRIST_RADIUS = 0.15  # sw
HAND_RADIUS = 0.05  # sw: half a finger (0.035) and what the detector is off
FINGER_BONES = 15  # 5 fingers of 3 segments, thumb first, from the palm outwards
ARM_BONES = 4 + FINGER_BONES  # trunk, upper arm, forearm, palm, fingers


@dataclass(frozen=True)
class ArmWeights:
    """Weights of one arm. `upper`, `fore` (h, w, 4) for the two layers over (trunk, upper arm, forearm, palm);
    `trunk` (h, w): the upper arm's share in the trunk layer; zones (H, W) bool: where two layers overlap."""

    upper: Array
    fore: Array
    trunk: Array
    shoulder_zone: np.ndarray
    elbow_zone: np.ndarray


def coarse(a: np.ndarray) -> np.ndarray:
    """A full-size map at the grid's points (the nearest pixel)."""
    return a[GRID // 2 :: GRID, GRID // 2 :: GRID]


def arm_weights(arm: Arm, parts: Parts, body: Body) -> ArmWeights:
    """Skin weights of one arm on the coarse grid."""
    unit, (height, width) = body.unit, body.size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    labels, up, fo = parts.labels, UPPER[arm.side], FORE[arm.side]
    upper, along_upper = segment_distance(x, y, arm.shoulder, arm.elbow)
    _, along_fore = segment_distance(x, y, arm.elbow, arm.wrist)
    hand, fingers = hand_distance(arm, body.size), hand_distance(arm, body.size, wrist=False)
    to_shoulder, to_elbow, to_wrist = (np.hypot(x - p[0], y - p[1]) for p in (arm.shoulder, arm.elbow, arm.wrist))
    length = float(np.linalg.norm(arm.elbow - arm.shoulder))
    shoulder_zone = (along_upper < SHOULDER_END) & (to_shoulder < max(0.45 * unit, 0.5 * length))
    shoulder_zone &= (labels == up) | (labels == TRUNK)
    elbow_zone = (to_elbow < ELBOW_RADIUS * unit) & (hand > 0.05 * unit)
    elbow_zone &= (labels == up) | ((labels == fo) & (along_fore < 0.5))

    label, in_shoulder, in_elbow = coarse(labels), coarse(shoulder_zone), coarse(elbow_zone)
    inside = label > 0
    t_upper, t_fore = coarse(along_upper), coarse(along_fore)
    seeds = np.full(label.shape, -1, np.int32)
    other = inside & (label != up) & (label != fo)
    seeds[other & (coarse(to_shoulder) > 0.36 * unit)] = 0
    seeds[(label == TRUNK) & (t_upper > SHOULDER_END + 0.15) & (coarse(upper) > 0.1 * unit)] = 0
    seeds[(label == up) & (t_upper > 0.5) & ~in_elbow] = 1
    # The hand is what lies near its bones, not what lies beyond the wrist: fingers may point back to the elbow and
    # cover the forearm. There both touch without being joined.
    in_hand = (label == fo) & (coarse(fingers) < HAND_RADIUS * unit) & (arm.hand is not None)
    in_wrist = coarse(to_wrist) < WRIST_RADIUS * unit
    fore_only = (label == fo) & ~in_hand
    seeds[fore_only & (t_fore > 0.3) & (t_fore < 0.8) & ~in_elbow & (~in_wrist | (arm.hand is None))] = 2
    seeds[in_hand & (coarse(to_wrist) > 0.08 * unit)] = 3
    group = np.where(label == up, 1, np.where(in_hand, 3, np.where(label == fo, 2, 0)))

    def links(a: tuple[slice, slice], b: tuple[slice, slice]) -> Array:
        low, high = np.minimum(group[a], group[b]), np.maximum(group[a], group[b])
        free = low == high
        free |= (low == 0) & (high == 1) & in_shoulder[a] & in_shoulder[b]
        free |= (low == 1) & (high == 2) & in_elbow[a] & in_elbow[b]
        free |= (low == 2) & (high == 3) & in_wrist[a] & in_wrist[b]
        return np.where(free, np.where(inside[a] & inside[b], 1.0, 1e-3), 1e-7).astype(np.float32)

    every = slice(None)
    weights = diffuse(
        seeds, 4,
        links((every, slice(0, -1)), (every, slice(1, None))), links((slice(0, -1), every), (slice(1, None), every)),
        np.ones(label.shape, bool),
    )  # fmt: skip
    weights = smoothstep(weights)
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-6)

    def extend(mask: np.ndarray) -> Array:
        """Weights of one layer, continued smoothly beyond its own pixels."""
        full = cv2.GaussianBlur(push_pull(weights, (coarse(mask) & inside).astype(np.float32)), (0, 0), 1.0)
        return full / np.maximum(full.sum(-1, keepdims=True), 1e-6)

    return ArmWeights(
        extend((labels == up) | shoulder_zone | elbow_zone),
        extend((labels == fo) | elbow_zone),
        extend((labels == TRUNK) | shoulder_zone)[..., 1],
        shoulder_zone,
        elbow_zone,
    )


def head_weights(body: Body) -> Array:
    """Share of the head's motion on the coarse grid (h, w): 1 from the chin up, 0 from the collar down."""
    height, width = body.size
    y, x = np.mgrid[: height // GRID, : width // GRID].astype(np.float32) * GRID + (GRID - 1) / 2
    axis = body.head_centre - body.neck
    reach = float(np.linalg.norm(axis)) + 1e-6
    axis = axis / reach
    along = (x - body.neck[0]) * axis[0] + (y - body.neck[1]) * axis[1]
    chin = float((body.chin - body.neck) @ axis)
    collar = min(0.1 * body.unit, 0.3 * chin) if chin > 0 else chin - 0.15 * body.unit
    top = max(chin - 0.02 * body.unit, collar + 0.15 * body.unit)
    return smoothstep((along - collar) / (top - collar)).astype(np.float32)


def finger_weights(arm: Arm, vertices: Array, palm: Array, unit: float) -> Array:
    """Shares (N, 15) of the palm's weight (N,) that go to finger bones; the rest stays with the palm."""
    shares = np.zeros((len(vertices), FINGER_BONES), np.float32)
    if arm.hand is None:
        return shares
    chosen = np.nonzero(palm > 0.01)[0]
    if len(chosen) == 0:
        return shares
    points, hand = vertices[chosen].astype(np.float32), arm.hand.astype(np.float32)
    outline = cv2.convexHull(hand[[0, 1, 2, 5, 9, 13, 17]])
    to_palm = np.array([-cv2.pointPolygonTest(outline, (float(px), float(py)), True) for px, py in points])
    distances, along = [np.maximum(to_palm, 0)], []
    for finger in FINGERS:
        joints = hand[list(finger)]
        start = hand[1] if finger[0] == 1 else joints[0]
        segments = [
            segment_distance(points[:, 0], points[:, 1], a, b) for a, b in zip(joints, joints[1:], strict=False)
        ]
        nearest = np.min([s[0] for s in segments], axis=0)
        # behind the knuckle a pixel belongs to the palm
        distances.append(np.where(segments[0][1] < -0.15, 1e4, nearest) + 0 * start[0])
        root = smoothstep((segments[0][1] + 0.1) / 0.5)
        second = smoothstep(segments[1][1] / 0.4 + 0.5) * (segments[1][0] <= segments[0][0] + 0.02 * unit)
        third = smoothstep(segments[2][1] / 0.4 + 0.5) * (segments[2][0] <= segments[1][0] + 0.02 * unit)
        third = third * second
        along.append(np.stack([root * (1 - second), root * (second - third), root * third], -1))
    distance = np.stack(distances, -1)
    soft = np.exp(-np.minimum((distance - distance.min(-1, keepdims=True)) / (0.012 * unit), 40))
    soft /= soft.sum(-1, keepdims=True)
    shares[chosen] = (soft[:, 1:, None] * np.stack(along, 1)).reshape(len(chosen), FINGER_BONES)
    return shares
