"""Keypoints of another person, as a video gives them, to the signals of retargeting.

Letters: F frames, D numbers a frame. What is not seen is filled in: short gaps along a straight line, for the rest an
arm returns to where the photo has it and everything else is held. What jitters is smoothed without delay, by looking
AHEAD frames into the future; so the memory does not grow with the video.

The face goes over as a mesh: the driving face is laid on the photo's face by a scaled turn in space, which gives the
turn of the head, and what is left over is the expression, measured from the driver's own face with the mouth closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pose.body_signals import TO_IMAGE, BodySignals
from pose.face_rig import FaceRig
from pose.keypoints import FACE, FINGERS, HANDS, Keypoints
from pose.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from pose.signal_stream import look_ahead, smoothed

Array = NDArray[np.float64]

SEEN = 0.5  # confidence from which a body point counts
ARM = 1.53  # an arm in shoulder widths, as in the home skeleton
RETURN_S = 1.0  # the time in which an arm that is out of sight returns to where the photo has it
AHEAD = 12  # frames: gaps up to this long are bridged
# Standard deviation of the smoothing window in frames: jitter of detection goes, beats stay; of the face, blinks stay.
SMOOTH, SMOOTH_FACE = 1.2, 0.6
SCALE_S = 4.0  # shoulder width and distance of the driver follow the video this slowly
JUMP = 0.5  # arm lengths in one frame that no wrist travels: a mistaken detection
# Finger lengths, knuckle to tip, in palms (wrist to middle knuckle), from the home skeleton.
FINGER_LENGTHS = np.array([0.95, 0.97, 1.07, 1.0, 0.79])
CLOSED = 1.6  # radians that the bones of a finger are bent when it looks as short as a fist's
# Mesh points that move with the skull: forehead, temples, bridge of the nose, eye corners.
SKULL = [10, 338, 297, 332, 284, 251, 109, 67, 103, 54, 21, 162, 127, 356, 234, 454, 168, 6, 197, 195, 5, 4, 33, 133,
         362, 263, 9, 8, 107, 336, 98, 327]  # fmt: skip

# The columns of a frame's numbers.
CHEST, ROLL = slice(0, 2), 2
WRIST, ELBOW = slice(3, 7), slice(7, 11)
TURN = slice(11, 15)  # cosine and sine for each hand
FLEXION, HEAD, MESH = slice(15, 25), slice(25, 28), slice(28, 28 + 956)
COLUMNS = MESH.stop


class DrivingReader:
    """Reads one driving video for the person in a photo.

    `face`, `depth` (478, 2), (478,): the photo's face, None when it has none. `arms` (2, 2, 3): the photo's elbows and
    wrists in arm lengths from the shoulder, whose depth the arms keep: a video does not show it.
    """

    def __init__(self, face: Array | None, depth: Array, arms: Array, fps: float) -> None:
        self._fps = fps
        self._arms = arms
        self._shape = None if face is None else np.column_stack([face, depth]).astype(np.float64)
        self._width: float | None = None
        self._middle: Array | None = None
        self._last_wrists = np.full((2, 2), np.nan)
        self._neutral: Array | None = None

    def read(self, parts: Iterable[Keypoints], size: int) -> Iterator[BodySignals]:
        """Signals in chunks of `size` frames."""
        rows: list[Array] = []
        deviation = np.full(COLUMNS, SMOOTH)
        deviation[MESH] = SMOOTH_FACE
        for row in smoothed(self._filled(self._raw(parts)), deviation):
            rows.append(row)
            if len(rows) == size:
                yield self._signals(np.stack(rows))
                rows = []
        if rows:
            yield self._signals(np.stack(rows))

    def _raw(self, parts: Iterable[Keypoints]) -> Iterator[Array]:
        waiting: list[tuple[Array, NDArray[np.float32]]] = []
        for part in parts:
            if part.fps is not None and abs(part.fps - self._fps) > 1e-3:
                raise ValueError(f"the driving video has {part.fps} fps, the output {self._fps}; read it at that rate")
            for frame in zip(part.points.astype(np.float64), part.confidence, strict=True):
                waiting.append(frame)
                if self._neutral is None and len(waiting) <= AHEAD:
                    continue
                self._find_neutral(waiting)
                for points, confidence in waiting:
                    yield self._measured(points, confidence)
                waiting = []
        self._find_neutral(waiting)
        for points, confidence in waiting:
            yield self._measured(points, confidence)

    def _find_neutral(self, frames: list[tuple[Array, NDArray[np.float32]]]) -> None:
        """The driver's own face with the mouth closed, from the frame whose eyes are widest open."""
        faces = [points[FACE] for points, confidence in frames if confidence[FACE].min() > 0]
        if self._neutral is not None or self._shape is None or not faces:
            return
        face = max(faces, key=lambda f: np.linalg.norm(f[159] - f[145]) + np.linalg.norm(f[386] - f[374]))
        depth = self._shape[:, 2] * np.linalg.norm(face[33] - face[263])
        depth = depth / np.linalg.norm(self._shape[33, :2] - self._shape[263, :2])
        rig = FaceRig(face.astype(np.float32), depth.astype(np.float32))
        closed = rig.points(np.zeros((1, 51), np.float32))[0].astype(np.float64)
        # Laid on as the face was seen: closing the mouth must not nod.
        self._neutral = laid_on(self._shape, face, closed)[1]

    def _measured(self, points: Array, confidence: NDArray[np.float32]) -> Array:
        """The numbers of one frame, NaN where something is not seen."""
        row = np.full(COLUMNS, np.nan)
        if min(confidence[5], confidence[6]) >= SEEN:
            line = points[5] - points[6]
            width = float(np.linalg.norm(line))
            pace = 1 / (SCALE_S * self._fps)
            self._width = width if self._width is None else self._width + pace * (width - self._width)
            scale = max(self._width, 1.0)
            middle = (points[5] + points[6]) / 2
            self._middle = middle if self._middle is None else self._middle
            row[CHEST] = (middle - self._middle) / scale
            row[ROLL] = np.arctan2(line[1], line[0])
            for side in (0, 1):
                shoulder, elbow, wrist = points[[5 + side, 7 + side, 9 + side]]
                if confidence[7 + side] >= SEEN:
                    row[ELBOW.start + 2 * side :][:2] = (elbow - shoulder) / (ARM * scale)
                if confidence[9 + side] >= SEEN:
                    place = (wrist - shoulder) / (ARM * scale)
                    jump = np.linalg.norm(place - self._last_wrists[side])
                    self._last_wrists[side] = place
                    if not jump > JUMP:  # the first one compares with NaN
                        row[WRIST.start + 2 * side :][:2] = place
        for side, part in enumerate(HANDS.values()):
            if confidence[part].min() <= 0:
                continue
            hand = points[part]
            palm = hand[9] - hand[0]
            length = max(float(np.linalg.norm(palm)), 1e-6)
            row[TURN.start + 2 * side :][:2] = palm / length
            tips = np.array([np.linalg.norm(hand[finger[3]] - hand[finger[0]]) for finger in FINGERS])
            row[FLEXION.start + 5 * side :][:5] = CLOSED * (1 - np.clip(tips / (length * FINGER_LENGTHS), 0, 1))
        if self._shape is not None and self._neutral is not None and confidence[FACE].min() > 0:
            turn, mesh = laid_on(self._shape, points[FACE])
            row[HEAD] = matrix_to_axis_angle(turn)
            row[MESH] = (mesh - self._neutral).ravel()
        return row

    def _filled(self, rows: Iterable[Array]) -> Iterator[Array]:
        """Rows without NaN."""
        rest = np.zeros(COLUMNS)
        rest[ELBOW], rest[WRIST] = self._arms[:, 0, :2].ravel(), self._arms[:, 1, :2].ravel()
        rest[TURN] = (0, 1, 0, 1)
        returning = np.zeros(COLUMNS, bool)
        returning[WRIST] = returning[ELBOW] = True
        current: Array | None = None
        for window in look_ahead(rows, AHEAD):
            known = ~np.isnan(window)  # (frames from now on, D)
            wait = np.where(known.any(0), known.argmax(0), -1)
            target = np.take_along_axis(window, np.maximum(wait, 0)[None], 0)[0]
            if current is None:
                current = np.where(wait >= 0, target, rest)
            else:
                bridge = current + (target - current) / (wait + 1)
                lost = np.where(returning, current + (rest - current) / (RETURN_S * self._fps), current)
                current = np.where(wait >= 0, bridge, lost)
            yield current

    def _signals(self, rows: Array) -> BodySignals:
        frames = len(rows)

        def arms(columns: slice, joint: int) -> Array:
            depth = np.broadcast_to(self._arms[:, joint, 2:], (frames, 2, 1))
            return np.concatenate([rows[:, columns].reshape(frames, 2, 2), depth], -1)

        turn = rows[:, TURN].reshape(frames, 2, 2)
        angle = np.arctan2(turn[..., 1], turn[..., 0])
        flexion = rows[:, FLEXION].reshape(frames, 2, 5, 1) * np.array([0.5, 1.0, 1.0])
        head = TO_IMAGE @ axis_angle_to_matrix(rows[:, HEAD]) @ TO_IMAGE
        return BodySignals(
            wrist=arms(WRIST, 1),
            elbow=arms(ELBOW, 0),
            hand=axis_angle_to_matrix(angle[..., None] * np.array([0.0, 0.0, 1.0])),
            flexion=flexion,
            chest=rows[:, CHEST],
            roll=rows[:, ROLL],
            shrug=np.zeros((frames, 2)),
            head=head,
            mesh=None if self._shape is None else rows[:, MESH].reshape(frames, 478, 2),
        )


