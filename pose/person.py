"""What was seen of one person, and its translation into our keypoint layout.

All points are pixels of the picture in which the person was looked for, x right, y down, z away from the camera in
pixels (MediaPipe gives z in units of the picture's width).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pose.hand_search import Hand
from pose.keypoints import COUNT, FACE, HANDS

Array = NDArray[np.float32]

# MediaPipe's 33 body landmarks for our 23 names; it has no small toe, whose confidence is therefore 0.
BODY_FROM_33 = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28, 31, 31, 29, 32, 32, 30]
NO_SMALL_TOE = [18, 21]
OUTSIDE = 0.2  # factor on the confidence of points beyond the image's border
NOSE_TIP, LEFT_PUPIL, RIGHT_PUPIL = 4, 473, 468  # in the face mesh


@dataclass(frozen=True)
class Body:
    """The body model's answer: `points` (33, 3) pixels, `visibility` (33,) in [0, 1], `world` (33, 3) metres from the
    middle of the hips, `mask` (H, W) in [0, 1], this person's segmentation."""

    points: Array
    visibility: Array
    world: Array
    mask: Array

    @property
    def unit(self) -> float:
        """Shoulder width in pixels, not less than 8."""
        return max(float(np.linalg.norm(self.points[11, :2] - self.points[12, :2])), 8.0)

    def lean(self, face: Array) -> float:
        """Clockwise angle in radians of the line from the shoulders up to the face (478, >=2); 0 is upright."""
        up = face[:, :2].mean(axis=0) - self.points[[11, 12], :2].mean(axis=0)
        return float(np.arctan2(up[0], -up[1]))

    def owns(self, face: Array) -> bool:
        """Whether this body's head is that face (478, >=2)."""
        head = self.points[:11, :2].mean(axis=0)
        return bool(np.linalg.norm(head - face[:, :2].mean(axis=0)) < 0.6 * extent(face))


@dataclass(frozen=True)
class Person:
    """Everything seen of one person; the face is a `Hand` with 478 points."""

    face: Hand | None
    body: Body | None
    hands: dict[str, Hand] = field(default_factory=dict)

    def layout(self, scale: float, size: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
        """Points (543, 3), confidence (543,), body world (33, 3), hand world (2, 21, 3), all in our layout.

        Pixels are divided by `scale`, by how much the picture of `size` (height, width) was reduced for detection.
        Nose and eyes come from the face mesh and the body's wrists from the hands where these were found, for they are
        far more exact; unknown points get confidence 0, points beyond the border a fifth of theirs.
        """
        points = np.zeros((COUNT, 3), np.float32)
        confidence = np.zeros(COUNT, np.float32)
        world = np.full((33, 3), np.nan, np.float32)
        hand_world = np.full((2, 21, 3), np.nan, np.float32)
        if self.body is not None:
            points[:23] = self.body.points[BODY_FROM_33]
            confidence[:23] = self.body.visibility[BODY_FROM_33]
            confidence[NO_SMALL_TOE] = 0.0
            world = self.body.world
        elif self.face is not None:
            points[:23], confidence[:23] = body_from_face(self.face.points)
        if self.face is not None:
            points[FACE] = self.face.points
            confidence[FACE] = self.face.score
            points[:3, :2] = self.face.points[[NOSE_TIP, LEFT_PUPIL, RIGHT_PUPIL], :2]
            confidence[:3] = np.maximum(confidence[:3], self.face.score)
        for number, (side, part) in enumerate(HANDS.items()):
            hand = self.hands.get(side)
            wrist = 9 + number
            if hand is None:  # finite and near the arm, though unknown
                points[part, :2] = points[wrist, :2]
                continue
            points[part] = hand.points
            confidence[part] = hand.score
            hand_world[number] = hand.world
            points[wrist, :2] = hand.points[0, :2]
            confidence[wrist] = max(float(confidence[wrist]), hand.score)
        points /= np.float32(scale)
        x, y = points[:, 0], points[:, 1]
        confidence[(x < 0) | (y < 0) | (x > size[1]) | (y > size[0])] *= OUTSIDE
        return points, confidence, world, hand_world


def extent(points: Array) -> float:
    """Longer side of the bounding box of points, pixels."""
    return float(np.ptp(points[:, :2], axis=0).max())


def body_from_face(face: Array) -> tuple[Array, Array]:
    """A guess at the body, (23, 3) and (23,), for a close-up in which no body was found: ordinary proportions.

    Only the shoulders get any confidence (0.3), because they are the unit of all lengths.
    """
    # In face heights from the middle of the face, for a person upright before the camera; chosen by hand.
    places = {
        3: (0.5, 0.0), 4: (-0.5, 0.0), 5: (0.9, 1.15), 6: (-0.9, 1.15), 7: (1.1, 2.5), 8: (-1.1, 2.5),
        9: (1.1, 3.7), 10: (-1.1, 3.7), 11: (0.6, 3.6), 12: (-0.6, 3.6),
    }  # fmt: skip
    points = np.zeros((23, 3), np.float32)
    for index in range(23):
        points[index, :2] = face[:, :2].mean(axis=0) + extent(face) * np.array(places.get(index, (0.0, 6.0)))
    confidence = np.zeros(23, np.float32)
    confidence[[5, 6]] = 0.3
    return points, confidence
