"""Human-prior conditions of CyberHost: movement box, hand clarity, region boxes and masks, pose maps by kind.

Everything here is geometry on keypoints and pixels, without weights, the same in training and at inference. Sources:
facts reported of the paper's second version; what they leave open is marked "ours".

Letters: F frames, H W image size in pixels, h w size of a mask or heat map. Boxes are (x0, y0, x1, y1) in pixels,
x right, y down, NaN where a part is not in view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.draw import draw_body, draw_hands
from pose.keypoints import FACE, FACE_OVAL, HANDS, LEFT_EYE_UPPER, RIGHT_EYE_UPPER, Keypoints

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

KINDS = ("box", "hands", "body", "none")
KIND_SHARES = {"box": 0.7, "hands": 0.1, "body": 0.1, "none": 0.1}  # ours: the weakest condition the most often
REGIONS = ("face", "hands")
KNOWN = 0.3  # ours: points less sure than this do not count
ENLARGE = (1.0, 1.5)  # published: the training box is 100 % to 150 % of the trajectory's
ENLARGE_INFERENCE = 1.25  # ours: the middle of what training saw
HAND_MARGIN = 1.3  # ours: fingertips are thicker than their keypoints
FACE_MARGIN = 1.2
# ours: lower face in the frame of `mouth_mask`, where the nose ends at (0, 1), closed lips are near 1.5 and the chin
# near 2.4. Wide enough for cheeks that a smile moves, deep enough for the chin of an open mouth.
MOUTH_OUTLINE = ((-0.5, 0.95), (0.5, 0.95), (1.15, 1.2), (1.2, 1.9), (0.75, 2.75), (0.35, 3.05),
                 (-0.35, 3.05), (-0.75, 2.75), (-1.2, 1.9), (-1.15, 1.2))  # fmt: skip
NOSE_BASE = FACE.start + 2  # of the face mesh; talking hardly moves it
CLARITY_CROP = 128  # published
# ours: 36 hands of half-body photos at 512² measure 2.27 ± 0.18, the same blurred by 1.5 pixels 1.35 ± 0.15; video has
# both. Training on a data set of its own carries that set's figures.
CLARITY_MEAN, CLARITY_STD = 2.0, 0.4
CLARITY_INFERENCE = 1.28  # standardised; the 90th percentile of a normal distribution ("a high value" is published)


def check_kind(kind: str) -> None:
    """ValueError unless `kind` is one of KINDS."""
    if kind not in KINDS:
        raise ValueError(f"unknown condition kind {kind!r}; use one of {', '.join(KINDS)}")


def sample_kind(generator: np.random.Generator, shares: Mapping[str, float] = KIND_SHARES) -> str:
    """A condition kind for one training clip, drawn with the given shares."""
    for kind in shares:
        check_kind(kind)
    weights = np.array(list(shares.values()), np.float64)
    if (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(f"shares of condition kinds must be >= 0 and not all 0, got {dict(shares)}")
    return str(generator.choice(list(shares), p=weights / weights.sum()))


def scaled_box(box: Array, factor: float) -> Array:
    """A box (4,) enlarged about its middle."""
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * factor
    return np.concatenate([middle - half, middle + half]).astype(np.float32)


def movement_box(keypoints: Keypoints, enlarge: float = ENLARGE_INFERENCE) -> Array:
    """The body-movement box (4,): where the chest goes over all frames, enlarged about its middle.

    The chest is both shoulders and a point a third of the way from their middle to the hips' (ours; with one point
    alone a person at rest would have no box). Training draws `enlarge` from ENLARGE so that the box does not give
    away the motion; inference passes the photo's own keypoints and keeps the box for the whole video.
    """
    shoulders, known = keypoints.points[:, 5:7], keypoints.confidence[:, 5:7].min(1) >= KNOWN
    if not known.any():
        raise ValueError("the shoulders are never in view, so there is no movement box; use condition kind 'none'")
    middle = shoulders.mean(1)
    hips = np.where(
        (keypoints.confidence[:, 11:13].min(1) >= KNOWN)[:, None],
        keypoints.points[:, 11:13].mean(1),
        middle + np.array([0.0, 1.35], np.float32) * keypoints.shoulder_width()[:, None],  # BEAT's rest skeleton
    )
    chest = np.concatenate([shoulders, (middle + (hips - middle) / 3)[:, None]], axis=1)[known].reshape(-1, 2)
    return scaled_box(np.concatenate([chest.min(0), chest.max(0)]), enlarge)


def box_map(box: Array, size: tuple[int, int]) -> Array:
    """The filled box (H, W) in [0, 1]; pixels on its border are covered in part."""
    return _coverage(np.asarray(box, np.float32)[None], size, size)[0]


def pose_map(kind: str, keypoints: Keypoints | None, frames: int, size: tuple[int, int], box: Array | None) -> Array:
    """The pose condition of `frames` frames as pictures (3, F, H, W) float32 in [0, 1].

    "box" needs `box`, "hands" and "body" need `keypoints` at `size` (height, width), "none" is black.
    """
    check_kind(kind)
    if kind == "none":
        return np.zeros((3, frames, *size), np.float32)
    if kind == "box":
        if box is None:
            raise ValueError("condition kind 'box' needs a movement box; compute one with movement_box")
        return np.broadcast_to(box_map(box, size), (3, frames, *size))
    if keypoints is None:
        raise ValueError(f"condition kind {kind!r} needs keypoints, got None; pass them or use 'box' or 'none'")
    if keypoints.size != size:
        raise ValueError(f"keypoints are for images of {keypoints.size}, got {size}; use Keypoints.resized first")
    draw = draw_body if kind == "body" else draw_hands
    return np.ascontiguousarray(draw(keypoints).transpose(3, 0, 1, 2), dtype=np.float32) / 255.0


def hand_template(template: Keypoints, reference: Keypoints) -> Iterator[Keypoints]:
    """Driving keypoints for the "hands" kind from a template clip of another person, without end.

    The clip is moved and scaled so that its first frame's shoulders are the photo's (`reference`, one frame), and
    played forth and back. Give the pipeline `frames`, or the length of a prior.
    """
    for name, points in (("template", template), ("photo", reference)):
        if points.confidence[0, 5:7].min() < KNOWN:
            raise ValueError(f"the {name}'s shoulders are not in view, so hands cannot be placed; use another {name}")
    scale = reference.shoulder_width()[0] / max(float(template.shoulder_width()[0]), 1.0)
    middle, wanted = template.points[0, 5:7].mean(0), reference.points[0, 5:7].mean(0)
    points = (template.points - middle) * scale + wanted
    forth = replace(template, points=points.astype(np.float32), size=reference.size)
    back = forth[slice(len(forth) - 2, 0, -1)] if len(forth) > 2 else forth[:0]
    while True:
        yield forth
        yield back


def region_boxes(keypoints: Keypoints, region: str) -> Array:
    """Boxes of a region, (F, 1, 4) for "face" and (F, 2, 4), left then right, for "hands"."""
    if region not in REGIONS:
        raise ValueError(f"unknown region {region!r}; use one of {', '.join(REGIONS)}")
    if region == "face":
        oval = [FACE.start + i for i in FACE_OVAL]
        return _point_boxes(keypoints.points[:, oval], keypoints.confidence[:, oval], FACE_MARGIN)[:, None]
    parts = [_point_boxes(keypoints.points[:, s], keypoints.confidence[:, s], HAND_MARGIN) for s in HANDS.values()]
    return np.stack(parts, axis=1)


def region_mask(keypoints: Keypoints, region: str, size: tuple[int, int]) -> Array:
    """How far each cell of a (h, w) grid over the image lies in the region's boxes, (F, h, w) in [0, 1].

    The target of the mask heads and the M of the reweighted loss.
    """
    boxes = region_boxes(keypoints, region)
    covered = [_coverage(boxes[:, part], keypoints.size, size) for part in range(boxes.shape[1])]
    return np.maximum.reduce(covered)


def mouth_mask(keypoints: Keypoints, size: tuple[int, int]) -> Array:
    """Mouth, chin and jaw of each frame on a grid over the image, (F, h, w): 1 in every cell that is touched, else 0.

    What is hidden where sound alone is to say what the mouth does (ours), in training and at inference. The outline
    hangs on eyes and nose, so it follows the head and does not tell how far the mouth is open. Where the face is not
    in view the mask is 0. `size` (h, w) must divide the image's.
    """
    height, width = keypoints.size
    if height % size[0] or width % size[1]:
        raise ValueError(f"the grid {size} must divide the image {keypoints.size}; crop the image first")
    corners = [FACE.start + RIGHT_EYE_UPPER[0], FACE.start + LEFT_EYE_UPPER[0]]
    right, left, nose = np.moveaxis(keypoints.points[:, [*corners, NOSE_BASE]], 1, 0)  # (F, 2) each
    down = nose - (right + left) / 2
    across = (left - right) / 2
    # Turned, the nose stands out to a side. So does the mouth, but no further, while the face goes straight down.
    along = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-3)
    aside = (down * along).sum(-1, keepdims=True) * along
    down = down - aside
    # In a profile the eyes draw together, and a raised head brings the nose up to them; the mouth shrinks less.
    ratio = np.linalg.norm(across, axis=-1) / np.maximum(np.linalg.norm(down, axis=-1), 1e-3)
    across = across * np.maximum(0.7 / np.maximum(ratio, 1e-3), 1.0)[:, None]
    down = down * np.maximum(ratio * 0.9, 1.0)[:, None]
    outline = np.array(MOUTH_OUTLINE, np.float32)
    middle = (right + left) / 2 + 0.8 * aside
    points = middle[:, None] + outline[:, :1] * across[:, None] + outline[:, 1:] * down[:, None]
    seen = keypoints.confidence[:, [*corners, NOSE_BASE]].min(1) >= KNOWN
    filled = np.zeros((len(keypoints), height, width), np.uint8)
    for frame in np.flatnonzero(seen):
        cv2.fillConvexPoly(filled[frame], np.round((points[frame] - 0.5) * 16).astype(np.int32), (1,), shift=4)
    cells = filled.reshape(-1, size[0], height // size[0], size[1], width // size[1])
    return cells.max((2, 4)).astype(np.float32)


def hand_heatmaps(keypoints: Keypoints, size: tuple[int, int], sigma: float = 1.5) -> tuple[Array, Array]:
    """Targets of the hand heat-map heads: maps (F, 42, h, w) with peak 1, and weights (F, 42).

    Left hand first. `sigma` in cells (ours: 1.5). A weight is the point's confidence, 0 where it is not known or
    outside the image, so that the loss leaves it out.
    """
    hands = np.concatenate([keypoints.points[:, s] for s in HANDS.values()], axis=1)
    sure = np.concatenate([keypoints.confidence[:, s] for s in HANDS.values()], axis=1)
    inside = ((hands >= 0) & (hands < np.array(keypoints.size[::-1]))).all(-1)
    cells = hands * np.array([size[1] / keypoints.size[1], size[0] / keypoints.size[0]], np.float32)
    across = np.exp(-((np.arange(size[1]) + 0.5 - cells[..., :1]) ** 2) / (2 * sigma**2))  # (F, 42, w)
    down = np.exp(-((np.arange(size[0]) + 0.5 - cells[..., 1:]) ** 2) / (2 * sigma**2))  # (F, 42, h)
    weights = np.where(inside & (sure >= KNOWN), sure, 0.0)
    return (down[..., :, None] * across[..., None, :]).astype(np.float32), weights.astype(np.float32)


def hand_clarity(images: Image, keypoints: Keypoints) -> Array:
    """How sharp each hand is, (F, 2), left then right: log(1 + std of the Laplacian of the 128² grey crop).

    `images` (F, H, W, 3) RGB of the keypoints' size, grey in [0, 255]. NaN where a hand is not in view.
    """
    if images.shape != (len(keypoints), *keypoints.size, 3):
        raise ValueError(f"images must be {(len(keypoints), *keypoints.size, 3)}, got {images.shape}")
    boxes = region_boxes(keypoints, "hands")
    clarity = np.full((len(keypoints), 2), np.nan, np.float32)
    for frame, hand in zip(*np.nonzero(np.isfinite(boxes[..., 0])), strict=True):
        crop = square_crop(images[frame], boxes[frame, hand], CLARITY_CROP)
        response = cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F)
        clarity[frame, hand] = np.log1p(response.std())
    return clarity


def standardised(clarity: Array, mean: float = CLARITY_MEAN, std: float = CLARITY_STD) -> Array:
    """Clarity in deviations from its data set's mean, clipped to [-3, 3] (ours: as far as training sees)."""
    return np.clip((clarity - mean) / std, -3.0, 3.0)


