"""Cutting the photo into layers that can move: colours, coverage and confidence of each, and their meshes.

Letters: H W image size. Back to front: background, trunk with head, upper arms, forearms with hands (the nearer arm
last). Colours are premultiplied and chosen so that the layers, put back at rest, give the photo again:
colour = photo - (1 - coverage) * what lies below, held to [0, coverage].
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatar.warp.body import Arm, Array, Body, hand_distance, segment_distance
from avatar.warp.fill import fill_limb, fill_texture
from avatar.warp.hair import stray_hair
from avatar.warp.laplace import smoothstep
from avatar.warp.mesh import Mesh, grid_cells
from avatar.warp.parts import FORE, TRUNK, UPPER, Parts
from avatar.warp.trunk import hidden_trunk
from avatar.warp.weights import ARM_BONES, GRID, ArmWeights, arm_weights, finger_weights, head_weights
from pose.keypoints import FINGERS

UPPER_CELL, FORE_CELL = 8, 4  # pixels; fingers are about 10 px wide at 512x512
SHADOW = 0.07  # sw around a hand within which darker cloth counts as its shadow (chosen by hand)
EDGE = 5.0  # pixels from a layer's edge over which confidence rises from 0.3 to 1


Cover = tuple[tuple[Array, Array], tuple[Array, Array]]  # (coverage, known) of an upper arm and of its forearm


@dataclass(frozen=True)
class Layer:
    """`texture` (5, H, W) float32: premultiplied RGB, coverage, coverage times confidence. `mesh` is None for the
    trunk, which moves by its weight maps; `side` is then empty."""

    name: str  # "trunk and head", "left upper arm", "left forearm and hand", ...
    side: str
    texture: Array
    mesh: Mesh | None


@dataclass(frozen=True)
class Layers:
    """Everything that does not change from frame to frame.

    `background` (3, H, W): photo outside of the matte, guess inside. `halo` (3, H, W): what to add to the background
    where the person has moved away (a rim of hair and shadow just outside of the matte). `open` (H, W): 1 where the
    background is photo. `head`, `arms` (h, w): shares of head and upper arms in the trunk layer, on the coarse grid.
    """

    background: Array
    halo: Array
    open: Array
    trunk: Layer
    head: Array
    arms: dict[str, Array]
    front: tuple[Layer, ...]
    parts: Parts
    matte: Array


def cut_layers(image: np.ndarray, matte: Array, body: Body, parts: Parts) -> Layers:
    """All layers of the photo; `image` uint8 (H, W, 3), `matte` refined."""
    hair = stray_hair(image, matte, body)
    photo = image.astype(np.float32) / 255
    unit = body.unit
    weights = {side: arm_weights(arm, parts, body) for side, arm in body.arms.items()}
    far_to_near = sorted(body.arms, key=lambda side: -body.arms[side].depth)

    # 1. background: the photo, and a guess where the person stands and a rim around (hair, shadow, soft edge)
    clear = (_rim(matte, body) | cv2.dilate((hair > 0).astype(np.uint8), np.ones((5, 5), np.uint8))) == 0
    guess = fill_texture(photo, clear, ~clear)
    background = np.where((np.maximum(matte, hair) > 0)[..., None], guess, photo)
    halo = guess - background
    is_open = cv2.GaussianBlur(clear.astype(np.float32), (0, 0), 2) * clear

    # 2. coverage of the arms' layers, then the trunk below them
    cover = {side: _arm_coverage(arm, matte, parts, weights[side], body) for side, arm in body.arms.items()}
    below = background
    trunk_alpha, trunk_known = _trunk_coverage(matte, parts, weights, cover, body)
    trunk_alpha = np.maximum(trunk_alpha, np.where(hair > 0, np.maximum(hair, _least_coverage(photo, background)), 0))
    cloth = (parts.labels == TRUNK) & (matte > 0.9)
    if body.has_shoulders:
        cloth[: max(int(body.neck[1] + 0.08 * unit), 0)] = False  # no skin of neck and face
    trunk_fill, lit = photo, photo
    if body.arms:
        shaded = cloth & (_from_forearms(parts, list(body.arms)) < SHADOW * unit)
        source = cv2.erode((cloth & ~shaded).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        if source.any():
            trunk_fill = fill_texture(photo, source, ((trunk_known < 1) & (trunk_alpha > 0)) | shaded)
            lit, cover = _cast_shadows(photo, trunk_fill, shaded & (trunk_known > 0.99), cover, parts, unit)
        else:
            trunk_fill = guess
    trunk_texture, below = _texture(lit, below, trunk_alpha, trunk_known, trunk_fill)
    trunk_sure = _edge_confidence(matte > 0.5) * trunk_known
    trunk = Layer("trunk and head", "", _pack(trunk_texture, trunk_alpha, trunk_sure), None)

    # 3. upper arms, then forearms with hands
    front = []
    for kind in (UPPER, FORE):
        for side in far_to_near:
            arm, skin_weights = body.arms[side], weights[side]
            alpha, known = cover[side][0 if kind is UPPER else 1]
            if alpha.max() < 0.5:
                continue
            solid = cv2.erode((known > 0.99).astype(np.uint8) * (alpha > 0.85), np.ones((3, 3), np.uint8)) > 0
            guess = photo
            if solid.any() and known.min() < 1:  # nothing hides a forearm
                guess = fill_limb(photo, solid, (alpha > 0) & ~solid, arm.shoulder, arm.elbow)
            colour, below = _texture(photo, below, alpha, known, guess)
            joint = (skin_weights.shoulder_zone | skin_weights.elbow_zone) & (matte > 0.5)
            sure = _edge_confidence((alpha > 0.5) | joint) * known
            mesh = _mesh(arm, alpha, skin_weights.upper if kind is UPPER else skin_weights.fore, kind is FORE, body)
            name = f"{side} upper arm" if kind is UPPER else f"{side} forearm and hand"
            front.append(Layer(name, side, _pack(colour, alpha, sure), mesh))
    return Layers(
        _planes(background), _planes(halo), is_open, trunk, head_weights(body),
        {side: w.trunk for side, w in weights.items()}, tuple(front), parts, matte,
    )  # fmt: skip


def _from_forearms(parts: Parts, sides: list[str]) -> Array:
    """Distance (H, W) to the nearest forearm or hand of these sides."""
    away = ~np.isin(parts.labels, [FORE[side] for side in sides])
    return cv2.distanceTransform(away.astype(np.uint8), cv2.DIST_L2, 5)


def _cast_shadows(
    photo: Array, fill: Array, where: np.ndarray, cover: dict[str, Cover], parts: Parts, unit: float
) -> tuple[Array, dict[str, Cover]]:
    """Takes the shadows of hands and forearms off the cloth and gives them to the forearms, as a black veil that moves
    along: shadows that stay behind draw the outline of the hand. Returns the lit photo and the new coverages."""
    sigma = 0.02 * unit
    ratio = cv2.GaussianBlur(photo, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(fill, (0, 0), sigma), 0.02)
    ramp = smoothstep(1.4 * (1 - _from_forearms(parts, list(cover)) / (SHADOW * unit)))
    # A shadow darkens all channels alike; what exceeds 0.35 is another cloth.
    shade = np.where(where, np.clip(1 - ratio.max(-1), 0, 0.35) * ramp, 0).astype(np.float32)
    shade = np.minimum(cv2.GaussianBlur(shade, (0, 0), 1.0), where)
    nearest = {side: _from_forearms(parts, [side]) for side in cover}
    shadowed = {}
    for side, (upper, (alpha, known)) in cover.items():
        own = shade * np.all([nearest[side] <= other for other in nearest.values()], axis=0)
        shadowed[side] = (upper, (alpha + (1 - alpha) * own, known))
    return np.minimum(photo / (1 - shade[..., None]), 1), shadowed


def _rim(matte: Array, body: Body) -> np.ndarray:
    """The matte and what surrounds it and moves away with it: 0.02 sw of soft edge, 0.06 sw of stray hair."""
    person = (matte > 0).astype(np.uint8)
    grown = cv2.dilate(person, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(0.04 * body.unit),) * 2))
    hair = cv2.dilate(person, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(0.12 * body.unit),) * 2))
    collar = max(int(0.3 * body.neck[1] + 0.7 * body.chin[1]), 0)
    grown[:collar] = hair[:collar]
    return grown


def _odd(length: float) -> int:
    return max(int(length) // 2 * 2 + 1, 5)


def _planes(a: Array) -> Array:
    return np.ascontiguousarray(a.transpose(2, 0, 1), dtype=np.float32)


def _pack(colour: Array, alpha: Array, confidence: Array) -> Array:
    return np.ascontiguousarray(
        np.concatenate([colour.transpose(2, 0, 1), alpha[None], (alpha * confidence)[None]]), dtype=np.float32
    )


def _least_coverage(photo: Array, below: Array) -> Array:
    """Coverage (H, W) from which some colour in [0, 1] over what lies below gives the photo."""
    lighter = (photo - below) / np.maximum(1 - below, 1e-3)
    darker = (below - photo) / np.maximum(below, 1e-3)
    return np.clip(np.maximum(lighter, darker).max(-1), 0, 1)


def _texture(photo: Array, below: Array, alpha: Array, known: Array, guess: Array) -> tuple[Array, Array]:
    """Premultiplied colour of a layer and the picture with it on top, at rest."""
    a = alpha[..., None]
    exact = np.clip(photo - (1 - a) * below, 0, a)
    colour = exact * known[..., None] + guess * a * (1 - known[..., None])
    return colour, below * (1 - a) + colour


def _edge_confidence(solid: np.ndarray) -> Array:
    depth = cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 3)
    return (np.clip(depth / EDGE, 0, 1) * 0.7 + 0.3).astype(np.float32)


def _margin(shares: Array, label: int) -> Array:
    """Soft membership of a label: 0.5 where it ties with the next best."""
    others = np.delete(shares, label - 1, -1).max(-1)
    return np.clip((shares[..., label - 1] - others) * 2.5 + 0.5, 0, 1)


def _arm_coverage(arm: Arm, matte: Array, parts: Parts, weights: ArmWeights, body: Body) -> Cover:
    """((coverage, known) of the upper arm, the same of the forearm with hand), each (H, W)."""
    unit, (height, width) = body.unit, body.size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    labels, up, fo = parts.labels, UPPER[arm.side], FORE[arm.side]
    upper, along_upper = segment_distance(x, y, arm.shoulder, arm.elbow)
    hand = hand_distance(arm, body.size)
    inside = matte > 0.5
    fore_alpha = _margin(parts.shares, fo) * matte
    soft = _margin(parts.shares, up)
    upper_alpha = np.maximum(soft * matte, np.where(weights.elbow_zone, matte, 0))
    fade = smoothstep((along_upper - 0.02) / 0.22) * np.where(labels == up, 1, soft) * matte
    upper_alpha = np.where(weights.shoulder_zone, fade, upper_alpha).astype(np.float32)
    # the upper arm behind its own forearm: convex hull of what is seen of it
    visible = ((labels == up) | weights.elbow_zone) & inside & (along_upper > 0.2) & (along_upper < 1.2)
    visible &= (upper < 0.2 * unit) & (hand > 0.05 * unit)
    hull = np.zeros((height, width), np.uint8)
    points = np.argwhere(cv2.erode(visible.astype(np.uint8), np.ones((9, 9), np.uint8)))[::7, ::-1]
    if len(points) > 9:
        cv2.fillConvexPoly(hull, cv2.convexHull(np.ascontiguousarray(points).astype(np.int32)), (1,))
        hull |= _down_to_elbow(arm, x, y, along_upper, visible)
    hull &= _within_outline(arm, x, y, along_upper, hull > 0, matte).astype(np.uint8)
    hidden = (cv2.dilate(hull, np.ones((3, 3), np.uint8)) > 0) & (labels == fo) & inside & ~weights.elbow_zone
    hidden &= upper < 0.2 * unit
    # a little wider than the hidden pixels: the soft border between both parts must not let the trunk shine through
    behind = cv2.dilate(hidden.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    upper_alpha = np.maximum(upper_alpha, np.where(behind & ((labels == up) | hidden), matte, 0))
    upper_alpha = _largest(cv2.GaussianBlur(upper_alpha, (0, 0), 0.8) * (matte > 0))
    fore_alpha = _largest(cv2.GaussianBlur(fore_alpha.astype(np.float32), (0, 0), 0.6) * (matte > 0))
    # under the forearm's soft edge the photo shows the forearm: only a guess is known of the upper arm there
    veil = np.where(weights.elbow_zone | weights.shoulder_zone, 0, np.clip(2 * fore_alpha, 0, 1))
    upper_known = ((1 - veil) * (1 - cv2.dilate(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)))).astype(
        np.float32
    )
    return (upper_alpha, upper_known), (fore_alpha, np.ones_like(fore_alpha))


def _across(arm: Arm, x: Array, y: Array) -> Array:
    """Distance of pixels from the line of the upper arm, in pixels, with a sign."""
    bone = arm.elbow - arm.shoulder
    length = float(np.linalg.norm(bone)) + 1e-6
    return np.asarray(((x - arm.shoulder[0]) * -bone[1] + (y - arm.shoulder[1]) * bone[0]) / length, np.float32)


def _down_to_elbow(arm: Arm, x: Array, y: Array, along: Array, visible: np.ndarray) -> np.ndarray:
    """An upper arm (H, W) uint8 continued, as wide as its lowest visible places, to a round end at the elbow.

    A hand held before the elbow leaves nothing of the arm below the sleeve to see; when it moves away, arm has to be
    there, not what is behind.
    """
    across = _across(arm, x, y)
    edges = []
    for step in np.arange(1.0, 0.2, -0.05):
        here = across[visible & (np.abs(along - step) < 0.025)]
        if len(here) > 5:
            edges.append(np.percentile(here, (5, 95)))
    if len(edges) < 4:
        return np.zeros(visible.shape, np.uint8)
    width = np.array([high - low for low, high in edges])
    full = np.nonzero(width > 0.8 * np.percentile(width, 90))[0][:3]  # not where the hand covers a part of it
    low, high = np.median(np.array(edges)[full], axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    below = np.maximum(along - 1, 0) * float(np.linalg.norm(arm.elbow - arm.shoulder))
    return ((np.hypot(across - middle, below) < half) & (along > 0.3)).astype(np.uint8)


def _within_outline(arm: Arm, x: Array, y: Array, along: Array, hull: np.ndarray, matte: Array) -> np.ndarray:
    """The hull of an upper arm cut back to what the background beside the arm allows.

    Where background shows inside of the hull, the arm's outline lies further in; what the hand hides below is not
    wider than that. Sides and places along the bone are treated apart, in 20 steps.
    """
    across = _across(arm, x, y)
    step = np.clip((along * 20).astype(np.int32), 0, 25)
    empty = hull & (matte < 0.5)
    allowed = np.ones(hull.shape, bool)
    for sign in (-1, 1):
        limit = np.full(26, np.inf)
        at = empty & (sign * across > 0)
        np.minimum.at(limit, step[at], sign * across[at])
        limit = np.minimum.accumulate(limit)  # from the shoulder to the elbow
        allowed &= sign * across < limit[step]
    return allowed


def _largest(alpha: Array) -> Array:
    """Without specks: pieces smaller than 0.15 of the largest one go."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.3).astype(np.uint8))
    if count <= 2:
        return alpha
    area = stats[:, cv2.CC_STAT_AREA].copy()
    area[0] = 0
    keep = (area > 0.15 * area.max())[pieces]
    return alpha * cv2.dilate(keep.astype(np.uint8), np.ones((5, 5), np.uint8))


