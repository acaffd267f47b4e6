"""The whole gesture suite of one file: which measure gets which numbers of a motion on the home skeleton.

Letters: F frames, N samples at 16 kHz, W windows, J joints.

Measures that were published for other bodies are given the home skeleton's joints of the same place: values are right
by their definition and comparable among motions measured here, not with tables of SMPL-X or TED. Every measure that a
file has no value for is named with the reason; nothing is counted as 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pose.acoustics import SAMPLE_RATE
from pose.metrics import beats, control, diversity, face, recall, smoothness
from pose.metrics.arrays import Double
from pose.metrics.direction_beats import FRAMES as DIRECTION_FRAMES
from pose.metrics.direction_beats import window_scores
from pose.metrics.extractors import BlendshapeEncoder
from pose.metrics.gesture_features import GestureFeatures, motion_windows
from pose.motion import Motion, expression_index
from pose.representations.directions import DirectionVectors
from pose.representations.joints import BEAT_JOINTS, SMPLX_JOINTS, JointVectors

Array = NDArray[np.float32]

BODY_FPS, WINDOW_FPS, FACE_FPS = 30.0, 15.0, 60.0
SLOWEST = 1e-3  # m/s: the mean speed of a joint that hardly moves, for divisions
# Frames between the windows of faces, where SAiD takes every frame: neighbours share 119 of 120 frames, and the
# encoder would cost more than everything else together.
FACE_STEP = 15


@dataclass(frozen=True)
class Measure:
    """A column: `better` is "low", "high", "true" (nearest to the ground truth) or "" (a description)."""

    name: str
    unit: str
    better: str
    digits: int = 3
    definition: str = ""


_BEATS = "mean over audio beats of exp(-t²/2σ²), t s to the nearest motion beat: "
# FGD and latent diversity are of many files together; infer/gesture_report.py adds them with the extractor's name.
MEASURES = (
    Measure("BeatAlign beat_v1", "", "true", 3, _BEATS + "minima of a ring finger's Euler speed, σ .3, 10 to 500 s, "
            "as released with its clock at 22050 Hz"),
    Measure("BeatAlign beat_v1_corrected", "", "true", 3, "the same of the right wrist, whole files, the true clock"),
    Measure("BC emage_2024", "", "true", 3, _BEATS + "minima of the speed of 13 upper joints over its mean, above .3, "
            "σ .3; fails on a joint without beats"),
    Measure("BC emage_evaltools", "", "true", 3, "the same above .10; a joint without beats counts 0"),
    Measure("BC ours", "", "true", 3, "the same, the threshold asked at the minimum, joints without beats left out"),
    Measure("BC talkshow", "", "true", 3, _BEATS + "minima of four arm angles' change, σ .1"),
    Measure("BC diffgesture_ted", "", "true", 3, _BEATS + "minima of TED's bone angles' change in windows of 34 "
            "frames at 15 fps, σ .1"),
    Measure("BC diffgesture_expressive", "", "true", 3, "the same of 41 angles with fingers, threshold .001"),
    Measure("BC said", "", "true", 3, _BEATS + "minima of 32 face coefficients' change at 60 fps, σ .1"),
    Measure("speech-hands correlation", "", "high", 3, "largest of loudness and wrist speed within 1.5 s"),
    Measure("speech-hands lag", "s", "true", 3, "where that is; positive where the hands are late"),
    Measure("speech-mouth correlation", "", "high", 3, "largest of loudness and jaw opening within 1.5 s"),
    Measure("speech-mouth lag", "s", "true", 3, "where that is; positive where the mouth is late"),
    Measure("L1div beat", "deg", "true", 1, "sum over 141 Euler angles of |x - mean|, mean over frames"),
    Measure("L1div emage", "m", "true", 2, "the same of 165 joint coordinates"),
    Measure("SRGR beat_v1", "", "high", 3, "joints with an L1 error under 4°, times semantic score / .165"),
    Measure("SRGR emage_evaltools", "", "high", 3, "joints with an L2 error under 4°, every frame alike"),
    Measure("PCK beat", "", "high", 3, "joints with an L2 error under .5 of the true clip's deviation"),
    Measure("MSE", "deg2", "low", 1, "of 141 Euler angles"),
    Measure("LVD talkshow", "m", "low", 4, "difference of 22 joints' speeds a frame, summed"),
    Measure("jerk", "m/s3", "true", 1, "length of the third derivative of 75 joints, relative to the hips"),
    Measure("jitter", "100 m/s3", "true", 3, "the same in TransPose's unit"),
    Measure("acceleration", "m/s2", "true", 2, "length of the second derivative"),
    Measure("foot sliding", "cm/s", "low", 2, "horizontal speed of feet within 3 cm of their lowest place"),
    Measure("hand sliding", "cm/s", "true", 2, "speed of one palm against the other within 10 cm"),
    Measure("range of motion", "deg", "true", 1, "twice the 95th percentile of a joint's angle from its mean"),
    Measure("gesture space", "l", "true", 1, "box of the 5th to 95th percentiles of each wrist's place"),
)  # fmt: skip
AUDIO_MEASURES = tuple(m.name for m in MEASURES if m.name.startswith(("Beat", "BC", "speech")))


@dataclass
class Values:
    """Of one file: `values` {measure: (value, weight)}, `reasons` {measure: why there is none}, and the features of
    its windows by what they are for, `features` {"FGD" or "expression FD": (W, L)}."""

    values: dict[str, tuple[float, float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    features: dict[str, Double] = field(default_factory=dict)


class Body:
    """A motion on the home skeleton in the forms that measures want; each is made once, when first asked for."""

    def __init__(self, motion: Motion) -> None:
        self.given = motion
        self.motion = motion.resampled(BODY_FPS)
        self.window_motion = motion.resampled(WINDOW_FPS)

    @cached_property
    def positions(self) -> Double:
        """(F, 75, 3) cm at 30 fps."""
        return self.motion.positions()

    @cached_property
    def smplx_positions(self) -> Double:
        """(F, 55, 3) m at 30 fps from the hips, in SMPL-X's order; jaw and eyes are where the head is."""
        skeleton = self.motion.skeleton
        columns = [skeleton.index(name or "Head") for name in SMPLX_JOINTS]
        return (self.positions[:, columns] - self.positions[:, :1]) / 100.0

    @cached_property
    def mean_speed(self) -> Double:
        """(55,) m/s."""
        speed = np.linalg.norm(np.gradient(self.smplx_positions, 1 / BODY_FPS, axis=0), axis=-1)
        return np.maximum(speed.mean(0), SLOWEST)

    @cached_property
    def euler(self) -> Double:
        """(F, 141) degrees at 15 fps, without jumps at 180."""
        vectors = JointVectors(fps=WINDOW_FPS, joints=BEAT_JOINTS, notation="euler", root=False)
        return np.unwrap(vectors.raw(self.window_motion), period=360.0, axis=0)

    def directions(self, hands: bool) -> Double:
        """(F, K, 3) unit vectors at 15 fps: TED's 9 bones, or with hands TED Expressive's 42."""
        raw = DirectionVectors(fps=WINDOW_FPS, hands=hands).raw(self.window_motion)
        return raw.reshape(len(raw), -1, 3)

    @cached_property
    def both_directions(self) -> tuple[Double, Double]:
        """Directions of TED and of TED Expressive."""
        return self.directions(False), self.directions(True)

    @cached_property
    def face(self) -> Double:
        """(F, 51) ARKit at 60 fps; ValueError when the motion has no face."""
        if self.given.expression is None:
            raise ValueError("the motion has no face")
        seconds = np.arange(int(len(self.given) / self.given.fps * FACE_FPS)) / FACE_FPS
        times = np.arange(len(self.given)) / self.given.fps
        return np.stack([np.interp(seconds, times, column) for column in self.given.expression.T], 1)

    def places(self, *names: str) -> Double:
        """(F, n, 3) cm of the named joints."""
        return self.positions[:, [self.motion.skeleton.index(name) for name in names]]


