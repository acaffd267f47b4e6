"""The mouth of a speaker, frame by frame, from the spectrum of the voice.

Letters: F frames, B mel bands.

Cues, with medians measured over 2,300 aligned phones of five voices, in dB of one part of the spectrum over another:

| cue                                    | aa   | eh   | iy   | uw   | w    | m    | n    | s    | sh   | f    |
|----------------------------------------|------|------|------|------|------|------|------|------|------|------|
| open: 500-1100 Hz over 180-430 Hz      | 0    | -2   | -20  | -19  | -14  | -22  | -24  | 1    | 2    | 0    |
| front: 1.7-3.3 kHz over 0.6-1.4 kHz    | -18  | -9   | 11   | -2   | -14  | -8   | -2   | 6    | 20   | 6    |
| hiss: above 3.6 kHz over 0.18-3.3 kHz  | -26  | -27  | -30  | -36  | -37  | -36  | -37  | 13   | -3   | -2   |
| formant loudness (`formants`), 0 to 1  | 0.75 | 0.71 | 0.46 | 0.41 | 0.30 | 0.18 | 0.16 | 0.16 | 0.31 | 0.12 |

The jaw follows the first formant and the loudness of the formants, which falls when the lips or the tongue close.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pose.acoustics import MEL_HZ
from pose.motion import EXPRESSION_NAMES
from pose.stress import gaussian_smooth

Double = NDArray[np.float64]

PRESS = 0.22  # mouthPress of closed lips
SMOOTHING_S = 0.026  # under a frame at 25 fps: enough against flicker, too little to blur a closure


def _logistic(x: Double) -> Double:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0)))


def _ramp(x: Double, low: float, high: float) -> Double:
    return np.clip((x - low) / (high - low), 0.0, 1.0)


def _highest_near(values: Double, radius: int) -> Double:
    """The maximum within `radius` frames on both sides, (F,)."""
    return sliding_window_view(np.pad(values, radius, mode="edge"), 2 * radius + 1).max(1)


def _just_after(values: Double, weight: Double, fps: float) -> Double:
    """Mean of `values` over the next 0.12 s where `weight` is high, (F,)."""
    reach = max(1, round(0.12 * fps))
    weight = np.maximum(weight - 0.15, 0.0) + 1e-3
    sums = [
        sliding_window_view(np.pad(x, (0, reach), mode="edge"), reach)[1:].sum(1) for x in (values * weight, weight)
    ]
    return sums[0] / sums[1]


def mouth(blocks: dict[str, NDArray[np.float32]], fps: float, liveliness: float = 1.0) -> dict[str, Double]:
    """Mouth coefficients, {ARKit name: (F,) in [0, 1]}; names without a side are for both sides.

    `liveliness` scales how far the jaw and the lips go. Frames within 0.1 s of the ends of the window are less exact.
    """
    power = 10.0 ** (blocks["mel"].astype(np.float64) / 10.0)

    def level(low_hz: float, high_hz: float) -> Double:
        bands = slice(*np.searchsorted(MEL_HZ, (low_hz, high_hz)))
        return 10.0 * np.log10(power[:, bands].sum(1) + 1e-6)

    # 1. Cues.
    opened = level(500, 1100) - level(180, 430)
    front = level(1700, 3300) - level(600, 1400)
    hiss = level(3600, 8000) - level(180, 3300)
    total = level(0, 8000)
    compact = level(2200, 3600) - level(4500, 8000)
    loud = blocks["energy"][:, 0].astype(np.float64)
    formants = 0.6 * blocks["formants"].mean(1) + 0.4 * blocks["formants"].min(1)
    voiced = blocks["voicing"][:, 0].astype(np.float64)
    # The mouth opens a moment before the sound and closes when it ends.
    speech = gaussian_smooth(blocks["speech"][:, 0].astype(np.float64), 0.035 * fps)

    # Lips or tongue? A closure of the lips has little treble around it, and the vowel after it begins dark (labial
    # locus of the second formant; Delattre, Liberman and Cooper 1955). Tells 74 % of pairs right on the same phones.
    treble = _highest_near(level(3600, 8000), max(1, round(0.04 * fps)))
    lips_likely = _logistic((-0.1 * treble - 0.06 * _just_after(front, formants, fps) - 3.3) / 0.3)

    # 2. Kinds of sound, each in [0, 1].
    hissing = _logistic((hiss + 9.0) / 3.0) * _ramp(loud, 0.15, 0.35)
    vowel = _ramp(formants, 0.1, 0.5) * (1.0 - hissing)
    openness = _logistic((opened + 8.0) / 4.0)
    shut = (1.0 - _ramp(formants, 0.13, 0.38)) * (1.0 - hissing)
    ajar = shut * (1.0 - lips_likely) * _ramp(loud, 0.0, 0.25)  # t, d, n, k: the tongue closes, the lips hardly
    shut = shut - ajar
    dark = 0.5 * _logistic(-(front + 9.0) / 3.0) + 0.5 * _logistic(-(hiss + 34.0) / 2.0)
    rounded = vowel * dark * (1.0 - 0.6 * openness)
    spread = vowel * _logistic((front - 1.0) / 3.0)
    hush = hissing * _logistic((compact + 4.0) / 2.5)  # sh, ch
    teeth = hissing * _logistic((total + 21.0) / 2.0) * (1.0 - hush)  # s, z
    bite = hissing * (1.0 - _logistic((total + 21.0) / 2.0)) * (1.0 - _ramp(voiced, 0.3, 0.7))  # f, th

    # 3. The face.
    jaw = vowel * (0.17 + 0.46 * openness) * (0.25 + 0.95 * np.minimum(formants, 1.0)) * (1.0 - 0.3 * rounded)
    jaw = np.maximum(jaw, 0.12 * teeth + 0.14 * hush + 0.05 * bite + 0.1 * ajar) * (1.0 - shut)
    lips = {
        "jawOpen": liveliness * jaw,
        "mouthClose": 0.12 * shut * _ramp(loud, 0.05, 0.3),
        "mouthPress": PRESS * shut * _ramp(loud, 0.3, 0.7),
        "mouthFunnel": liveliness * (0.35 * rounded * openness + 0.32 * hush + 0.12 * rounded),
        "mouthPucker": liveliness * (0.5 * rounded * (1.0 - 0.5 * openness) + 0.15 * hush),
        "mouthStretch": liveliness * (0.16 * spread + 0.14 * teeth),
        "mouthSmile": liveliness * (0.14 * spread + 0.05 * teeth),
        "mouthLowerDown": liveliness * (0.3 * jaw + 0.14 * teeth + 0.08 * spread) * (1.0 - shut),
        "mouthUpperUp": liveliness * (0.16 * jaw + 0.1 * teeth + 0.16 * bite) * (1.0 - shut),
        "mouthRollLower": 0.5 * bite + 0.1 * shut * _ramp(loud, 0.3, 0.7),
        "mouthRollUpper": 0.06 * shut * _ramp(loud, 0.3, 0.7),
        "mouthShrugUpper": 0.05 * rounded,
    }
    sigma = SMOOTHING_S * fps
    return {name: np.clip(gaussian_smooth(value, sigma) * speech, 0.0, 0.95) for name, value in lips.items()}


def set_both_sides(expression: Double, name: str, values: Double) -> None:
    """Add to a coefficient, or to its left and right one, in place; `expression` (F, 51)."""
    for column, known in enumerate(EXPRESSION_NAMES):
        if known == name or known in (name + "Left", name + "Right"):
            expression[:, column] += values