def _trunk_coverage(
    matte: Array,
    parts: Parts,
    weights: dict[str, ArmWeights],
    cover: dict[str, Cover],
    body: Body,
) -> tuple[Array, Array]:
    """Coverage of the trunk layer and how far its pixels show trunk in the photo."""
    inside = matte > 0.5
    shared = np.zeros(inside.shape, bool)
    for side, w in weights.items():
        shared |= w.shoulder_zone & (parts.labels == UPPER[side])
    own = ((parts.labels == TRUNK) | shared) & inside
    if not body.arms:
        return matte, np.ones_like(matte)
    hidden = hidden_trunk(parts.labels, body) & ~own
    arms = ((parts.labels > TRUNK) & ~shared).astype(np.uint8)
    near_arm = cv2.dilate(arms, np.ones((9, 9), np.uint8)) > 0
    # beside arms the border is a border of labels, ragged by a few pixels: smoothed, then made as steep as a matte
    solid = smoothstep((cv2.GaussianBlur((own | hidden).astype(np.float32), (0, 0), 3) - 0.3) / 0.4)
    alpha = np.where(
        near_arm & ~shared, np.minimum(solid, np.maximum(matte, hidden)), np.where(inside & ~own, 0, matte)
    )
    veil = np.zeros_like(matte)
    for side in weights:
        (upper_alpha, _), (fore_alpha, _) = cover[side]
        veil = np.maximum(veil, np.where(weights[side].shoulder_zone, 0, upper_alpha))
        veil = np.maximum(veil, fore_alpha)
    return alpha.astype(np.float32), (1 - np.clip(2 * veil, 0, 1)).astype(np.float32)


