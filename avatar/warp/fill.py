"""Filling what the photo does not show: background behind the person, cloth behind arms.

Letters: H W image size. A fill is colour carried in along edges plus the grain of the known surroundings: a smooth
blur beside textured cloth shows at once. It is still a guess: confidence is 0 on filled pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from avatar.warp.body import Array

ALONG = 3.0  # ours: a place three widths along a limb tells as much of its cloth as one a width beside it
GRAIN = 0.03  # weave and noise of the 38 photos stay below; more would repeat outlines as grain


def push_pull(values: Array, known: Array) -> Array:
    """Smooth values (H, W, C) everywhere from those where `known` (H, W) is 1 (Gortler et al. 1996, section 4)."""
    if min(values.shape[:2]) <= 4:
        mean = (values * known[..., None]).sum((0, 1)) / max(float(known.sum()), 1e-6)
        return values * known[..., None] + mean.astype(np.float32) * (1 - known[..., None])
    coarse = cv2.pyrDown(values * known[..., None]).reshape((known.shape[0] + 1) // 2, (known.shape[1] + 1) // 2, -1)
    coarse_known = cv2.pyrDown(known)
    coarse = push_pull(coarse / np.maximum(coarse_known, 1e-4)[..., None], np.clip(coarse_known * 4, 0, 1))
    fine = cv2.pyrUp(coarse, dstsize=(values.shape[1], values.shape[0])).reshape(values.shape)
    return values * known[..., None] + fine * (1 - known[..., None])


def fill_texture(image: Array, known: np.ndarray, wanted: np.ndarray, detail: float = 1.0) -> Array:
    """Colours (H, W, 3) in [0, 1]: `image` where `known` (H, W) bool, a textured guess at the other `wanted` pixels.

    Structure: Telea's inpainting at half size, which carries edges inward. Grain: the high-pass of the nearest known
    pixel mirrored at the border of the hole, times `detail`.
    """
    hole = wanted & ~known
    if not hole.any():
        return image
    height, width = known.shape
    rows, columns = np.nonzero(hole)
    margin = 24
    y0, y1 = max(rows.min() - margin, 0) // 2 * 2, min(rows.max() + margin, height) // 2 * 2
    x0, x1 = max(columns.min() - margin, 0) // 2 * 2, min(columns.max() + margin, width) // 2 * 2
    y0, x0, y1, x1 = max(y0, 0), max(x0, 0), max(y1, y0 + 8), max(x1, x0 + 8)
    view = (slice(y0, y1), slice(x0, x1))
    # Pixels neither known nor wanted must not feed the inpainting: a smooth fill of the known ones goes there.
    base = push_pull(image[view].astype(np.float32), known[view].astype(np.float32))
    half = (base.shape[1] // 2, base.shape[0] // 2)
    small = np.round(cv2.resize(base, half, interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)
    small_known = cv2.resize(known[view].astype(np.float32), half, interpolation=cv2.INTER_AREA) > 0.99
    small_wanted = cv2.dilate(
        cv2.resize(hole[view].astype(np.uint8), half, interpolation=cv2.INTER_AREA), np.ones((3, 3))
    )
    painted = cv2.inpaint(small, (~small_known & (small_wanted > 0)).astype(np.uint8), 6, cv2.INPAINT_TELEA)
    smooth = (
        cv2.resize(painted, (base.shape[1], base.shape[0]), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    )
    grain = base - cv2.GaussianBlur(base, (0, 0), 2)
    energy = cv2.GaussianBlur((grain**2).sum(-1), (0, 0), 2)[..., None]
    grain *= np.exp(-energy / GRAIN**2)  # no outlines in the grain
    solid = cv2.erode(known[view].astype(np.uint8), np.ones((9, 9), np.uint8))  # its high-pass knows no hole
    source = _mirror(solid > 0)
    guess = smooth + detail * grain[source[1], source[0]]
    out = image.astype(np.float32).copy()
    # blend over 3 px into the known side, or the half-size painting leaves a visible line
    ramp = cv2.GaussianBlur((~known[view]).astype(np.float32), (0, 0), 1.2)
    ramp = np.where(known[view], 0.0, np.clip(ramp * 2, 0, 1))[..., None].astype(np.float32)
    out[view] = out[view] * (1 - ramp) + np.clip(guess, 0, 1) * ramp
    out[~known & ~hole] = push_pull(image.astype(np.float32), known.astype(np.float32))[~known & ~hole]
    return out


def fill_limb(image: Array, known: np.ndarray, wanted: np.ndarray, start: Array, end: Array) -> Array:
    """As `fill_texture`, for a limb from `start` to `end` (2,): colours come from beside a place before they come
    from along the bone, so that skin below a sleeve is filled with skin.

    The limb is filled upright and `ALONG` times as long as it is.
    """
    hole = wanted & ~known
    bone = (end - start).astype(np.float32)
    length = float(np.linalg.norm(bone))
    if length < 1 or not hole.any():
        return fill_texture(image, known, wanted)
    upright = np.array([[-bone[1], bone[0]], ALONG * bone]) / length  # (2, 2): from the photo, but for the shift
    rows, columns = np.nonzero(known | wanted)
    box = np.stack([columns, rows], -1) @ upright.T
    corner = box.min(0) - 8
    width, height = (np.ceil(box.max(0) - corner) + 8).astype(int).tolist()
    matrix = np.concatenate([upright, -corner[:, None]], 1)
    planes = np.concatenate([image, known[..., None], hole[..., None]], -1).astype(np.float32)
    turned = cv2.warpAffine(planes, matrix, (width, height))
    filled = fill_texture(turned[..., :3], turned[..., 3] > 0.99, turned[..., 4] > 0)
    back = cv2.warpAffine(filled, matrix, known.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.where(hole[..., None], back, image)


def _mirror(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each unknown pixel the (x, y) of the known pixel mirrored at the nearest known one; own place if known."""
    height, width = known.shape
    y, x = np.mgrid[:height, :width]
    if not known.any():
        return x, y
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    at = np.zeros(int(nearest.max()) + 1, np.int64)
    ys, xs = np.nonzero(known)
    at[nearest[ys, xs]] = ys * width + xs
    near_y, near_x = np.divmod(at[nearest], width)
    mirror_x, mirror_y = np.clip(2 * near_x - x, 0, width - 1), np.clip(2 * near_y - y, 0, height - 1)
    good = known[mirror_y, mirror_x]
    return np.where(good, mirror_x, near_x), np.where(good, mirror_y, near_y)
