"""Measures of keypoints: how surely hands are seen (HKC), how they move (HKV), how far points are from others (AKD).

Letters: F frames, K = 543 keypoints (pose/keypoints.py). The detector is the caller's: ours is MediaPipe, whose
confidence of a hand is one number for its 21 points; the papers use DWPose, which has one for each point. Numbers of
different detectors must not be compared, and no paper publishes its formula: the definitions below are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pose.keypoints import FACE, FACE_CONTOUR, HANDS, Keypoints

SURE = 0.3  # confidence from which a point counts, facts of DWPose's users; MediaPipe's hands are 0 or above 0.5
HAND_POINTS = [k for part in HANDS.values() for k in range(part.start, part.stop)]
GROUPS = {
    "body": list(range(17)),  # without feet, which half-body pictures do not show
    "hands": HAND_POINTS,
    "face": [FACE.start + k for k in FACE_CONTOUR],  # 68 of 478, so that the face does not outweigh the rest
}
ALL_POINTS = [k for group in GROUPS.values() for k in group]


def hand_confidence(keypoints: Keypoints, variant: Literal["all", "in_view", "seen"] = "all") -> float:
    """HKC in [0, 1], higher is better: mean confidence of the hands' points over frames and hands.

    `all`: both hands in every frame; one that is not found counts 0, whether it is out of the picture or too blurred
    to be one. `in_view`: only hands that are found or whose wrist lies in the picture. `seen`: only hands that are
    found, so a hand that is spoiled altogether costs nothing. ValueError when no hand is ever in view or, for `seen`,
    found: a video of a head has no HKC.
    """
    if variant not in ("all", "in_view", "seen"):
        raise ValueError(f"variant must be all, in_view or seen, got {variant!r}")
    height, width = keypoints.size
    confidence = np.stack([keypoints.confidence[:, part].mean(axis=1) for part in HANDS.values()], axis=1)
    wrists = keypoints.points[:, 9:11]
    found = confidence >= SURE
    in_view = found | ((wrists > 0) & (wrists < (width, height))).all(axis=-1)  # (F, 2)
    if not in_view.any():
        raise ValueError("no hand is in the picture in any frame")
    if variant == "seen" and not found.any():
        raise ValueError("no hand was found in any frame")
    chosen = {"all": np.ones_like(found), "in_view": in_view, "seen": found}[variant]
    return float(confidence[chosen].astype(np.float64).mean())


def hand_variance(
    keypoints: Keypoints, variant: Literal["pixels", "shoulders"] = "pixels", sure: float = SURE
) -> float:
    """HKV: variance in time of each hand point, mean of x and y, mean over the points seen in at least two frames.

    `pixels`: squared pixels of the frame, as the papers' numbers seem to be; four times as much at twice the size.
    `shoulders`: squared shoulder widths, the median one of the frames. More is livelier, and jitter is more too: read
    it beside HKC.
    """
    points = keypoints.points[:, HAND_POINTS].astype(np.float64)
    seen = keypoints.confidence[:, HAND_POINTS] > sure
    enough = seen.sum(axis=0) > 1
    if not enough.any():
        raise ValueError("no hand was found in two frames")
    unit = 1.0 if variant == "pixels" else _shoulders(keypoints, sure)
    known = np.where(seen[..., None], points, np.nan)[:, enough]
    return float(np.nanvar(known, axis=0).mean() / unit**2)


@dataclass(frozen=True)
class KeypointDistance:
    """`mean` distance of the points known in both, in pixels or shoulder widths; `points` how many those were;
    `missed` share of the wanted points that were not found. Where all were missed `mean` is NaN."""

    mean: float
    points: int
    missed: float

    def mean_or_error(self) -> float:
        """`mean`; ValueError where no point was found, for NaN must not get into an average."""
        if not self.points:
            raise ValueError("none of the wanted points was found")
        return self.mean


def keypoint_distance(
    found: Keypoints,
    wanted: Keypoints,
    variant: Literal["pixels", "shoulders"] = "pixels",
    group: Literal["all", "body", "hands", "face"] = "all",
    sure: float = SURE,
) -> KeypointDistance:
    """AKD (`wanted` found in the true video, pixels) and the error against the driving skeleton (shoulder widths).

    Only points sure in both frames and inside the wanted picture count; `missed` says how many were lost, because a
    detector that gives up on bad hands makes the mean better.
    """
    if found.size != wanted.size:
        raise ValueError(f"keypoints of frames {found.size} and {wanted.size}; use Keypoints.resized on one of them")
    if len(found) != len(wanted):
        raise ValueError(f"{len(found)} and {len(wanted)} frames; cut both to the same")
    chosen = ALL_POINTS if group == "all" else GROUPS[group]
    target = wanted.points[:, chosen].astype(np.float64)
    height, width = wanted.size
    due = (wanted.confidence[:, chosen] > sure) & ((target >= 0) & (target <= (width, height))).all(axis=-1)
    both = due & (found.confidence[:, chosen] > sure)
    if not due.any():
        raise ValueError(f"no point of {group} is known and inside the picture in the wanted keypoints")
    if not both.any():
        return KeypointDistance(float("nan"), 0, 1.0)
    unit = 1.0 if variant == "pixels" else _shoulders(wanted, sure)
    distance = np.linalg.norm(found.points[:, chosen] - target, axis=-1)[both]
    return KeypointDistance(float(distance.mean() / unit), int(both.sum()), float(1 - both.sum() / due.sum()))


def _shoulders(keypoints: Keypoints, sure: float) -> float:
    """Median shoulder width, pixels."""
    widths = keypoints.shoulder_width()[(keypoints.confidence[:, 5:7] >= min(sure, 0.3)).all(axis=1)]
    if not len(widths) or np.median(widths) <= 0:
        raise ValueError("the shoulders were found in no frame, and they are the unit of length")
    return float(np.median(widths))
