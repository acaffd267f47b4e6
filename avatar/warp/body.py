"""The person in the photo as the warp sees it: bones, hands and the axes of the trunk, in pixel coordinates.

Letters: H W image size. Pixel coordinates: (0, 0) is the centre of the top-left pixel (`Keypoints` puts
it at 0.5, 0.5). Lengths are given in shoulder widths (sw) wherever they stand for a part of the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.keypoints import FACE, HAND_EDGES, HANDS, Keypoints

Array = NDArray[Any]  # float32 unless said otherwise
PIXEL_CENTRE = 0.5
SIDES = ("left", "right")
# Body indices of shoulder, elbow, wrist, hip of each side.
SHOULDER, ELBOW, WRIST, HIP = ({"left": i, "right": i + 1} for i in (5, 7, 9, 11))
# Temples, forehead and cheek sides (not the jaw, which opens) and the outer eye corners: the rigid part of the face
# at the depth of the head's outline, so that an affine map fitted to it carries hair and ears as well.
RIGID_FACE = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 109, 67, 103, 54, 21, 162, 127, 234, 33, 263, 168,
)  # fmt: skip
FOREHEAD, CHIN = 10, 152
SHOULDERS_PER_TEMPLES = 2.5  # shoulder width over face width; measured on the 38 photos: 2.3-2.8


@dataclass(frozen=True)
class Arm:
    """One arm in the photo; `hand` (21, 2) or None when the detector did not find it."""

    side: str
    shoulder: Array
    elbow: Array
    wrist: Array
    hand: Array | None
    hand_depth: Array | None  # (21,), relative to the wrist, positive away from the camera
    depth: float  # of the wrist: decides which arm lies in front

    @property
    def knuckle(self) -> Array:
        """End of the palm: the middle knuckle, or a guess 0.35 forearms beyond the wrist (chosen by hand)."""
        if self.hand is not None:
            return self.hand[9]
        return self.wrist + 0.35 * (self.wrist - self.elbow)


@dataclass(frozen=True)
class Body:
    """Bones of the photo. `outward` is +1 where the person's left is on the right of the image."""

    size: tuple[int, int]
    unit: float  # sw in pixels
    shoulders: Array  # (2, 2) left, right; guessed below the chin when not seen
    hips: Array  # (2, 2)
    has_shoulders: bool
    has_hips: bool
    face: Array | None  # (478, 2)
    head_centre: Array
    chin: Array
    arms: dict[str, Arm]
    clasped: bool  # the hands touch: they move as one

    @property
    def neck(self) -> Array:
        """Middle of the shoulders."""
        return self.shoulders.mean(0)

    def outward(self, side: str) -> float:
        """Sign of x that points away from the trunk on this side."""
        sign = 1.0 if self.shoulders[0, 0] >= self.shoulders[1, 0] else -1.0
        return sign if side == "left" else -sign


def wrist_of(points: Array, side: str, use_hand: bool) -> Array:
    """The wrist of one side, (..., 2): middle of the body's and the hand's own wrist point where there is a hand."""
    wrist = points[..., WRIST[side], :]
    return 0.5 * (wrist + points[..., HANDS[side].start, :]) if use_hand else wrist


