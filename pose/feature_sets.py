"""What a gesture model hears: named lists of feature blocks, as one row a frame; and the windows it hears them in.

    set             blocks                                    width
    acoustic        mfcc, mel, prosody, onset                 109    needs nothing but `pose.speech`
    acoustic_phones … phones                                  149    our reader of phones (pose/phone_reader.py)
    acoustic_mouth  … phones, mouth                           161    the same, and what lips do with them
    acoustic_words  … words                                   410
    wavlm           wavlm                                     1024   DiffuseStyleGesture
    wavlm_acoustic  mfcc, mel, prosody, wavlm, onset          1133   DiffuseStyleGesture+'s order
    wavlm_words     … words                                   1434   DiffuseStyleGesture+ on BEAT, the holistic model

    block    width  from
    mfcc     40     cosine transform of `mel`, / 4
    mel      64     `mel` of pose.acoustics, (dB + 30) / 20: silence is -1.5
    prosody  4      energy, its change, pitch in semitones / 6, its change (from the frame before)
    onset    1      as it is
    phones   40     block "phones" of the features, as PhoneReader adds it
    mouth    12     block "mouth" of the features, as PhoneReader adds it: coefficients of the face, times 4
    wavlm    1024   block "wavlm" of the features: whoever has the network adds it (last layer, on the motion clock)
    words    301    block "words": a word vector (300), then 1 where nobody speaks; without the block no word is known

The scales are ours and fixed, so that no statistics need to travel; published models were trained on other scales.
Letters: F frames, A width of a set, S seed frames of a window, N samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from pose.acoustics import SAMPLE_RATE
from pose.phone_lips import MOUTH, PHONES
from pose.speech import SpeechFeatures

Array = NDArray[np.float32]

BLOCK_WIDTHS = {
    "mfcc": 40, "mel": 64, "prosody": 4, "onset": 1, "phones": len(PHONES), "mouth": len(MOUTH), "wavlm": 1024,
    "words": 301,
}  # fmt: skip
FEATURE_SETS = {
    "acoustic": ("mfcc", "mel", "prosody", "onset"),
    "acoustic_phones": ("mfcc", "mel", "prosody", "onset", "phones"),
    "acoustic_mouth": ("mfcc", "mel", "prosody", "onset", "phones", "mouth"),
    "acoustic_words": ("mfcc", "mel", "prosody", "onset", "words"),
    "wavlm": ("wavlm",),
    "wavlm_acoustic": ("mfcc", "mel", "prosody", "wavlm", "onset"),
    "wavlm_words": ("mfcc", "mel", "prosody", "wavlm", "onset", "words"),
}
SILENT_MEL_DB = -60.0  # what pose.acoustics gives in silence


def feature_width(feature_set: str) -> int:
    """A of a named set; ValueError lists the known ones."""
    if feature_set not in FEATURE_SETS:
        raise ValueError(f"unknown feature set {feature_set!r}; known are {', '.join(FEATURE_SETS)}")
    return sum(BLOCK_WIDTHS[name] for name in FEATURE_SETS[feature_set])


def feature_rows(features: SpeechFeatures, feature_set: str, before: SpeechFeatures | None = None) -> Array:
    """(F, A). `before`: what precedes these features, at least a frame, so that changes do not start anew at 0."""
    width = feature_width(feature_set)
    blocks = [_block(features, name, before) for name in FEATURE_SETS[feature_set]]
    rows = np.concatenate(blocks, 1).astype(np.float32)
    assert rows.shape == (len(features), width)
    return rows


def _block(features: SpeechFeatures, name: str, before: SpeechFeatures | None) -> NDArray:
    given = features.blocks
    if name == "words" and "words" not in given:
        unknown = np.zeros((len(features), BLOCK_WIDTHS["words"]))
        unknown[:, -1:] = 1 - given["speech"]
        return unknown
    if name == "mel":
        return (given["mel"] + 30) / 20
    if name == "mfcc":
        return dct((given["mel"] + 30) / 20, norm="ortho", axis=1)[:, : BLOCK_WIDTHS["mfcc"]] / 4
    if name == "prosody":
        values = np.concatenate([given["energy"], given["pitch"] / 6], 1)
        first = values[:1]
        if before is not None:
            first = np.concatenate([before.blocks["energy"][-1:], before.blocks["pitch"][-1:] / 6], 1)
        change = np.diff(values, axis=0, prepend=first)
        return np.stack([values[:, 0], change[:, 0], values[:, 1], change[:, 1]], 1)
    if name not in given:
        raise ValueError(
            f"the speech features lack the block {name!r}; add it, or use a model of the feature set 'acoustic'. "
            f"There are {', '.join(given)}"
        )
    if given[name].shape[1] != BLOCK_WIDTHS[name]:
        raise ValueError(f"block {name!r} must be {BLOCK_WIDTHS[name]} wide, got {given[name].shape[1]}")
    return 4 * given[name] if name == "mouth" else given[name]


def silence(like: SpeechFeatures, frames: int) -> SpeechFeatures:
    """`frames` frames of silence with the blocks of `like`."""
    blocks = {name: np.zeros((frames, block.shape[1]), np.float32) for name, block in like.blocks.items()}
    if "mel" in blocks:
        blocks["mel"][:] = SILENT_MEL_DB
    if "phones" in blocks:
        blocks["phones"][:, PHONES.index("SIL")] = 1
    if "words" in blocks:
        blocks["words"][:, -1] = 1
    return SpeechFeatures(like.fps, blocks)


@dataclass(frozen=True)
class SpeechWindow:
    """What a model hears in one window, which begins at frame `first` (negative where it begins before the sound).

    `speech` (F, A) rows or (N,) samples; `total` the frames of the recording, None while its end is not in sight.
    """

    first: int
    speech: Array
    total: int | None


def speech_windows(
    features: Iterable[SpeechFeatures],
    feature_set: str | None,  # None: the samples themselves
    fps: float,
    frames: int,  # F
    seed_frames: int,  # S
) -> Iterator[SpeechWindow]:
    """Windows that overlap by S frames; the first begins in silence, S frames before the sound, the last ends in it.

    Holds one window and one chunk. The windows do not depend on how the features come cut.
    """
    samples_of = SAMPLE_RATE / fps
    rows: Array | None = None  # from frame `start` on
    waves = np.zeros(round(seed_frames * samples_of), np.float32)
    start, known, previous = -seed_frames, -seed_frames, None
    waiting, ended = iter(features), False
    first = -seed_frames
    while True:
        # 1. Read until the window is full or the sound is over
        while known < first + frames and not ended:
            chunk = next(waiting, None)
            if chunk is None:
                ended = True
                break
            if abs(chunk.fps - fps) > 1e-6:
                raise ValueError(f"this model hears speech at {fps:g} fps, got features at {chunk.fps:g}")
            if previous is None:
                known, previous = 0, silence(chunk, max(seed_frames, 1))
                rows = feature_rows(previous, feature_set)[:seed_frames] if feature_set else None
            if feature_set is None:
                if chunk.waveform is None:
                    raise ValueError("this model hears the waveform itself; pass features that carry it")
                waves = np.concatenate([waves, chunk.waveform])
            else:
                assert rows is not None
                rows = np.concatenate([rows, feature_rows(chunk, feature_set, previous)])
            known, previous = known + len(chunk), chunk if len(chunk) else previous
        # 2. Cut it out
        if previous is None:
            raise ValueError("there is no speech to gesture to: the features are empty")
        total = known if ended else None
        if total is not None and first + seed_frames >= total:
            return
        if feature_set is None:
            offset = round(start * samples_of)
            begin, count = round(first * samples_of) - offset, round(frames * samples_of)
            speech = waves[begin : begin + count]
            speech = np.pad(speech, (0, count - len(speech)))
        else:
            assert rows is not None
            speech = rows[first - start : first - start + frames]
            if len(speech) < frames:
                quiet = feature_rows(silence(previous, frames - len(speech)), feature_set, previous)
                speech = np.concatenate([speech, quiet])
        yield SpeechWindow(first, speech, total)
        # 3. Forget what the next one does not need
        first += frames - seed_frames
        drop = max(min(first, known) - start, 0)
        if feature_set is None:
            waves = waves[round((start + drop) * samples_of) - round(start * samples_of) :]
        elif rows is not None:
            rows = rows[drop:]
        start += drop