def square_crop(image: Image, box: Array, side: int) -> Image:
    """The square about a box (4,), resized to (side, side, 3); what lies outside the image repeats its border."""
    middle, half = (box[:2] + box[2:]) / 2, max(float((box[2:] - box[:2]).max()) / 2, 1.0)
    scale = 2 * half / side
    to_source = np.array([[scale, 0, middle[0] - half], [0, scale, middle[1] - half]], np.float64)
    to_source[:, 2] += 0.5 * scale - 0.5  # cv2 counts from pixel centres, we from corners
    if scale > 1:  # one sample a pixel would alias: average the square first
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 * scale), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(image, to_source, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _point_boxes(points: Array, confidence: Array, margin: float) -> Array:
    """Boxes (F, 4) about the known points (F, K, 2), enlarged by `margin`; NaN where fewer than half are known."""
    known = (confidence >= KNOWN)[..., None]
    low = np.where(known, points, np.inf).min(1)
    high = np.where(known, points, -np.inf).max(1)
    enough = known.mean((1, 2)) >= 0.5
    with np.errstate(invalid="ignore"):
        middle, half = (low + high) / 2, (high - low) / 2 * margin
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    return np.where(enough[:, None], boxes, np.nan).astype(np.float32)


def _coverage(boxes: Array, image: tuple[int, int], grid: tuple[int, int]) -> Array:
    """Area share of each cell of `grid` (h, w) that boxes (F, 4) in an `image` (H, W) cover; 0 for NaN boxes."""

    def along(low: Array, high: Array, length: int, cells: int) -> Array:
        edges = np.arange(cells + 1, dtype=np.float32) * (length / cells)
        shared = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        return np.clip(np.nan_to_num(shared), 0, None) / (length / cells)

    columns = along(boxes[:, 0], boxes[:, 2], image[1], grid[1])
    rows = along(boxes[:, 1], boxes[:, 3], image[0], grid[0])
    return (rows[:, :, None] * columns[:, None, :]).astype(np.float32)