def _mesh(arm: Arm, alpha: Array, weights: Array, has_hand: bool, body: Body) -> Mesh:
    """Cells over a layer's pixels, continued beyond the frame where the limb is cut by it."""
    cell = FORE_CELL if has_hand else UPPER_CELL
    height, width = body.size
    margin = int(np.ceil(0.6 * body.unit / 8) * 8)  # a raised forearm uncovers at most about its own length
    along = arm.wrist - arm.elbow if has_hand else arm.elbow - arm.shoulder
    y, x = np.mgrid[-margin : height + margin, -margin : width + margin].astype(np.float32)
    slid_x, slid_y = _slide_back(x, y, along, (height, width))
    covered = cv2.remap(alpha, slid_x, slid_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    beyond = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    covered[beyond & ~_limb_beyond(arm, x, y, has_hand, body.unit)] = 0
    grown = cv2.dilate((covered > 0.02).astype(np.uint8), np.ones((cell + 1, cell + 1), np.uint8)) > 0
    vertices, triangles = grid_cells(grown, cell, margin)
    texture = np.stack(_slide_back(vertices[:, 0], vertices[:, 1], along, (height, width)), -1)
    at = (texture - (GRID - 1) / 2) / GRID
    base = cv2.remap(
        weights, at[:, None, 0].astype(np.float32), at[:, None, 1].astype(np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )[:, 0]  # fmt: skip
    shares = np.zeros((len(vertices), ARM_BONES), np.float32)
    shares[:, :4] = base
    order = base @ np.array([0, 1, 2, 3], np.float32)
    if has_hand and arm.hand is not None:
        fingers = finger_weights(arm, vertices, base[:, 3], body.unit)
        shares[:, 4:] = fingers * base[:, 3:]
        shares[:, 3] -= shares[:, 4:].sum(1)
        assert arm.hand_depth is not None
        # within the hand, what is nearer to the camera is painted later
        nearness = np.array(
            [-arm.hand_depth[list(f)].mean() for f in ((2, 3, 4), (6, 7, 8), (10, 11, 12), (14, 15, 16), (18, 19, 20))]
        )
        rank = np.argsort(np.argsort(nearness)) + 1.0
        order = order + (fingers.reshape(-1, 5, 3).sum(-1) @ rank).astype(np.float32)
    painted = np.argsort(order[triangles].mean(1), kind="stable")
    return Mesh(vertices, texture.astype(np.float32), triangles[painted], shares)


def _limb_beyond(arm: Arm, x: Array, y: Array, has_hand: bool, unit: float) -> np.ndarray:
    """Where the limb may lie outside of the frame: capsules around its bones."""
    bones = (
        [(arm.elbow, arm.wrist, 0.12), (arm.wrist, arm.knuckle, 0.1)]
        if has_hand
        else [(arm.shoulder, arm.elbow, 0.16)]
    )
    if has_hand and arm.hand is not None:
        bones += [
            (arm.hand[a], arm.hand[b], 0.05) for finger in FINGERS for a, b in zip(finger, finger[1:], strict=False)
        ]
    height, width = x.shape
    limb = np.zeros((height, width), np.uint8)
    corner = np.array([x[0, 0], y[0, 0]])
    for start, end, radius in bones:
        ends = [tuple(np.round((p - corner) * 16).astype(int).tolist()) for p in (start, end)]
        cv2.line(limb, ends[0], ends[1], (1,), max(int(2 * radius * unit), 1), cv2.LINE_8, 4)
    return limb > 0


def _slide_back(x: Array, y: Array, along: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Points outside of the frame moved back onto its border along a limb (or straight, if it runs beside it)."""
    height, width = size
    length = float(np.linalg.norm(along)) + 1e-6
    dx, dy = float(along[0]) / length, float(along[1]) / length
    for axis_x in (False, True):
        value, limit = (x, width - 0.5) if axis_x else (y, height - 0.5)
        step = dx if axis_x else dy
        over = value - np.clip(value, -0.5, limit)
        if abs(step) > 0.4:
            x, y = x - over * dx / step, y - over * dy / step
        else:
            x, y = (x - over, y) if axis_x else (x, y - over)
    return np.clip(x, -0.5, width - 0.5).astype(np.float32), np.clip(y, -0.5, height - 0.5).astype(np.float32)
