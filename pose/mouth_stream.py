"""The mouth that `pose.phone_lips` makes of phones as one more block of `SpeechFeatures`, for gesture models to hear.

What a p asks of the lips takes a network long to find out from shares of phones, and least squares never; given as
numbers it is there from the start, and what is learned is the rest of the face. Letters: F frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from pose.feature_sets import silence
from pose.phone_lips import MOUTH, phone_mouth
from pose.speech import SpeechFeatures

REACH_S = 1.0  # heard to either side of a frame; the smoothings and the spectrum's helpers look 0.6 s at 25 fps


def with_mouth(features: Iterable[SpeechFeatures]) -> Iterator[SpeechFeatures]:
    """Features that have phones with the block "mouth" (F, 12) added, about a second at a time, a second late.

    The coefficients stand in the order of MOUTH. Beyond the ends of the recording there is silence. The result does
    not depend on how the features come cut.
    """
    before: SpeechFeatures | None = None  # the second that is out
    held: list[SpeechFeatures] = []
    for piece in features:
        joined = SpeechFeatures.join([*held, piece])
        reach = round(REACH_S * joined.fps)
        before = silence(joined, reach) if before is None else before
        while len(joined) >= 2 * reach:
            part, joined = joined[:reach], joined[reach:]
            yield _heard(before, part, joined[:reach])
            before = part
        held = [joined]
    if held and len(held[0]):
        assert before is not None
        yield _heard(before, held[0], silence(held[0], len(before)))


def _heard(before: SpeechFeatures, part: SpeechFeatures, after: SpeechFeatures) -> SpeechFeatures:
    made = phone_mouth(SpeechFeatures.join([before, part, after]).blocks, part.fps)
    block = np.stack([made[name] for name in MOUTH], 1)[len(before) : len(before) + len(part)]
    return replace(part, blocks={**part.blocks, "mouth": block.astype(np.float32)})
