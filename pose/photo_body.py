"""The body in a photo, lifted to 3D and measured: where retargeting starts from and how far it may go.

S = 2 sides (left, right: the person's own). Axes: x right, y down, z away from the camera, pixels of the photo; weak
perspective, so that x and y of the lifted body are the photo's own. Lengths that scale with the person are in `unit`s,
the pixels of a shoulder width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.keypoints import FACE, HANDS, Detection
from pose.rotations import axis_angle_to_matrix

Array = NDArray[np.float64]

SEEN = 0.5  # confidence from which a point is taken as visible
UPPER_ARM, FOREARM = 0.80, 0.72  # bone lengths in shoulder widths, as in the home skeleton
FACE_WIDTHS = 2.3  # shoulder widths in face widths (ear to ear): median of 38 photos
MARGIN = 0.03  # of a unit, kept free between a hand and the border of the photo
WORLD_ARM = ((11, 13, 15), (12, 14, 16))  # shoulder, elbow, wrist among MediaPipe's 33 landmarks
HELD = 0.29  # a reach below this is that of an arm whose end is out of the picture
CLASPED_REACH = 0.7  # of their freedom that hands have which hold each other: what they hide is large
RESTING_REACH = 0.12  # of an arm whose hand rests on the hip
CUT = 0.03  # units by which a hand may stick out of the picture before it counts as cut off
TOUCHING = 0.05  # units between two hands below which they are taken to hold each other


@dataclass(frozen=True)
class PhotoHand:
    """A visible hand: `points` (21, 3) px relative to the body's wrist, the depth from the world landmarks."""

    points: Array


@dataclass(frozen=True)
class PhotoBody:
    """Measures of the person in the photo.

    `unit` px of a shoulder width seen from the front. `yaw` radians by which the chest is turned, positive when the
    left shoulder is farther away. `joints` (2, 3, 3): shoulder, elbow, wrist of each arm. `reach` (2,) how freely
    each arm may move, 1 all of it, 0 not at all. `room` (2, 2, 2): how far each wrist may travel in px, [side, axis,
    towards smaller (negative) or larger coordinates]. `hands`: None for one that is not seen. `clasped`: the hands
    hold each other. `neck` (2,) px, what the head rests on.
    """

    unit: float
    yaw: float
    joints: Array
    reach: Array
    room: Array
    hands: tuple[PhotoHand | None, PhotoHand | None]
    clasped: bool
    neck: Array

    @property
    def turn(self) -> Array:
        """(3, 3), from the frame of the chest to the image."""
        return axis_angle_to_matrix([0.0, -self.yaw, 0.0])

    @property
    def bones(self) -> Array:
        """Lengths (2, 2) px in space of upper arm and forearm of each side."""
        return np.linalg.norm(np.diff(self.joints, axis=1), axis=-1)

    @property
    def arms(self) -> Array:
        """(2, 2, 3): elbow and wrist of each side, arm lengths from the shoulder in the frame of the chest."""
        return (self.joints[:, 1:] - self.joints[:, :1]) @ self.turn / self.bones.sum(1)[:, None, None]


