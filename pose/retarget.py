"""Motion onto the body in a photo: 3D motion or another person's keypoints to the keypoints that drive the warp.

Letters: F frames, S = 2 sides (left, right: the person's own).

Every stream starts in the photo itself, exactly, and moves away from it by what the motion has changed since its own
first frame. For the arms that is the travel of the wrists, scaled by arm length; the larger the gesture, the more
its own place in space counts instead of the photo's (HOLD), so that a photo with raised hands does not raise them into
the face. Inverse kinematics gives the elbows. Then limits: hands stay in the picture, below the chin, apart or
together as they were, and bones keep the lengths that a picture can show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pose.arm_limits import ArmPose, fit_picture, soft_limit, two_bone
from pose.body_signals import BodySignals, MotionReader, limited_rotation
from pose.driving import DrivingReader
from pose.face_rig import FaceRig
from pose.hand_shape import HandShape, picture_turn
from pose.idle import smoothstep
from pose.keypoints import FACE, HANDS, Detection, Keypoints
from pose.motion import EXPRESSION_NAMES, Motion
from pose.photo_body import MARGIN, PhotoBody, measure
from pose.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from pose.signal_stream import Drift, blocks, smoothed

Array = NDArray[np.float64]

ARMS = slice(7, 65)  # elbows to fingertips in the layout of keypoints (and hips, knees, feet, which stand still)
BLOCK = 25  # frames computed at a time, counted from the start: results do not depend on how a stream is cut
HOLD, HOLD_REACH = 0.3, 0.4  # least weight of the photo's place of a hand; arm lengths over which it gives way
HOLD_DRIVEN = 0.15  # the same when a video leads: its poses are wanted, not only its movements
STEADY = 0.8  # frames, the standard deviation of the window that smooths arms: 70 sw/s² become 40, strokes stay
START_S = 0.6  # over which the departure from the photo grows from nothing
FACE_START_S = 0.3
ELBOW_SHARE = 0.8  # of the motion's elbow travel that leads the elbow; the wrist decides (chosen by hand)
CHEST_LIMIT = (0.06, 0.03)  # shoulder widths that the shoulders may travel across and along the picture
ROLL_LIMIT, SHRUG_LIMIT = 0.08, 0.05  # radians; shoulder widths
HEAD_LIMIT = 0.28  # radians: beyond it a photo lacks the other side of the face
FREE_REACH = 0.6  # reach from which a hand turns as it likes
HAND_SHARE = 0.7  # of the motion's hand turns: the photo's hand seldom starts as the motion's does
BREATH_S, BREATH = 4.2, 0.005  # a calm breath, in and out; shoulder widths that the shoulders rise
EARS = {3: 454, 4: 234}  # body point: the mesh point that it follows
EYES_AND_NOSE = {0: 4, 1: 473, 2: 468}


class Retargeter:
    """Moves the person of one photo; `stream` for 3D motion, `stream_driving` for another person's keypoints."""

    def __init__(self, detection: Detection, fps: float = 25.0) -> None:
        self.fps = fps
        self.body: PhotoBody = measure(detection)
        self._photo = detection.keypoints.points[0]
        self._confidence = detection.keypoints.confidence[0]
        self._size = detection.keypoints.size
        self._shapes = [HandShape(hand, side) if hand else None for side, hand in enumerate(self.body.hands)]
        # Hands that rest on something or hold each other keep their shape.
        self._hand_freedom = np.clip(self.body.reach / FREE_REACH, 0, 1) * (not self.body.clasped)
        self._face = None
        self._face_depth = detection.depth[0, FACE].astype(np.float64)
        if self._confidence[FACE].min() > 0:
            self._face = FaceRig(self._photo[FACE], detection.depth[0, FACE])

    def stream(self, motions: Iterable[Motion]) -> Iterator[Keypoints]:
        """Keypoints for a motion in chunks, as many frames as it has; the first frame is the photo.

        ValueError when a chunk has another frame rate or its skeleton is not known.
        """
        yield from self._steadied(self._run(self._signals(motions, MotionReader()), Drift(self.fps), driven=False))

    def stream_driving(self, driving: Iterable[Keypoints]) -> Iterator[Keypoints]:
        """Keypoints led by those of another person, in a picture of any size; the first frame is the photo.

        The arms go by proportion to where the driver has them, head and face follow the driver's. What the driver does
        not show rests. ValueError when the driving keypoints have another frame rate.
        """
        face = None if self._face is None else self._photo[FACE].astype(np.float64)
        reader = DrivingReader(face, self._face_depth, self.body.arms, self.fps)
        yield from self._run(reader.read(driving, BLOCK), Drift(self.fps, stance_only=True), driven=True)

    def _signals(self, motions: Iterable[Motion], reader: MotionReader) -> Iterator[BodySignals]:
        for motion in motions:
            if abs(motion.fps - self.fps) > 1e-3:
                raise ValueError(
                    f"the motion has {motion.fps} fps, the video {self.fps}; use motion.resampled({self.fps})"
                )
            if len(motion):
                yield reader.read(motion)

    def _run(self, signals: Iterator[BodySignals], drift: Drift, driven: bool) -> Iterator[Keypoints]:
        first: BodySignals | None = None
        start = 0
        for block in blocks(signals, BLOCK):
            block = drift.removed(block)
            first = first if first is not None else block[:1]
            yield self._keypoints(block, first, start, driven)
            start += len(block)

    def _steadied(self, parts: Iterator[Keypoints]) -> Iterator[Keypoints]:
        """The same with arms and hands smoothed, so that recorded motion keeps to what clean recordings do."""
        waiting: list[Array] = []

        def rows() -> Iterator[Array]:
            for part in parts:
                waiting.extend(part.points)
                yield from part.points[:, ARMS].reshape(len(part), -1).astype(np.float64)

        done: list[Array] = []
        for number, row in enumerate(smoothed(rows(), STEADY)):
            points = waiting.pop(0)
            if number:
                points[ARMS] = row.reshape(-1, 2)
            done.append(points)
            if len(done) == BLOCK:
                yield self._packed(np.stack(done))
                done = []
        if done:
            yield self._packed(np.stack(done))

    def _packed(self, points: Array) -> Keypoints:
        confidence = np.tile(self._confidence, (len(points), 1))
        return Keypoints(points.astype(np.float32), confidence, self._size, self.fps)

    def _keypoints(self, signals: BodySignals, first: BodySignals, start: int, driven: bool) -> Keypoints:
        """Frames `start`… of the video from their signals; `first` is the first frame of the stream."""
        body, frames = self.body, len(signals)
        time = (start + np.arange(frames)) / self.fps
        departure = smoothstep(time / START_S)
        points = np.tile(self._photo.astype(np.float64), (frames, 1, 1))

        # 1. Torso: the shoulders sway, lean, shrug and breathe; the hips stay.
        breath = -BREATH * body.unit * (1 - np.cos(2 * np.pi * time / BREATH_S)) / 2
        chest = soft_limit(signals.chest - first.chest, -np.array(CHEST_LIMIT), np.array(CHEST_LIMIT))
        chest = chest * departure[:, None] * body.unit
        roll = soft_limit(signals.roll - first.roll, -ROLL_LIMIT, ROLL_LIMIT) * departure
        shrug = soft_limit(signals.shrug - first.shrug, -SHRUG_LIMIT, SHRUG_LIMIT) * departure[:, None] * body.unit
        shoulders = body.neck + chest[:, None] + turned(body.joints[:, 0, :2] - body.neck, roll[:, None])
        shoulders[..., 1] += shrug + breath[:, None]
        points[:, 5:7] = shoulders

        # 2. Head: on the torso, turned by the motion.
        points[:, FACE] = self._face_points(signals, first, time, departure)
        moved = points[:, FACE] - self._photo[FACE]
        for body_point, mesh_point in (EARS | EYES_AND_NOSE).items():
            points[:, body_point] += moved[:, mesh_point]
        head = chest.copy()
        head[:, 1] += 0.7 * breath + shrug.mean(1)
        for part in (slice(0, 5), FACE):
            points[:, part] = head[:, None] + body.neck + turned(points[:, part] - body.neck, roll[:, None])

        # 3. Arms and hands; where a turning hand would leave the picture, the arm takes it back in.
        elbow, wrist = self._arm_targets(signals, first, departure, shoulders, driven)
        turn = body.turn @ self._hand_turns(signals, first, departure) @ body.turn.T
        bend = (signals.flexion - first.flexion) * (departure[:, None] * self._hand_freedom)[..., None, None]
        arms = fit_picture(shoulders, body.joints, elbow, wrist, body.unit)
        arms, hands = self._hands(arms, turn, bend)
        back = self._overflow(arms, hands)
        if body.clasped:
            # Both hands go where the two arms agree.
            travel = (arms.wrist - body.joints[:, 2, :2]).mean(1, keepdims=True) + back.mean(1, keepdims=True)
            arms = ArmPose(arms.elbow, body.joints[:, 2, :2] + travel, np.zeros_like(arms.turn))
        else:
            arms = fit_picture(shoulders, body.joints, elbow, wrist + back, body.unit)
        arms, hands = self._hands(arms, turn, bend)
        points[:, 7:9], points[:, 9:11] = arms.elbow, arms.wrist
        for side, part in enumerate(HANDS.values()):
            points[:, part] = arms.wrist[:, side, None] + hands[side]

        if start == 0:
            points[0] = self._photo
        return self._packed(points)

    def _face_points(self, signals: BodySignals, first: BodySignals, time: Array, departure: Array) -> Array:
        if self._face is None:
            return np.tile(self._photo[FACE].astype(np.float64), (len(signals), 1, 1))
        head = limited_rotation(signals.head @ np.swapaxes(first.head, -1, -2), HEAD_LIMIT)
        head = scaled_rotation(head, departure)
        expression = signals.expression
        if signals.mesh is not None:
            expression = np.zeros((len(signals), len(EXPRESSION_NAMES)), np.float32)
        begun = smoothstep(time / FACE_START_S)
        face = self._face.points(expression, head.astype(np.float32), begun.astype(np.float32)).astype(np.float64)
        if signals.mesh is not None:
            # Image axes have y down: a turn to the left on the screen is one clockwise in them.
            in_plane = -np.arctan2(head[:, 1, 0] - head[:, 0, 1], head[:, 0, 0] + head[:, 1, 1])
            face += begun[:, None, None] * turned(signals.mesh, in_plane[:, None])
        return face

    def _arm_targets(
        self, signals: BodySignals, first: BodySignals, departure: Array, shoulders: Array, driven: bool
    ) -> tuple[Array, Array]:
        """Where elbows and wrists should be, (F, 2, 2) px each."""
        body = self.body
        lengths, own = body.bones, body.arms
        arm = lengths.sum(1)
        freedom = departure[:, None, None] * body.reach[:, None]

        travel = signals.wrist - first.wrist
        size = np.linalg.norm(travel, axis=-1, keepdims=True)
        hold = HOLD + (1 - HOLD) * np.exp(-((size / HOLD_REACH) ** 2))
        if driven:
            hold = np.full_like(size, HOLD_DRIVEN)
        travel = (travel + (hold - 1) * (own[:, 1] - first.wrist)) * freedom
        if body.clasped:
            travel = np.broadcast_to(travel.mean(1, keepdims=True), travel.shape)
        shift = np.concatenate([shoulders - body.joints[:, 0, :2], np.zeros((*shoulders.shape[:2], 1))], -1)
        step = travel * arm[:, None] @ body.turn.T
        low, high = body.room[..., 0], body.room[..., 1]
        step[..., :2] = soft_limit(step[..., :2], low, high)
        wrist = body.joints[:, 2] + shift + step

        hint = ELBOW_SHARE * (signals.elbow - first.elbow) * freedom * arm[:, None] @ body.turn.T
        hint = body.joints[:, 1] + shift + hint
        shoulder = body.joints[:, 0] + shift
        elbow, wrist = two_bone(shoulder, wrist, hint, lengths[:, 0], lengths[:, 1])
        return elbow[..., :2], wrist[..., :2]

    def _hand_turns(self, signals: BodySignals, first: BodySignals, departure: Array) -> Array:
        share = HAND_SHARE * departure[:, None] * self._hand_freedom
        return scaled_rotation(signals.hand @ np.swapaxes(first.hand, -1, -2), share)

    def _hands(self, arms: ArmPose, rotation: Array, bend: Array) -> tuple[ArmPose, list[Array]]:
        """The hands' points relative to the wrists, (F, 21, 2) for each side."""
        hands = []
        for side, (part, shape) in enumerate(zip(HANDS.values(), self._shapes, strict=True)):
            forearm = arms.turn[:, side]
            if shape is None:
                resting = self._photo[part] - self.body.joints[side, 2, :2]
                hands.append(turned(np.tile(resting, (len(forearm), 1, 1)), forearm[:, None]))
                continue
            in_plane, tilt = picture_turn(rotation[:, side], forearm)
            hands.append(shape.points(in_plane, tilt, bend[:, side]))
        return arms, hands

    def _overflow(self, arms: ArmPose, hands: list[Array]) -> Array:
        """(F, 2, 2) px by which hands must go back to be in the picture as much as they were in the photo."""
        border = np.array([self._size[1], self._size[0]], np.float64)
        margin = MARGIN * self.body.unit
        back = np.zeros((len(arms.wrist), 2, 2))
        for side, (part, hand) in enumerate(zip(HANDS.values(), hands, strict=True)):
            if self._shapes[side] is None:
                continue
            low = np.minimum(self._photo[part].min(0), margin)
            high = np.maximum(self._photo[part].max(0), border - margin)
            place = arms.wrist[:, side, None] + hand
            back[:, side] = hinge(low - place.min(1), margin) - hinge(place.max(1) - high, margin)
        return back


def hinge(value: Array, width: float) -> Array:
    """0 for negative values, then rising smoothly to the line value - width / 2."""
    inside = np.clip(value, 0, width)
    return inside**2 / (2 * width) + np.maximum(value - width, 0)


def turned(vectors: Array, angle: Array) -> Array:
    """Vectors (..., 2) turned by angles (...) clockwise in the image."""
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], -1)


def scaled_rotation(rotation: Array, share: Array) -> Array:
    """Rotations (..., 3, 3) with their angles multiplied by `share` (...)."""
    return axis_angle_to_matrix(matrix_to_axis_angle(rotation) * share[..., None])