def laid_on(shape: Array, face: Array, moved: Array | None = None) -> tuple[Array, Array]:
    """The turn (3, 3) that lays a face in space, `shape` (478, 3), on a picture of a face (478, 2) by the skull.

    And the picture's points brought back onto the shape's picture, (478, 2) in the shape's pixels: scale, place and
    turn in the picture undone, what the turn in depth explains taken away. `moved`: bring these points back instead.
    """
    centre, middle = shape[SKULL].mean(0), face[SKULL].mean(0)
    model, seen = shape - centre, face - middle
    # Best affine picture of the shape; depth is damped, as frontal faces tell little of it.
    damped = model[SKULL].T @ model[SKULL] + np.diag([0, 0, 0.02]) * (model[SKULL] ** 2).sum()
    affine = np.linalg.solve(damped, model[SKULL].T @ seen[SKULL]).T  # (2, 3)
    u, size, v = np.linalg.svd(affine, full_matrices=False)
    rows = u @ v
    scale = float(size.mean())
    turn = np.stack([rows[0], rows[1], np.cross(rows[0], rows[1])])
    left = ((face if moved is None else moved) - middle) / scale - (model @ turn.T)[:, :2]
    angle = np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])
    cosine, sine = np.cos(angle), np.sin(angle)
    back = left @ np.array([[cosine, -sine], [sine, cosine]])
    return turn, model[:, :2] + back