def measure(detection: Detection) -> PhotoBody:
    """The body in the first frame of a detection. Parts that are not seen get ordinary proportions and no freedom."""
    points = detection.keypoints.points[0].astype(np.float64)
    confidence = detection.keypoints.confidence[0]
    height, width = detection.keypoints.size
    world = detection.world[0].astype(np.float64)
    unit, yaw = _unit(points, confidence, world)

    joints = np.zeros((2, 3, 3))
    reach = np.zeros(2)
    hands: list[PhotoHand | None] = []
    for side, part in enumerate(HANDS.values()):
        arm = [5 + side, 7 + side, 9 + side]
        joints[side, :, :2] = points[arm]
        _lift_arm(joints[side], world[list(WORLD_ARM[side])], unit)
        hand = None
        if confidence[part].min() > 0 and np.ptp(points[part], axis=0).max() > 0:
            hand = _lift_hand(points[part], detection.depth[0, part], detection.hand_world[0, side], joints[side, 2])
        hands.append(hand)
        shoulder, elbow, wrist = confidence[arm]
        outline = _hand_outline(joints[side], hand, unit)
        cut = np.maximum(-outline, outline - np.array([width, height])).max() > CUT * unit
        if min(shoulder, elbow, wrist) >= SEEN and not cut:
            # A forearm that points at the camera cannot be shown in full length: its hand travels less.
            shown = float(np.linalg.norm(points[arm[2]] - points[arm[1]])) / (FOREARM * unit)
            reach[side] = float(np.clip(0.6 + 0.6 * shown, 0.65, 1.0)) * (1.0 if hand is not None else 0.6)
        elif shoulder > 0.2 and elbow > 0:
            # The end is out of the picture, or cut by its border, and has to stay there.
            reach[side] = 0.2 if elbow >= SEEN else 0.12

    clasped = _clasped(joints, hands, reach, unit)
    for side in (0, 1):
        reach[side] *= RESTING_REACH if not clasped and _on_hip(joints, side, unit) else 1.0
    reach *= CLASPED_REACH if clasped else 1.0
    room = np.stack([_room(points, joints, hands, side, (width, height), unit, reach, clasped) for side in (0, 1)])
    face = points[FACE]
    if min(confidence[5], confidence[6]) > 0.2:
        neck = joints[:, 0, :2].mean(0)
    else:
        neck = np.array([face[:, 0].mean(), face[:, 1].max()])
    return PhotoBody(unit, yaw, joints, reach, room, (hands[0], hands[1]), clasped, neck)


def _unit(points: Array, confidence: NDArray[np.float32], world: Array) -> tuple[float, float]:
    face = points[FACE]
    by_face = FACE_WIDTHS * float(np.linalg.norm(face[234] - face[454])) if confidence[FACE].min() > 0 else 0.0
    yaw = 0.0
    if min(confidence[5], confidence[6]) >= SEEN:
        line = world[11] - world[12]
        if np.isfinite(line).all() and np.hypot(line[0], line[2]) > 0:
            # Depth is the model's weakest coordinate: small turns are taken as none.
            yaw = float(np.arctan2(line[2], abs(line[0])))
            yaw = float(np.clip(np.sign(yaw) * max(abs(yaw) - 0.15, 0.0), -1.0, 1.0))
        across = float(np.linalg.norm(points[5] - points[6])) / np.cos(yaw)
        # A person seen from the side has no width of shoulders, but a face.
        return max(across, 0.6 * by_face, 1.0), yaw
    if by_face == 0:
        raise ValueError("neither shoulders nor a face are known; pass a detection of a person who faces the camera")
    return by_face, 0.0


def _lift_arm(arm: Array, world: Array, unit: float) -> None:
    """Fill in z of an arm (3 joints, 3) in place, from the world landmarks kept within human proportions."""
    scale = unit / 0.36  # px a metre: 0.36 m is the mean distance of MediaPipe's shoulders
    for bone, ordinary in ((0, UPPER_ARM * unit), (1, FOREARM * unit)):
        flat = float(np.linalg.norm(arm[bone + 1, :2] - arm[bone, :2]))
        depth = float(world[bone + 1, 2] - world[bone, 2]) * scale if np.isfinite(world).all() else -0.3 * ordinary
        low = np.sqrt(max((0.85 * ordinary) ** 2 - flat**2, 0.0))
        high = np.sqrt(max((1.1 * ordinary) ** 2 - flat**2, 0.0))
        # Arms of someone who talks are in front of the body: without a sign the bone comes towards the camera.
        depth = (1.0 if depth > 0 else -1.0) * float(np.clip(abs(depth), low, high))
        arm[bone + 1, 2] = arm[bone, 2] + depth


