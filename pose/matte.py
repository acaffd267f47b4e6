"""The person's matte at full resolution from two coarse segmentations, the skeleton and the picture's own edges.

Letters: H W image size. Lengths in shoulder widths (sw) were tuned by eye on half-body photos.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.keypoints import FACE_OVAL, HAND_EDGES

Array = NDArray[np.float32]
Mask = NDArray[Any]  # (H, W) uint8, 0 or 1 where not said otherwise; cv2 returns no exact type

WORK_SIDE = 512  # the colour model runs at this size; edges are refined at full size afterwards
FINGER = 0.03  # radius of a finger, sw
ARM = 0.05  # radius of what is surely arm around the bone, sw


def person_matte(
    image: NDArray[np.uint8],  # (H, W, 3) RGB
    body_mask: Array,  # (H, W) the body model's segmentation of this person
    selfie_mask: Array | None,  # (H, W) a segmentation of all people, or None
    points: Array,  # (543, 2) pixels
    confidence: Array,  # (543,)
    unit: float,  # shoulder width in pixels
) -> Array:
    """The person as (H, W) float32 in [0, 1]; hands and forearms are included by their skeleton.

    A colour model (GrabCut, 2 rounds) decides along the rim of the segmentation, a guided filter gives the soft edge.
    """
    height, width = image.shape[:2]
    scale = min(1.0, WORK_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    body = cv2.resize(body_mask, size, interpolation=cv2.INTER_AREA)
    points = points * scale
    unit = max(unit * scale, 8.0)

    bones, fingers = _skeleton(size, points, confidence, unit)
    both, either = body, body
    if selfie_mask is not None:
        # The general model is the sharper one, but it takes other people in too: it counts only near this one.
        selfie = cv2.resize(selfie_mask, size, interpolation=cv2.INTER_AREA)
        near = cv2.dilate((body > 0.5).astype(np.uint8), _disc(0.12 * unit))
        both, either = np.minimum(body, selfie), np.maximum(body, selfie * near)
        body = 0.4 * body + 0.6 * selfie * near
    likely = ((body > 0.5) | (fingers > 0)).astype(np.uint8)
    if not likely.any():
        return np.zeros((height, width), np.float32)

    inside = cv2.distanceTransform(likely, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(1 - likely, cv2.DIST_L2, 3)
    trimap = np.where(likely > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[(outside > 0.05 * unit) | ((either < 0.4) & (fingers == 0))] = cv2.GC_BGD
    core = (both > 0.9) & (inside > 0.07 * unit)
    trimap[core & _torso_and_head(size, points, confidence, unit)] = cv2.GC_FGD
    trimap[(both > 0.95) & (inside > 0.025 * unit)] = cv2.GC_FGD
    trimap[bones > 0] = cv2.GC_FGD
    mask: Mask = likely
    if (trimap == cv2.GC_BGD).any() and (trimap == cv2.GC_FGD).any():
        cv2.setRNGSeed(0)  # GrabCut clusters colours with k-means
        bgr = np.ascontiguousarray(small[..., ::-1])
        cv2.grabCut(bgr, trimap, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
        mask = ((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)).astype(np.uint8)
    mask = cv2.medianBlur(mask * 255, 5)
    mask = _main_pieces(mask, bones)

    soft: NDArray[Any] = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    guide = image.astype(np.float32) / 255
    radius = max(2, round(4 / scale * 0.75))
    soft = cv2.ximgproc.guidedFilter(guide, soft, radius, 2e-4)
    return np.clip((soft - 0.15) / 0.7, 0, 1).astype(np.float32)


def _disc(radius: float) -> Mask:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _skeleton(size: tuple[int, int], points: Array, confidence: Array, unit: float) -> tuple[Mask, Mask]:
    """Masks of what is surely person along the bones, and of the hands' capsules (rims uncertain)."""
    bones = np.zeros(size[::-1], np.uint8)
    fingers = np.zeros(size[::-1], np.uint8)
    low, high = -4.0 * max(size), 5.0 * max(size)

    def line(mask: Mask, a: int, b: int, radius: float) -> None:
        ends = np.clip(points[[a, b]], low, high).round().astype(int).tolist()
        cv2.line(mask, ends[0], ends[1], (1,), max(1, round(2 * radius)), cv2.LINE_8)

    for a, b in ((5, 7), (7, 9), (6, 8), (8, 10)):
        if min(confidence[a], confidence[b]) > 0.5:
            line(bones, a, b, 0.6 * ARM * unit)
    for base in (23, 44):
        if confidence[base] > 0.3:
            for a, b in HAND_EDGES:
                line(bones, base + a, base + b, 0.3 * FINGER * unit)
                line(fingers, base + a, base + b, FINGER * unit)
            palm = points[[base + i for i in (0, 5, 9, 13, 17)]]
            hull = cv2.convexHull(np.clip(palm, low, high).astype(np.int32))
            cv2.fillConvexPoly(fingers, hull, (1,))
            cv2.fillConvexPoly(bones, hull, (1,))
    return bones, fingers


def _torso_and_head(size: tuple[int, int], points: Array, confidence: Array, unit: float) -> NDArray[np.bool_]:
    """Where no gap between arm and body can be: the trunk, narrowed, and everything from the shoulders up."""
    mask = np.zeros(size[::-1], np.uint8)
    shoulders, hips = points[[5, 6]], points[[11, 12]]
    if confidence[[11, 12]].min() < 0.1:
        hips = shoulders + np.array([0.0, 1.5 * unit], np.float32)
    middle = np.concatenate([shoulders.mean(0) + 0.6 * (shoulders - shoulders.mean(0)), hips[::-1]])
    cv2.fillConvexPoly(mask, cv2.convexHull(np.clip(middle, -9999, 9999).astype(np.int32)), (1,))
    face = points[65 + np.array(FACE_OVAL)]
    if confidence[65] > 0.3:
        cv2.fillConvexPoly(mask, cv2.convexHull(np.clip(face, -9999, 9999).astype(np.int32)), (1,))
    neck = int(np.clip(points[[5, 6], 1].mean() - 0.1 * unit, 0, size[1]))
    mask[:neck] = 1
    return mask > 0


def _main_pieces(mask: Mask, bones: Mask) -> Mask:
    """Drop islands that no bone touches and that are small; fill pinholes."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 127).astype(np.uint8))
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    keep = np.zeros(count, bool)
    keep[1:] = areas > 0.05 * areas.max()
    touched = np.bincount(labels[bones > 0], minlength=count) > 30
    keep |= touched
    keep[0] = False
    mask = np.where(keep[labels], mask, 0).astype(np.uint8)
    holes, labels, stats, _ = cv2.connectedComponentsWithStats((mask <= 127).astype(np.uint8))
    small = np.zeros(holes, bool)
    small[1:] = stats[1:, cv2.CC_STAT_AREA] < 2e-4 * mask.size
    return np.where(small[labels], 255, mask).astype(np.uint8)