def measure_audio(body: Body, waveform: Array, mean_speed: Double | None = None) -> Values:
    """All that needs the sound; `waveform` (N,) starts with the motion; `mean_speed` (55,) m/s of the true motion."""
    result = Values()
    speed = body.mean_speed if mean_speed is None else mean_speed

    def each(name: str, value: Callable[[], float], weight: float = 1.0) -> None:
        _measured(result, name, value, weight)

    seconds = len(body.motion) / BODY_FPS
    each("BeatAlign beat_v1", lambda: beats.beat_align_euler(waveform, body.euler))
    # Released, the first ten seconds are skipped; the corrected one takes whole files.
    each("BeatAlign beat_v1_corrected", lambda: beats.beat_align_euler(waveform, body.euler, "beat_v1_corrected", 0.0))
    for variant in beats.POSITION_VARIANTS:
        each(
            f"BC {variant}",
            lambda v=variant: beats.beat_consistency_positions(waveform, body.smplx_positions, speed, v),  # type: ignore[misc]
            seconds,
        )
    each("BC talkshow", lambda: beats.beat_consistency_arms([waveform], [body.smplx_positions]), seconds)
    for variant, hands in (("diffgesture_ted", False), ("diffgesture_expressive", True)):
        try:
            value, weight = _windowed(body.both_directions[hands], waveform, variant)
            result.values[f"BC {variant}"] = value, weight
        except ValueError as error:
            result.reasons[f"BC {variant}"] = str(error)
    each("BC said", lambda: beats.beat_consistency_expression([waveform], [face.said_coefficients(body.face)]))

    def lag(name: str, movement: Callable[[], Double], fps: float) -> None:
        try:
            moved = movement()
            value, place = control.speech_lag(control.loudness(waveform, len(moved), fps), moved, fps)
            result.values[f"{name} correlation"], result.values[f"{name} lag"] = (value, 1.0), (place, 1.0)
        except ValueError as error:
            result.reasons[f"{name} correlation"] = result.reasons[f"{name} lag"] = str(error)

    def wrists() -> Double:
        moved = smoothness.speeds(body.places("LeftHand", "RightHand"), BODY_FPS).sum(1)
        return np.concatenate([moved[:1], moved])

    lag("speech-hands", wrists, BODY_FPS)
    lag("speech-mouth", lambda: body.face[:, expression_index("jawOpen")], FACE_FPS)
    return result


