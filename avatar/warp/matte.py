"""From the detector's person matte to one that is sharp at the outline and contains hands and hair.

Letters: H W image size.
"""

from __future__ import annotations

import cv2
import numpy as np

from avatar.warp.body import Array, Body, hand_distance, segment_distance

GRABCUT_ROUNDS = 3  # 2 leave halves of dark sleeves outside on 3 of 38 photos; 5 change nothing visible


def guided_filter(guide: Array, mask: Array, radius: int, epsilon: float) -> Array:
    """Edge-aware smoothing of `mask` (H, W) along the grey image `guide` in [0, 1] (He et al. 2010, equations 5-8)."""

    def mean(a: Array) -> Array:
        return cv2.boxFilter(a, -1, (2 * radius + 1, 2 * radius + 1))

    mean_guide, mean_mask = mean(guide), mean(mask)
    slope = (mean(guide * mask) - mean_guide * mean_mask) / (mean(guide * guide) - mean_guide**2 + epsilon)
    return mean(slope) * guide + mean(mean_mask - slope * mean_guide)


def refine_matte(image: np.ndarray, matte: Array, body: Body) -> Array:
    """Matte (H, W) float32 in [0, 1]: colour model started from the detector's matte and the bones, snapped to edges.

    Sure foreground are only bones, fingers, the middle of the trunk and of the head: "deep inside the matte" as sure
    foreground would fill the gaps between arms and trunk.
    """
    height, width = body.size
    unit = body.unit
    y, x = np.mgrid[:height, :width].astype(np.float32)
    hands = [hand_distance(arm, body.size) for arm in body.arms.values()]
    start = matte.astype(np.float32)
    bone = np.zeros((height, width), bool)
    near_wrist = np.zeros((height, width), bool)
    near_arm = np.zeros((height, width), bool)  # forearm and hand, raised
    for arm, distance in zip(body.arms.values(), hands, strict=True):
        if arm.hand is not None:
            # capsules of 0.035 sw around the hand's bones: a finger is about 0.07 sw thick
            start = np.maximum(start, 1 / (1 + np.exp(np.clip((distance - 0.035 * unit) / 1.5, -40, 40))))
            bone |= distance < 0.012 * unit
        upper = segment_distance(x, y, arm.shoulder, arm.elbow)[0]
        fore, along = segment_distance(x, y, arm.elbow, arm.wrist)
        near_arm |= (fore < 0.25 * unit) | (distance < 0.15 * unit)
        bone |= (upper < 0.05 * unit) | (fore < 0.03 * unit)
        near_wrist |= (fore < 0.08 * unit) & (along > 0.5) & (distance > 0.03 * unit)  # not between the fingers
    person = start > 0.5
    if not (matte > 0.5).any():
        raise ValueError("the matte is empty: nobody was found in the photo; pass the detector's own matte")
    deep = cv2.distanceTransform(person.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~person).astype(np.uint8), cv2.DIST_L2, 3)
    neck, hip = body.neck, body.hips.mean(0)
    down = np.clip((y - neck[1]) / max(float(hip[1] - neck[1]), 1.0), 0, 1)
    from_axis = np.abs(x - (neck[0] + (hip[0] - neck[0]) * down))
    trunk = (from_axis < 0.3 * unit) & (y > neck[1]) & (deep > 0.04 * unit)
    head = (y < neck[1] - 0.1 * unit) & (deep > 0.06 * unit)
    trimap = np.where(person, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    wrists = near_wrist & (matte > 0.95) & (deep > 0.025 * unit)  # in a hand's shadow: colours would give them away
    # prints and patches of the trunk; gaps beside an arm lie further from the axis
    inner = (deep > 0.12 * unit) & (matte > 0.95) & ((from_axis < 0.4 * unit) | (y < neck[1]))
    # hair and shoulders, not of a neighbour: their lights and strands often have the background's colours
    crown = (y < neck[1] + 0.15 * unit) & (np.abs(x - neck[0]) < 0.8 * unit) & ~near_arm
    crown &= (matte > 0.9) & (deep > 0.02 * unit)
    # a bone off the matte is a bone that was guessed wrong
    sure = (bone | trunk | head | wrists | inner | crown) & (start > 0.5)
    trimap[sure] = cv2.GC_FGD
    trimap[(outside > 0.03 * unit) | ((start < 0.05) & (outside > 0.015 * unit))] = cv2.GC_BGD
    if (trimap == cv2.GC_BGD).any() and (trimap == cv2.GC_FGD).any():
        cv2.setRNGSeed(0)  # grabCut seeds its k-means from cv2's generator
        model = np.zeros((2, 1, 65))
        cv2.grabCut(image, trimap, (0, 0, 1, 1), model[0], model[1], GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    cut = ((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)).astype(np.uint8)
    cut = keep_person(cv2.medianBlur(cut * 255, 5) > 127, sure)
    holes, pieces, stats, _ = cv2.connectedComponentsWithStats((~cut).astype(np.uint8))
    for n in range(1, holes):  # small holes where the detector is sure: a button, a print, an eye
        if stats[n, cv2.CC_STAT_AREA] < (0.12 * unit) ** 2 and matte[pieces == n].mean() > 0.9:
            cut[pieces == n] = True
    if cut.sum() < 0.5 * person.sum():  # person and background of the same colours: no model tells them apart
        cut = person
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    soft = guided_filter(grey, cut.astype(np.float32), 4, 2e-4)
    soft = np.clip((soft - 0.35) / 0.5, 0, 1)  # the filter leaves 0.1-0.3 of haze on flat background
    return (soft * (soft > 0.02)).astype(np.float32)


def keep_person(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Connected pieces of a mask that touch the bones, or are large: other people and specks go."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    touched = np.bincount(pieces[seed & mask], minlength=count)
    keep = touched > 20
    keep[0] = False
    if not keep.any():
        keep[1:] = stats[1:, cv2.CC_STAT_AREA] == stats[1:, cv2.CC_STAT_AREA].max(initial=0)
    return keep[pieces]
