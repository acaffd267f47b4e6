"""Faces: landmark velocity differences, and features of windows of ARKit coefficients for FD and WInD.

Letters: F frames, C coordinates, J joints or landmarks. Mean squared error is in `pose.metrics.recall`, the Fréchet
distance and WInD between encoded faces in `frechet` and `mixtures`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from pose.metrics.arrays import Double, finite, known, same_shape
from pose.motion import EXPRESSION_NAMES

LVD_VARIANTS = ("emage_evaltools", "emage_2024", "talkshow")
# SAiD's 32 coefficients in the order of its data/ARKit_blendshapes.txt; all are among ours.
SAID_NAMES = (
    "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft",
    "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft",
    "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
SAID_FPS = 60.0
SAID_FRAMES = 120
MOMENTS = "window-moments"  # the name of `window_moments` in tables
_BATCH = 256  # windows that are held at once


def landmark_velocity_difference(predicted: ArrayLike, target: ArrayLike, variant: str = "emage_evaltools") -> float:
    """LVD between two motions; 0 is best. Unit: that of the input, a frame.

    "emage_evaltools": (F, C), the sum of |Δpredicted - Δtarget| divided by F C (not (F - 1) C). "emage_2024": as the
    2024 training code, whose velocity of the prediction is predicted[1:] - target[:-1], so that it measures places;
    mean over (F - 1, C). "talkshow": (F, J, 3), the sum over J of the difference of speeds, mean over F - 1; opposite
    movements at one speed cost nothing. TalkSHOW takes joints 0 to 21 for the body, and 22 to 24 with the landmarks
    from 74 on for the face.
    """
    known(variant, LVD_VARIANTS)
    dimensions = 3 if variant == "talkshow" else 2
    a = finite(predicted, "predicted", dimensions=dimensions, least=2)
    b = finite(target, "target", dimensions=dimensions, least=2)
    same_shape(a, b, "predicted and target")
    if variant == "talkshow":
        speeds = [np.linalg.norm(np.diff(values, axis=0), axis=-1) for values in (a, b)]
        return float(np.abs(speeds[0] - speeds[1]).sum(-1).mean())
    if variant == "emage_2024":
        return float(np.abs((a[1:] - b[:-1]) - np.diff(b, axis=0)).mean())
    return float(np.abs(np.diff(a, axis=0) - np.diff(b, axis=0)).sum() / a.size)


def said_coefficients(expression: ArrayLike) -> Double:
    """SAiD's 32 columns (F, 32) of our 51 (F, 51)."""
    values = finite(expression, "expression", dimensions=2)
    if values.shape[1] != len(EXPRESSION_NAMES):
        raise ValueError(f"expression must be (F, {len(EXPRESSION_NAMES)}), got {values.shape}")
    return values[:, [EXPRESSION_NAMES.index(name) for name in SAID_NAMES]]


def said_windows(coefficients: ArrayLike, step: int = 1) -> Double:
    """Every window of 120 frames at 60 fps, (W, 120, 32), starts `step` frames apart (1 as published)."""
    values = finite(coefficients, "coefficients", dimensions=2)
    if len(values) < SAID_FRAMES:
        raise ValueError(f"{len(values)} frames are less than a window of {SAID_FRAMES} (2 s at 60 fps)")
    windows = np.lib.stride_tricks.sliding_window_view(values, SAID_FRAMES, axis=0)[::step]
    return np.ascontiguousarray(windows.transpose(0, 2, 1))


def window_moments(windows: ArrayLike) -> Double:
    """Mean and deviation of each coefficient in windows (W, 120, 32), (W, 64): ours, where SAiD's weights are not."""
    values = finite(windows, "windows", dimensions=3)
    return np.concatenate([values.mean(1), values.std(1)], axis=1)


def expression_features(
    coefficients: ArrayLike,  # (F, 32) at 60 fps
    encode: Callable[[Double], Double] = window_moments,  # (W, 120, 32) to (W, L), BlendshapeEncoder().features
    step: int = 1,
) -> Double:
    """Features (W, L) of all windows, whose starts are `step` frames apart; memory does not grow with W times 120."""
    values = finite(coefficients, "coefficients", dimensions=2)
    starts = range(0, max(len(values) - SAID_FRAMES, 0) + 1, step * _BATCH)
    reach = step * (_BATCH - 1) + SAID_FRAMES
    return np.concatenate([encode(said_windows(values[start : start + reach], step)) for start in starts])