def measure_motion(
    body: Body, extractor: GestureFeatures | None = None, expression: BlendshapeEncoder | None = None
) -> Values:
    """Everything that needs the motion alone; without the encoder `expression` faces are told by window moments."""
    result = Values()
    frames = float(len(body.motion))

    def each(name: str, value: Callable[[], float]) -> None:
        _measured(result, name, value, frames)

    each("L1div beat", lambda: diversity.l1_diversity([body.euler]))
    each("L1div emage", lambda: diversity.l1_diversity([body.smplx_positions.reshape(len(body.motion), -1)]))
    local = body.positions - body.positions[:, :1]
    each("jerk", lambda: smoothness.jerk(local, BODY_FPS))
    each("jitter", lambda: smoothness.jerk(local, BODY_FPS, "jitter"))
    each("acceleration", lambda: smoothness.acceleration(local, BODY_FPS))
    each("foot sliding", lambda: smoothness.foot_sliding(body.places("LeftToeBase", "RightToeBase"), BODY_FPS))
    palms = body.places("LeftHandMiddle1", "RightHandMiddle1")
    each("hand sliding", lambda: smoothness.hand_sliding(palms, BODY_FPS))
    moving = [body.motion.skeleton.index(name) for name in BEAT_JOINTS]
    each("range of motion", lambda: smoothness.range_of_motion(body.window_motion.rotations[:, moving]))
    chest = body.places("Spine3")
    each("gesture space", lambda: smoothness.gesture_space(body.places("LeftHand", "RightHand") - chest))

    def features(name: str, make: Callable[[], Double]) -> None:
        try:
            result.features[name] = make()
        except ValueError as error:
            result.reasons[name] = str(error)

    if extractor is not None:
        gesture = extractor.features
        features("FGD", lambda: gesture(motion_windows(body.window_motion)))
    encode = face.window_moments if expression is None else expression.features
    features("expression FD", lambda: face.expression_features(face.said_coefficients(body.face), encode, FACE_STEP))
    return result


def measure_against(body: Body, true: Body, semantic: Array | None = None) -> Values:
    """Everything that needs the true motion; `semantic` (F,) at 15 fps. Both must have the same length."""
    result = Values()
    frames = min(len(body.euler), len(true.euler))
    made, wanted = body.euler[:frames], true.euler[:frames]

    def each(name: str, value: Callable[[], float]) -> None:
        _measured(result, name, value, float(frames))

    if semantic is None:
        result.reasons["SRGR beat_v1"] = "no semantic scores"
    else:
        each("SRGR beat_v1", lambda: recall.srgr(made, wanted, semantic[:frames]))
    each("SRGR emage_evaltools", lambda: recall.srgr(made, wanted, None, "emage_evaltools", 4.0))
    spread = np.maximum(wanted.std(0), 1.0)
    each("PCK beat", lambda: recall.pck((made - wanted) / spread, np.zeros_like(made)))
    each("MSE", lambda: recall.mean_squared_error(made, wanted))
    rows = min(len(body.motion), len(true.motion))
    joints = slice(0, 22)
    each(
        "LVD talkshow",
        lambda: face.landmark_velocity_difference(
            body.smplx_positions[:rows, joints], true.smplx_positions[:rows, joints], "talkshow"
        ),
    )
    return result


def _measured(result: Values, name: str, value: Callable[[], float], weight: float) -> None:
    try:
        result.values[name] = float(value()), weight
    except ValueError as error:
        result.reasons[name] = str(error)


def _windowed(directions: Double, waveform: Array, variant: str) -> tuple[float, float]:
    """Score of the windows of 34 frames, one after the other, and its weight, the number of audio beats."""
    count = min(len(directions) // DIRECTION_FRAMES, int(len(waveform) / SAMPLE_RATE * WINDOW_FPS) // DIRECTION_FRAMES)
    if not count:
        raise ValueError(f"shorter than a window of {DIRECTION_FRAMES} frames at 15 fps")
    samples = int(DIRECTION_FRAMES / WINDOW_FPS * SAMPLE_RATE)
    sounds = [waveform[k * samples : (k + 1) * samples] for k in range(count)]
    windows = directions[: count * DIRECTION_FRAMES].reshape(count, DIRECTION_FRAMES, -1, 3)
    score, weight = window_scores(sounds, windows, variant)
    if not weight.any():
        raise ValueError("no window has both audio and motion beats")
    return float((score * weight).sum() / weight.sum()), float(weight.sum())
