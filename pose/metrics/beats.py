"""Beat alignment: do movements pause where speech starts? BeatAlign and BC in eight released definitions and ours.

    score = mean over the AUDIO beats of exp(-(distance to the nearest motion beat)² / 2 σ²)

Letters: F frames, J joints, B audio beats, M motion beats, W windows. All scores are in [0, 1], and none is "higher is
better": many motion beats raise them whatever the speech, so that generated motion passes the ground truth. Read them
beside the row of mismatched audio (`pose.metrics.control`). A clip without audio or motion beats has no score and
raises ValueError, unless the released code says what it counts as; then the docstring does too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.signal import argrelextrema, find_peaks

from pose.acoustics import SAMPLE_RATE
from pose.metrics.arrays import Double, finite, known, positive
from pose.metrics.onsets import audio_beats

EULER_VARIANTS = ("beat_v1", "beat_v1_clock", "beat_v1_corrected")
# Of BEAT's 141 numbers: what "right wrist" reads in the released code is RightHandRing2; 12 to 15 are RightHand.
_RELEASED_JOINT, _WRIST = slice(36, 39), slice(18, 21)

POSITION_VARIANTS = ("emage_2024", "emage_evaltools", "ours")
_POSITION_THRESHOLD = {"emage_2024": 0.3, "emage_evaltools": 0.10, "ours": 0.10}
UPPER_JOINTS = (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)  # of SMPL-X
EDGE_FRAMES = 60  # left out at both ends, two seconds

ARM_CHANGES = (6.0181e-5, 5.1597e-5, 2.1344e-4, 2.1899e-4)  # TalkSHOW's mean change of its four arm angles


def alignment(audio: ArrayLike, motion: ArrayLike, sigma: float) -> float:
    """The score of audio beats (B,) and motion beats (M,), both in seconds on one clock."""
    positive(sigma, "sigma")
    for given, kind in ((audio, "audio"), (motion, "motion")):
        if not np.size(given):
            raise ValueError(f"no {kind} beats")
    heard, seen = finite(audio, "audio beats", dimensions=1), np.sort(finite(motion, "motion beats", dimensions=1))
    after = np.clip(np.searchsorted(seen, heard), 1, len(seen) - 1) if len(seen) > 1 else np.zeros(len(heard), int)
    distance = np.minimum(np.abs(seen[after] - heard), np.abs(seen[after - 1] - heard))
    return float(np.exp(-(distance**2) / (2 * sigma**2)).mean())


def beat_align_euler(
    waveform: ArrayLike,  # (N,) 16 kHz
    euler: ArrayLike,  # (F, 141) degrees, BEAT's 47 joints
    variant: str = "beat_v1",
    start_s: float = 10.0,
    end_s: float = 500.0,
    fps: float = 15.0,
) -> float:
    """BEAT's BeatAlign, σ 0.3, of the part from `start_s` to `end_s` (10 to 500 s in the released test).

    Motion beats are minima, over 2 frames to both sides, of the L2 norm of the frame difference of one joint's Euler
    angles. "beat_v1": a joint of the right ring finger, as released, and the times of the sound on a wrong clock.
    "beat_v1_clock": the clock mended. "beat_v1_corrected": the right wrist, and the onset detector at the true rate;
    the differences of angles are taken the short way round.
    """
    known(variant, EULER_VARIANTS)
    positive(fps, "fps")
    if not 0 <= start_s < end_s:
        raise ValueError(f"the measured part must be 0 <= start_s < end_s, got {start_s} to {end_s}")
    samples = finite(waveform, "waveform", dimensions=1)[int(start_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)]
    values = finite(euler, "euler", dimensions=2, least=2)
    if values.shape[1] != 141:
        raise ValueError(f"euler must be (F, 141), got {values.shape}")
    change = np.diff(values, axis=0)
    corrected = variant == "beat_v1_corrected"
    if corrected:
        change = (change + 180.0) % 360.0 - 180.0
    speed = np.linalg.norm(change[:, _WRIST if corrected else _RELEASED_JOINT], axis=1)
    speed = speed[int(start_s * fps) : int(end_s * fps)]
    if len(speed) < 5 or len(samples) < SAMPLE_RATE:
        raise ValueError(f"the clip ends before or soon after the start of the measured part at {start_s:g} s")
    return alignment(audio_beats(samples, variant), _minima(speed, 2) / fps, 0.3)


def beat_consistency_positions(
    waveform: ArrayLike,  # (N,) 16 kHz
    positions: ArrayLike,  # (F, 3 J) or (F, J, 3), SMPL-X's joints, body in place (translation 0)
    mean_speed: ArrayLike | None = None,  # (J,) of the data, same unit a second
    variant: str = "emage_evaltools",
    fps: float = 30.0,
    joints: Sequence[int] = UPPER_JOINTS,
) -> float:
    """BC on BEAT2, σ 0.3, mean over 13 upper joints, without the first and last 60 frames.

    Motion beats are minima, over 7 frames to both sides, of a joint's speed divided by `mean_speed`, that exceed a
    threshold: 0.3 for "emage_2024", 0.10 for "emage_evaltools". Released fault of both: the threshold is asked of the
    frame 60 before the minimum. "emage_2024" fails on a joint without beats, here ValueError; "emage_evaltools" counts
    that joint as 0. "ours" asks the threshold at the minimum itself and leaves out joints without beats. Without
    `mean_speed`, speeds are divided by the clip's largest (evaltools; its object keeps that of the first file for all
    later ones). No joint with beats is an error in all variants.
    """
    known(variant, POSITION_VARIANTS)
    positive(fps, "fps")
    values = finite(positions, "positions", dimensions=(2, 3))
    frames = len(values)
    if frames <= 2 * EDGE_FRAMES + 15:
        raise ValueError(f"{frames} frames: after 60 at both ends too few are left, at least {2 * EDGE_FRAMES + 16}")
    if values[0].size % 3 or not joints or not 0 <= min(joints) <= max(joints) < values[0].size // 3:
        raise ValueError(f"joints {tuple(joints)} must be among the triples of positions {values.shape}")
    speed = np.linalg.norm(np.gradient(values.reshape(frames, -1, 3), 1.0 / fps, axis=0), axis=-1)
    if mean_speed is None and variant == "emage_2024":
        raise ValueError("variant 'emage_2024' needs mean_speed (J,), the mean speed of each joint in the data")
    if not speed.any():
        raise ValueError("the motion is constant: no motion beats")
    scale = speed.max() if mean_speed is None else finite(mean_speed, "mean_speed", dimensions=1)
    if np.size(scale) not in (1, speed.shape[1]) or np.min(scale) <= 0:
        raise ValueError(f"mean_speed must be ({speed.shape[1]},) and above 0, got {np.shape(scale)}")
    speed = speed / scale
    middle = slice(EDGE_FRAMES, frames - EDGE_FRAMES)
    # The released fault: a place counted from frame 60 is looked up from frame 0.
    asked = speed[middle] if variant == "ours" else speed
    threshold = _POSITION_THRESHOLD[variant]
    start, end = 2 * SAMPLE_RATE, int((frames - EDGE_FRAMES) / 30 * SAMPLE_RATE)
    if fps != 30:
        start, end = int(EDGE_FRAMES / fps * SAMPLE_RATE), int((frames - EDGE_FRAMES) / fps * SAMPLE_RATE)
    heard = audio_beats(finite(waveform, "waveform", dimensions=1)[start:end])
    scores = []
    for joint in joints:
        minima = _minima(speed[middle, joint], 7)
        beats = minima[asked[minima, joint] > threshold]
        if len(beats):
            scores.append(alignment(heard, beats / fps, 0.3))
        elif variant == "emage_2024":
            raise ValueError(f"joint {joint} has no motion beats; the released code fails here too")
        elif variant == "emage_evaltools":
            scores.append(0.0)
    if not any(scores):
        raise ValueError("no joint has motion beats")
    return float(np.mean(scores))


def beat_consistency_arms(waveforms: Sequence[ArrayLike], positions: Sequence[ArrayLike], fps: float = 30.0) -> float:
    """TalkSHOW's BC, σ 0.1: `positions` (F, J, 3) of SMPL-X's joints in metres, J at least 22, one for each waveform.

    Four scalar products of neighbouring arm bones go through an arc cosine without being divided by the lengths, so
    the unit matters. Minima of the change of each angle that rise by 0.01 on one side are beats. All audio beats of
    all clips are averaged, once for each angle that has beats. (The released code also moves the joints of its input.)
    """
    if len(waveforms) != len(positions) or not len(positions):
        raise ValueError(f"one waveform a motion is needed, got {len(waveforms)} and {len(positions)}")
    positive(fps, "fps")
    total, count = 0.0, 0
    for number, (waveform, motion) in enumerate(zip(waveforms, positions, strict=True)):
        points = finite(motion, f"motion {number}", dimensions=3, least=4)
        if points.shape[1] < 22 or points.shape[2] != 3:
            raise ValueError(f"motion {number} must be (F, J, 3) with SMPL-X's joints 0 to 21, got {points.shape}")
        ends, starts = points[:, [16, 17, 18, 19, 20, 21]], points[:, [13, 14, 16, 17, 18, 19]]
        bones = ends - starts
        angle = np.arccos(np.clip((bones[:, 2:] * bones[:, :-2]).sum(-1), -1, 1)) / np.pi
        change = np.abs(np.diff(angle, axis=0)) / np.array(ARM_CHANGES) / len(ARM_CHANGES)
        change = np.concatenate([np.zeros((1, 4)), change])
        heard = audio_beats(waveform)
        for column in change.T:
            beats = threshold_minima(column, 0.01, 1)
            if len(beats):
                total += alignment(heard, beats / fps, 0.1) * len(heard)
                count += len(heard)
    if not count:
        raise ValueError("no arm angle of any clip has motion beats")
    return total / count


def beat_consistency_expression(
    waveforms: Sequence[ArrayLike],  # (N,) each, 16 kHz
    coefficients: Sequence[ArrayLike],  # (F, 32) each, ARKit
    fps: float = 60.0,
    sigma: float = 0.1,
    threshold: float = 0.1,
) -> float:
    """SAiD's BC: minima of the mean over coefficients of |change| / mean |change|, with a drop above `threshold`.

    Mean of files; a file without motion beats counts as 0, as released; all files without is an error. A coefficient
    that never moves in any file is left out (released: division by 0).
    """
    if len(waveforms) != len(coefficients) or not len(coefficients):
        raise ValueError(f"one waveform a face is needed, got {len(waveforms)} and {len(coefficients)}")
    positive(fps, "fps")
    changes = [np.abs(np.diff(finite(c, "coefficients", dimensions=2, least=4), axis=0)) for c in coefficients]
    mean = np.mean([change.mean(0) for change in changes], axis=0)
    moves = mean > 0
    if not moves.any():
        raise ValueError("the faces never move: no motion beats")
    scores = []
    for waveform, change in zip(waveforms, changes, strict=True):
        rate = (change[:, moves] / mean[moves]).mean(1)
        places, drops = find_peaks(-rate, threshold=0)
        beats = places[(drops["left_thresholds"] > threshold) | (drops["right_thresholds"] > threshold)]
        scores.append(alignment(audio_beats(waveform), beats / fps, sigma) if len(beats) else 0.0)
    if not any(scores):
        raise ValueError("no face has motion beats")
    return float(np.mean(scores))


def threshold_minima(values: Double, threshold: float, first: int) -> Double:
    """Frames from `first` to the last but one that are below both neighbours, one of them by `threshold` or more."""
    left, right = values[:-2] - values[1:-1], values[2:] - values[1:-1]
    found = (left > 0) & (right > 0) & (np.maximum(left, right) >= threshold)
    places = np.flatnonzero(found) + 1
    return places[places >= first].astype(np.float64)


def _minima(values: Double, order: int) -> np.ndarray:
    """Places that are below `order` neighbours on both sides, strictly."""
    places: np.ndarray = argrelextrema(values, np.less, order=order)[0]
    return places