def read_body(reference: Keypoints, depth: Array) -> Body:
    """Bones of the photo from one frame of keypoints and their depth (543,)."""
    points = reference.points[0] - np.float32(PIXEL_CENTRE)
    known = reference.confidence[0] > 0
    visible = reference.confidence[0]
    height, width = reference.size
    face = points[FACE] if known[FACE].all() else None
    has_shoulders = bool(known[5] and known[6]) and float(np.linalg.norm(points[5] - points[6])) > 8
    if face is not None:
        chin, head_centre = face[CHIN], face[list(RIGID_FACE)].mean(0)
        temples = float(np.linalg.norm(face[454] - face[234]))
    else:
        head_centre = points[0]
        chin = 0.6 * points[0] + 0.4 * points[5:7].mean(0)
        temples = 0.0
    unit = float(np.linalg.norm(points[5] - points[6])) if has_shoulders else SHOULDERS_PER_TEMPLES * temples
    # A body seen from the side has a short shoulder line; the face still tells the scale.
    unit = max(unit, 0.7 * SHOULDERS_PER_TEMPLES * temples, 24.0)
    if has_shoulders:
        shoulders = points[5:7]
    else:
        down = np.array([0, 0.35 * unit], np.float32)
        shoulders = np.stack([chin + down + [0.5 * unit, 0], chin + down - [0.5 * unit, 0]]).astype(np.float32)
    has_hips = bool(known[11] and known[12]) and has_shoulders
    hips = points[11:13] if has_hips else shoulders * [0.7, 1] + shoulders.mean(0) * [0.3, 0] + [0, 1.4 * unit]
    arms: dict[str, Arm] = {}
    for side in SIDES:
        hand_slice = HANDS[side]
        hand = points[hand_slice] if known[hand_slice].all() else None
        elbow = points[ELBOW[side]]
        # An arm that leaves the picture before the elbow and does not come back stays part of the trunk: little of it
        # would move. Below 0.5 MediaPipe guesses an elbow behind something.
        inside = -0.05 * unit < elbow[0] < width + 0.05 * unit and elbow[1] < height + 0.02 * unit
        seen = (inside and visible[ELBOW[side]] > 0.5) or hand is not None
        if not (has_shoulders and known[ELBOW[side]] and known[WRIST[side]] and seen):
            continue
        arms[side] = Arm(
            side,
            points[SHOULDER[side]],
            elbow,
            wrist_of(points, side, hand is not None),
            hand,
            depth[hand_slice] if hand is not None else None,
            float(depth[WRIST[side]]),
        )
    hands = [arm.hand for arm in arms.values() if arm.hand is not None]
    # 0.05 sw: touching hands of 5 photos measure 0-0.03, separate ones of the other photos above 0.2.
    clasped = len(hands) == 2 and bool(np.linalg.norm(hands[0][:, None] - hands[1][None], axis=-1).min() < 0.05 * unit)
    return Body(
        (height, width), unit, shoulders.astype(np.float32), np.asarray(hips, np.float32), has_shoulders, has_hips,
        face, head_centre.astype(np.float32), chin.astype(np.float32), arms, clasped,
    )  # fmt: skip


def segment_distance(x: Array, y: Array, start: Array, end: Array) -> tuple[Array, Array]:
    """Distance of pixels to a segment, and the unclamped place along it (0 at `start`, 1 at `end`)."""
    along = (end - start).astype(np.float32)
    length2 = float(along @ along) + 1e-6
    qx, qy = x - start[0], y - start[1]
    place = (qx * along[0] + qy * along[1]) / np.float32(length2)
    clamped = np.clip(place, 0, 1)
    return np.hypot(qx - clamped * along[0], qy - clamped * along[1]), place


def hand_distance(arm: Arm, size: tuple[int, int], scale: float = 1.0, wrist: bool = True) -> Array:
    """Distance (H, W) of every pixel to the hand's skeleton, or to the guessed palm when no hand was found.

    `size` is that of the photo times `scale`; without `wrist` the bones that start there are left out.
    """
    hand = arm.hand
    lines = [(arm.wrist, arm.knuckle)]
    if hand is not None:
        lines = [(hand[a], hand[b]) for a, b in HAND_EDGES if wrist or 0 not in (a, b)]
    margin = 64  # the skeleton may lie outside of the picture
    canvas = np.full((size[0] + 2 * margin, size[1] + 2 * margin), 255, np.uint8)
    for a, b in lines:
        ends = [tuple(int(round(float(v) * scale * 16)) + margin * 16 for v in p) for p in (a, b)]
        cv2.line(canvas, ends[0], ends[1], (0,), 1, cv2.LINE_8, 4)
    distance = cv2.distanceTransform(canvas, cv2.DIST_L2, 5)
    return distance[margin:-margin, margin:-margin]
