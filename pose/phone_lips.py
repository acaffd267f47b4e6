"""The mouth of a speaker from what is said: shares of phones in each frame, as `pose.phone_reader.PhoneReader` adds.

Every phone wants a shape of the mouth and insists on it more or less: vowels on the jaw, sibilants on closed teeth,
p b m on closed lips; a t takes whatever its neighbours want. The shape at a moment is the mean of what the phones
around it want, weighted by share, insistence and nearness in time: the dominance functions of Cohen and Massaro 1993,
"Modeling coarticulation in synthetic visual speech", with posteriors in the place of known phones. A reader that is
unsure so gives a shape between its guesses. Closures are apart: lips that nearly meet are not closed. There the reader
is helped by the spectrum, which knows whether the mouth is open but not which sound it is.

The amounts are ours, set beside those of `pose.visemes` so that both mouths are equally lively; those of closures on
24 sentences of LibriSpeech and 11 of GRID, so that as many other consonants close the lips as with that mouth.
Letters: F frames, C phones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose.stress import gaussian_smooth
from pose.visemes import PRESS, mouth

Array = NDArray[np.float32]
Double = NDArray[np.float64]

# ARPAbet's 39 phones of American English and silence: the order in which posteriors come.
PHONES = (
    "SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY",
    "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
LABIALS = ("P", "B", "M")

# What `phone_mouth` gives, in the order of the features' block "mouth" (pose/mouth_stream.py).
MOUTH = (
    "jawOpen", "mouthClose", "mouthPress", "mouthFunnel", "mouthPucker", "mouthStretch", "mouthSmile",
    "mouthLowerDown", "mouthUpperUp", "mouthRollLower", "mouthRollUpper", "mouthShrugUpper",
)  # fmt: skip

# Phones: opening of the jaw, how much they insist on it; pucker, funnel, stretch, how much they insist on these.
_WANTED: dict[str, tuple[float, float, float, float, float, float]] = {
    "SIL": (0.00, 0.5, 0.00, 0.00, 0.00, 0.3),
    "AA": (0.62, 1.0, 0.00, 0.06, 0.00, 0.7),
    "AE": (0.56, 1.0, 0.00, 0.00, 0.14, 0.9),
    "AW AY": (0.55, 1.0, 0.05, 0.03, 0.03, 0.6),
    "AH": (0.42, 0.8, 0.00, 0.00, 0.02, 0.5),
    "AO": (0.50, 1.0, 0.14, 0.30, 0.00, 1.0),
    "EH": (0.42, 1.0, 0.00, 0.00, 0.10, 0.8),
    "EY": (0.33, 1.0, 0.00, 0.00, 0.15, 0.9),
    "OW OY": (0.38, 1.0, 0.34, 0.24, 0.00, 1.0),
    "ER": (0.24, 0.9, 0.20, 0.10, 0.00, 0.8),
    "IH": (0.24, 0.9, 0.00, 0.00, 0.10, 0.7),
    "IY": (0.15, 1.0, 0.00, 0.00, 0.20, 1.0),
    "UH": (0.24, 0.9, 0.30, 0.10, 0.00, 0.9),
    "UW": (0.15, 1.0, 0.50, 0.14, 0.00, 1.2),
    "W": (0.13, 0.9, 0.55, 0.14, 0.00, 1.3),
    "Y": (0.16, 0.6, 0.00, 0.00, 0.14, 0.5),
    "R": (0.19, 0.6, 0.24, 0.12, 0.00, 0.6),
    "L": (0.25, 0.4, 0.00, 0.00, 0.04, 0.2),
    "HH": (0.30, 0.2, 0.00, 0.00, 0.00, 0.1),
    "T D N": (0.14, 0.4, 0.00, 0.00, 0.05, 0.2),
    "TH DH": (0.16, 0.5, 0.00, 0.00, 0.04, 0.3),
    "K G NG": (0.20, 0.4, 0.00, 0.00, 0.03, 0.1),
    "S Z": (0.09, 1.0, 0.00, 0.00, 0.14, 0.6),
    "SH ZH CH JH": (0.13, 1.0, 0.15, 0.34, 0.00, 1.2),
    "F V": (0.08, 0.9, 0.00, 0.00, 0.00, 0.4),
    "P B M": (0.12, 0.5, 0.00, 0.00, 0.00, 0.2),
}
_OF = {phone: row for names, row in _WANTED.items() for phone in names.split()}
_TABLE: Double = np.array([_OF[phone] for phone in PHONES])  # (C, 6)

JAW_S = 0.030  # standard deviation of nearness in time, of the jaw
LIPS_S = 0.055  # and of rounding and spreading, which begin before their vowel
CLOSED_S = 0.016  # under half a frame at 25 fps: a closure lasts two
SHUT, VOICED = 2.0, 2.0  # what the spectrum's closure and its formants weigh, in logits of p b m
CLOSING = (-2.5, -0.5)  # logits between which the lips go from apart to closed
EDGE_S = 0.030  # the lips need this long to part


def _share(phones: Double, names: tuple[str, ...]) -> Double:
    return phones[:, [PHONES.index(name) for name in names]].sum(1)


def _ramp(x: Double, low: float, high: float) -> Double:
    return np.clip((x - low) / (high - low), 0.0, 1.0)


def phone_mouth(blocks: dict[str, Array], fps: float, liveliness: float = 1.0) -> dict[str, Double]:
    """Mouth coefficients, {ARKit name: (F,) in [0, 1]}, as `pose.visemes.mouth` gives them.

    `blocks`: those of `pose.acoustics.frame_blocks` and "phones" (F, C), shares in the order of PHONES; what a row
    lacks to 1 is silence.
    """
    phones = blocks["phones"].astype(np.float64)
    if phones.shape[1] != len(PHONES):
        raise ValueError(f"the block 'phones' must be {len(PHONES)} wide, got {phones.shape[1]}")
    phones[:, 0] = 1.0 - phones[:, 1:].sum(1)

    # 1. What the phones around want.
    def wanted(column: int, insistence: int, spread_s: float) -> Double:
        weight = _TABLE[:, insistence]
        above = gaussian_smooth(phones @ (weight * _TABLE[:, column]), spread_s * fps)
        return above / (gaussian_smooth(phones @ weight, spread_s * fps) + 1e-6)

    jaw = wanted(0, 1, JAW_S)
    pucker, funnel, stretch = (wanted(column, 5, LIPS_S) for column in (2, 3, 4))
    teeth, bite = (gaussian_smooth(_share(phones, names), CLOSED_S * fps) for names in (("S", "Z"), ("F", "V")))

    # 2. Loud vowels are wide ones; the voice says where nothing is said.
    loud = 0.6 * blocks["formants"].mean(1).astype(np.float64) + 0.4 * blocks["energy"][:, 0]
    speech = gaussian_smooth(blocks["speech"][:, 0].astype(np.float64), 0.035 * fps)
    jaw = jaw * (0.6 + 0.6 * np.clip(gaussian_smooth(loud, JAW_S * fps), 0.0, 1.2))

    # 3. Lips that meet.
    labial = _share(phones, LABIALS)
    formants = 0.6 * blocks["formants"].mean(1) + 0.4 * blocks["formants"].min(1)
    shut = mouth(blocks, fps)["mouthPress"] / PRESS
    likely = np.log((labial + 0.02) / (1.02 - labial)) + SHUT * shut - VOICED * formants
    closed = _ramp(gaussian_smooth(_ramp(likely, *CLOSING), CLOSED_S * fps), 0.1, 0.7)
    near = np.maximum(closed, 0.35 * gaussian_smooth(closed, EDGE_S * fps))
    jaw = liveliness * jaw * (1.0 - near) + 0.05 * closed
    spread = stretch / 0.2
    lips = {
        "jawOpen": jaw,
        "mouthClose": closed * jaw,
        "mouthPress": PRESS * closed,
        "mouthFunnel": liveliness * funnel * (1.0 - closed),
        "mouthPucker": liveliness * pucker,
        "mouthStretch": liveliness * stretch * (1.0 - 0.5 * closed),
        "mouthSmile": liveliness * 0.12 * spread * (1.0 - 0.5 * closed),
        "mouthLowerDown": liveliness * (0.3 * jaw + 0.14 * teeth + 0.06 * spread) * (1.0 - closed),
        "mouthUpperUp": liveliness * (0.16 * jaw + 0.1 * teeth + 0.16 * bite) * (1.0 - closed),
        "mouthRollLower": np.maximum(0.5 * bite, 0.1 * closed),
        "mouthRollUpper": 0.06 * closed,
        "mouthShrugUpper": 0.1 * pucker,
    }
    return {name: np.clip(value * speech, 0.0, 0.95) for name, value in lips.items()}
