"""A drawn half-body figure and a motion for it, for tests of what moves people."""

import cv2
import numpy as np

from pose.keypoints import COUNT, FACE, FINGERS, LEFT_HAND, RIGHT_HAND, Keypoints


def hand_points(wrist: tuple[float, float], side: int) -> np.ndarray:
    """An open hand (21, 2) pointing outwards and up from the wrist."""
    points = np.zeros((21, 2), np.float32)
    points[0] = wrist
    for finger, angle in zip(FINGERS, (-1.1, -0.5, -0.2, 0.1, 0.4), strict=True):
        direction = np.array([side * np.cos(angle - 0.4), np.sin(angle - 0.4)])
        for n, index in enumerate(finger):
            points[index] = wrist + direction * (16 + 9 * n)
    return points


def figure(height: int, width: int, hands: bool = True, elbows: bool = True):
    """A drawn half-body figure: image, keypoints, depth, matte."""
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), (90, 120, 100), np.uint8)
    image[:, :: max(width // 12, 8)] = (60, 60, 80)
    matte = np.zeros((height, width), np.uint8)
    cx, top = width / 2, 0.16 * height
    unit = 0.32 * min(width, height)
    points = np.zeros((COUNT, 2), np.float32)
    confidence = np.zeros(COUNT, np.float32)
    points[0] = (cx, top)
    points[5], points[6] = (cx + unit / 2, top + 0.75 * unit), (cx - unit / 2, top + 0.75 * unit)
    points[11], points[12] = (cx + unit / 3, top + 2.2 * unit), (cx - unit / 3, top + 2.2 * unit)
    points[7], points[8] = points[5] + [0.15 * unit, 0.75 * unit], points[6] + [-0.15 * unit, 0.75 * unit]
    points[9], points[10] = points[7] + [0.25 * unit, -0.45 * unit], points[8] + [-0.25 * unit, -0.45 * unit]
    points[LEFT_HAND] = hand_points(points[9], 1)
    points[RIGHT_HAND] = hand_points(points[10], -1)
    known = [0, 5, 6, 11, 12] + ([7, 8, 9, 10] if elbows else [])
    confidence[known] = 1
    if hands and elbows:
        confidence[LEFT_HAND], confidence[RIGHT_HAND] = 1, 1

    def draw(a, b, thick, colour):
        ends = [tuple(int(v) for v in p) for p in (a, b)]
        cv2.line(image, ends[0], ends[1], colour, int(thick))
        cv2.line(matte, ends[0], ends[1], 255, int(thick))

    body = np.array(
        [points[5] + [8, -6], points[6] - [8, 6], (cx - unit / 2, height), (cx + unit / 2, height)], np.int32
    )
    cv2.fillConvexPoly(image, body, (150, 60, 60))
    cv2.fillConvexPoly(matte, body, 255)
    draw((cx, top), (cx, top + 0.8 * unit), 0.3 * unit, (200, 160, 130))
    for canvas, colour in ((image, (210, 170, 140)), (matte, 255)):
        cv2.ellipse(canvas, (int(cx), int(top)), (int(0.28 * unit), int(0.38 * unit)), 0, 0, 360, colour, -1)
    for a, b, c, part in ((5, 7, 9, LEFT_HAND), (6, 8, 10, RIGHT_HAND)):
        draw(points[a], points[b], 0.2 * unit, (170, 80, 80))
        draw(points[b], points[c], 0.15 * unit, (205, 165, 135))
        for finger in FINGERS:
            for i, j in zip((0, *finger), finger, strict=False):
                draw(points[part][i], points[part][j], 5, (205, 165, 135))
    image = np.clip(image.astype(int) + rng.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)
    keypoints = Keypoints(points[None], confidence[None], (height, width))
    depth = np.zeros(COUNT, np.float32)
    return image, keypoints, depth, matte.astype(np.float32) / 255


def driven(reference: Keypoints, frames: int = 5, amount: float = 1.0) -> Keypoints:
    """Arms that swing about shoulder and elbow, the head nodding sideways; frame 0 at rest."""
    points = np.repeat(reference.points, frames, 0).astype(np.float64)
    for f in range(frames):
        angle = amount * 0.3 * np.sin(f * 0.9)
        for shoulder, elbow, wrist, hand, sign in ((5, 7, 9, LEFT_HAND, 1), (6, 8, 10, RIGHT_HAND, -1)):
            for centre, turn in ((shoulder, sign * angle), (elbow, 1.5 * sign * angle)):
                c, s = np.cos(turn), np.sin(turn)
                rotate = np.array([[c, -s], [s, c]])
                chain = [wrist, *range(hand.start, hand.stop)] + ([elbow] if centre == shoulder else [])
                points[f, chain] = points[f, centre] + (points[f, chain] - points[f, centre]) @ rotate.T
        points[f, [0, *range(FACE.start, FACE.stop)]] += [6 * amount * np.sin(f * 0.7), 0]
    confidence = np.repeat(reference.confidence, frames, 0)
    return Keypoints(points.astype(np.float32), confidence, reference.size, 25.0)