def _lift_hand(points: Array, depth: NDArray[np.float32], world: NDArray[np.float32], wrist: Array) -> PhotoHand:
    lifted = np.zeros((21, 3))
    lifted[:, :2] = points - wrist[:2]
    flat = points - points.mean(0)
    if np.isfinite(world).all():
        metres = world.astype(np.float64) - world.mean(0)
        # The scale by sizes, not by least squares: the two are turned against each other in difficult poses.
        scale = np.sqrt((flat**2).sum() / max((metres[:, :2] ** 2).sum(), 1e-12))
        lifted[:, 2] = (metres[:, 2] - metres[0, 2]) * scale
    else:
        lifted[:, 2] = depth - depth[0]
    # A hand is no deeper than it is large.
    size = max(float(np.ptp(flat, axis=0).max()), 1e-6)
    lifted[:, 2] *= min(1.0, size / max(float(np.ptp(lifted[:, 2])), 1e-6))
    return PhotoHand(lifted)


def _hand_outline(joints: Array, hand: PhotoHand | None, unit: float) -> Array:
    """Image points (N, 2) that a hand covers; a hand that was not found is guessed along the forearm."""
    if hand is not None:
        return joints[2, :2] + hand.points[:, :2]
    forearm = joints[2, :2] - joints[1, :2]
    return joints[2, :2] + forearm / max(float(np.linalg.norm(forearm)), 1e-6) * np.linspace(0, 0.4 * unit, 8)[:, None]


def _on_hip(joints: Array, side: int, unit: float) -> bool:
    """Whether an arm is akimbo: the elbow well outside of both shoulder and wrist, the hand low."""
    outward = np.sign(joints[side, 0, 0] - joints[1 - side, 0, 0])
    out, back = (outward * (joints[side, 1, 0] - joints[side, end, 0]) / unit for end in (0, 2))
    low = (joints[side, 2, 1] - joints[side, 0, 1]) / unit
    return bool(out > 0.2 and back > 0.15 and low > 1.1)


def _clasped(joints: Array, hands: list[PhotoHand | None], reach: Array, unit: float) -> bool:
    if reach.min() < HELD or (hands[0] is None and hands[1] is None):
        return False
    left, right = (_hand_outline(joints[side], hands[side], unit) for side in (0, 1))
    return bool(np.linalg.norm(left[:, None] - right[None], axis=-1).min() < TOUCHING * unit)


def _room(
    points: Array,
    joints: Array,
    hands: list[PhotoHand | None],
    side: int,
    size: tuple[int, int],
    unit: float,
    reach: Array,
    clasped: bool,
) -> Array:
    """Travel of a wrist (2 axes, 2 ways) in px that keeps the hand in the picture, off the face and the other hand."""
    if reach[side] < HELD:
        return np.array([[-0.04, 0.04], [-0.03, 0.04]]) * unit
    outline = _hand_outline(joints[side], hands[side], unit)
    low, high = outline.min(0), outline.max(0)
    border = np.array(size) - MARGIN * unit
    left, top = low - MARGIN * unit
    right, bottom = border - high

    # Upwards as far as the chin, beside the head as far as the eyes.
    face = points[FACE]
    beside = max(low[0] - face[:, 0].max(), face[:, 0].min() - high[0]) / unit
    chin, eyes = face[152, 1], face[[33, 263], 1].mean()
    ceiling = chin + (eyes - chin) * np.clip((beside - 0.3) / 0.4, 0, 1)
    top = min(top, low[1] - ceiling - MARGIN * unit)

    # Inwards as far as the other hand at the same height leaves room, else a little across the middle.
    outward = 1.0 if joints[side, 0, 0] >= joints[1 - side, 0, 0] else -1.0
    inward = outward * (joints[side, 2, 0] - joints[:, 0, 0].mean()) + 0.3 * unit
    if reach[1 - side] >= HELD and not clasped:
        other = _hand_outline(joints[1 - side], hands[1 - side], unit)
        gap = low[0] - other[:, 0].max() if outward > 0 else other[:, 0].min() - high[0]
        inward = min(inward, gap / 2 + 0.03 * unit)
    if outward > 0:
        left = min(left, inward)
    else:
        right = min(right, inward)
    least = 0.02 * unit  # breathing, even where there is no room
    return np.array([[-max(left, least), max(right, least)], [-max(top, least), max(bottom, least)]])
