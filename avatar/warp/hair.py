"""Stray hair: strands that stand out from the head, finer than a matte finds, and lit rims of hair and shoulders.

Left in the background they hang in the air once the head moves. They are found where they differ from a background
that is calm enough to be foretold; before a busy one nothing is taken for hair.

Letters: H W image size.
"""

from __future__ import annotations

import cv2
import numpy as np

from avatar.warp.body import Array, Body, hand_distance, segment_distance
from avatar.warp.fill import push_pull
from avatar.warp.laplace import smoothstep

# Lengths in shoulder widths; all values ours, chosen by looking at the half-body photos.
NEAR = 0.06  # around the matte hair is dense: what lies behind is not seen there
REACH = 0.22  # strands end within
BEYOND = 0.4  # how far out the background's unrest is measured
AWAY = 0.1  # from hands and forearms: fingers are no hair
MEDIAN = 0.07  # width of the window in which strands are the fewer
FAINT, FULL = (
    0.02,
    0.10,
)  # difference of colour (of 1), above the background's unrest, at which hair begins and is solid
UNREST = 2.5  # standard deviations of the background that are still background
NEIGHBOURHOOD = 0.18  # within which the background is asked for a colour
BRIDGE = 0.06  # gaps in a strand that are no gaps
THERE = 0.25  # coverage from which a strand counts when pieces are told apart


def stray_hair(image: np.ndarray, matte: Array, body: Body) -> Array:
    """Coverage (H, W) float32 in [0, 1] by hair outside of the refined `matte`; `image` uint8 (H, W, 3)."""
    unit = body.unit
    person = matte > 0.02
    none = np.zeros(matte.shape, np.float32)
    away = cv2.distanceTransform((~person).astype(np.uint8), cv2.DIST_L2, 5)
    height, width = matte.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    head = (y < body.neck[1]) & (np.abs(x - body.head_centre[0]) < 0.8 * unit)
    for arm in body.arms.values():
        head &= hand_distance(arm, body.size) > AWAY * unit
        head &= segment_distance(x, y, arm.elbow, arm.wrist)[0] > AWAY * unit
    band = head & (away > 0) & (away < REACH * unit)
    outside = head & (away >= REACH * unit) & (away < BEYOND * unit)
    if not band.any() or outside.sum() < 0.2 * band.sum():
        return none

    photo = image.astype(np.float32) / 255
    clear = (away > NEAR * unit).astype(np.float32)
    window = max(int(MEDIAN * unit) // 2 * 2 + 1, 5)
    calm = cv2.medianBlur(np.round(push_pull(photo, clear) * 255).clip(0, 255).astype(np.uint8), window)
    behind = push_pull(calm.astype(np.float32) / 255, clear)
    # What the background shows nearby is background, be it on the other side of an edge.
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (int(NEIGHBOURHOOD * unit) * 2 + 1,) * 2)
    known = clear[..., None] > 0
    highest = cv2.dilate(np.where(known, behind, 0), kernel)
    lowest = cv2.erode(np.where(known, behind, 1), kernel)
    apart = np.maximum(photo - np.maximum(highest, behind), np.minimum(lowest, behind) - photo).max(-1)
    rest = np.abs(photo - behind).max(-1)
    spread = push_pull((rest**2)[..., None], outside.astype(np.float32))[..., 0]
    noise = np.sqrt(np.maximum(cv2.GaussianBlur(spread, (0, 0), 0.1 * unit), 0))
    hair = np.where(band, smoothstep((apart - UNREST * noise - FAINT) / (FULL - FAINT)), 0).astype(np.float32)
    border = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) < 3
    return hair * _of_the_head(hair > THERE, person, border | (away > (REACH - 0.02) * unit), unit)


def _of_the_head(strands: np.ndarray, person: np.ndarray, edge: np.ndarray, unit: float) -> Array:
    """1 (H, W) around strands that lead to the person and end before the `edge`: a cable or a frame goes on."""
    bridge = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (max(int(BRIDGE * unit), 3) | 1,) * 2)
    joined = cv2.morphologyEx((strands | person).astype(np.uint8), cv2.MORPH_CLOSE, bridge)
    _, pieces = cv2.connectedComponents(joined * ~person)
    beside = cv2.dilate(person.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    good = np.zeros(int(pieces.max()) + 1, bool)
    good[np.unique(pieces[beside])] = True
    good[np.unique(pieces[edge & strands])] = False
    good[0] = False
    return cv2.dilate(good[pieces].astype(np.float32), np.ones((3, 3), np.uint8))
