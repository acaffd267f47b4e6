"""2D keypoints of one person in image pixels: the layout every stage agrees on.

Letters: F frames, K keypoints of the layout, H W image size.

Layout (K = 543): 23 body points with COCO-WholeBody names (17 body, 6 feet), 21 points of the left hand, 21 of the
right hand (MediaPipe hand order), 478 points of the MediaPipe face mesh (468 surface, 5 for each iris).
"Left" is always the person's own left. x points right, y points down, the centre of the top-left pixel is (0.5, 0.5)
in the continuous coordinates used here, so that resizing an image by s multiplies every coordinate by s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

BODY_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
BODY = slice(0, 23)
LEFT_HAND = slice(23, 44)
RIGHT_HAND = slice(44, 65)
FACE = slice(65, 543)
COUNT = 543
HANDS = {"left": LEFT_HAND, "right": RIGHT_HAND}

# Body limbs that are drawn and measured, as pairs of body indices.
BODY_EDGES = (
    (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12),
    (11, 13), (13, 15), (12, 14), (14, 16), (0, 1), (0, 2), (1, 3), (2, 4),
)  # fmt: skip

# Hand order: wrist, then thumb, index, middle, ring, little finger with four points each from the palm to the tip.
FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
HAND_EDGES = (
    (0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (5, 9), (9, 10), (10, 11), (11, 12),
    (9, 13), (13, 14), (14, 15), (15, 16), (13, 17), (17, 18), (18, 19), (19, 20), (0, 17),
)  # fmt: skip

# Face mesh indices. "Right" is the person's right, at the left of a frontal image.
LIPS_INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)  # right corner to left corner
LIPS_INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LIPS_OUTER_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LIPS_OUTER_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
RIGHT_EYE_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)  # outer corner to inner corner
RIGHT_EYE_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_EYE_UPPER = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_EYE_LOWER = (263, 249, 390, 373, 374, 380, 381, 382, 362)
RIGHT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
LEFT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
RIGHT_IRIS = (468, 469, 470, 471, 472)  # centre, then four rim points
LEFT_IRIS = (473, 474, 475, 476, 477)
FACE_OVAL = (
    10,
    338,
    297,
    332,
    284,
    251,
    389,
    356,
    454,
    323,
    361,
    288,
    397,
    365,
    379,
    378,
    400,
    377,
    152,
    148,
    176,
    149,
    150,
    136,
    172,
    58,
    132,
    93,
    234,
    127,
    162,
    21,
    54,
    103,
    67,
    109,
)  # fmt: skip  clockwise in a frontal image, from the middle of the forehead
# The mesh points nearest to the 68 points of the iBUG 300-W mark-up, in its order: jaw 17, brows 5+5, nose 4+5,
# eyes 6+6, mouth 12+8. Only these are drawn.
FACE_CONTOUR = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip


def body_index(name: str) -> int:
    """Index of a body point in the layout; ValueError names the known ones."""
    if name not in BODY_NAMES:
        raise ValueError(f"unknown body point {name!r}; known are {', '.join(BODY_NAMES)}")
    return BODY_NAMES.index(name)


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of one person over F frames.

    `points` (F, 543, 2) float32, pixels, x right, y down; `confidence` (F, 543) float32 in [0, 1], 0 where a point is
    not known (its coordinates are then meaningless but finite); `size` (height, width) of the image; `fps` frames a
    second, None for a single image.
    """

    points: Array
    confidence: Array
    size: tuple[int, int]
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.points.ndim != 3 or self.points.shape[1:] != (COUNT, 2):
            raise ValueError(f"points must be (F, {COUNT}, 2), got {self.points.shape}")
        if self.confidence.shape != self.points.shape[:2]:
            raise ValueError(f"confidence must be {self.points.shape[:2]}, got {self.confidence.shape}")

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, frames: slice | Sequence[int] | NDArray[np.integer]) -> Keypoints:
        """A range or a choice of frames; of a range the arrays are views."""
        return replace(self, points=self.points[frames], confidence=self.confidence[frames])

    def resized(self, size: tuple[int, int]) -> Keypoints:
        """The same points in the image resized to `size` (height, width)."""
        scale = np.array([size[1] / self.size[1], size[0] / self.size[0]], np.float32)
        return replace(self, points=self.points * scale, size=(int(size[0]), int(size[1])))

    def shoulder_width(self) -> Array:
        """Distance of the shoulders in each frame, (F,) pixels: the unit "sw" of every measure of ours."""
        return np.linalg.norm(self.points[:, 5] - self.points[:, 6], axis=-1)

    @classmethod
    def concatenated(cls, parts: Sequence[Keypoints]) -> Keypoints:
        """Parts that follow each other as one; they share size and rate."""
        if not parts:
            raise ValueError("nothing to join: pass at least one part")
        points = np.concatenate([part.points for part in parts])
        return replace(parts[0], points=points, confidence=np.concatenate([part.confidence for part in parts]))

    def save(self, path: str | Path) -> None:
        """Write an .npz with the four fields."""
        np.savez_compressed(path, points=self.points, confidence=self.confidence, size=self.size, fps=self.fps or 0.0)

    @classmethod
    def load(cls, path: str | Path) -> Keypoints:
        """Read what `save` wrote; ValueError when a field is missing or has a wrong shape."""
        with np.load(path, allow_pickle=False) as file:
            missing = {"points", "confidence", "size", "fps"} - set(file.files)
            if missing:
                raise ValueError(f"{path} lacks {', '.join(sorted(missing))}: it was not written by Keypoints.save")
            height, width = (int(v) for v in file["size"])
            fps = float(file["fps"])
            return cls(
                file["points"].astype(np.float32), file["confidence"].astype(np.float32), (height, width), fps or None
            )


@dataclass(frozen=True)
class Detection:
    """What the detector knows of the largest person in F frames of one size.

    `keypoints`: the 2D points. `depth` (F, 543): depth of each point relative to the middle of the hips (body), the
    wrist (hands) or the middle of the head (face), in pixels of the image, positive away from the camera.
    `world` (F, 33, 3): MediaPipe's 33 body landmarks in metres from the middle of the hips, x right in the image,
    y down, z away from the camera; NaN where the body was not found. `hand_world` (F, 2, 21, 3): the left and the
    right hand in metres, same axes; NaN where absent. `matte` (F, H, W) float32 in [0, 1]: the person.
    `people`: how many people were seen in the first frame, this one included.
    """

    keypoints: Keypoints
    depth: Array
    world: Array
    hand_world: Array
    matte: Array
    people: int = 1

    def __len__(self) -> int:
        return len(self.keypoints)

    def resized(self, size: tuple[int, int]) -> Detection:
        """The same person in the image resized to `size` (height, width); depth scales with the width."""
        import cv2

        interpolation = cv2.INTER_AREA if size[0] < self.matte.shape[1] else cv2.INTER_LINEAR
        matte = np.stack([cv2.resize(m, (size[1], size[0]), interpolation=interpolation) for m in self.matte])
        return replace(
            self,
            keypoints=self.keypoints.resized(size),
            depth=self.depth * np.float32(size[1] / self.keypoints.size[1]),
            matte=np.clip(matte, 0, 1).astype(np.float32),
        )
