"""Audio beats: where speech starts to sound, by librosa, with the settings and the slips of the released code.

Letters: N samples at 16 kHz, B beats. librosa 0.11 is the reference; it is loaded when first needed. Times are
seconds from the first sample given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pose.acoustics import SAMPLE_RATE
from pose.metrics.arrays import Double, finite, known

VARIANTS = ("onset", "beat_v1", "beat_v1_clock", "beat_v1_corrected")
_LIBROSA_RATE = 22050  # what librosa takes when no rate is passed
_HOP = 512


def audio_beats(waveform: ArrayLike, variant: str = "onset") -> Double:
    """Times (B,) of the beats of a 16 kHz mono waveform (N,); ValueError when there are none.

    "onset": `onset_detect` on the waveform, hop 512: EMAGE, evaltools, DiffGesture, HA2G, TalkSHOW, SAiD.
    "beat_v1": BEAT's. Onsets are moved back to the loudness minimum before them; the peak picking and the clock take
    the envelope for one at 22050 Hz, so that all times are 0.7256 of the true ones. "beat_v1_clock": with true times
    only. "beat_v1_corrected": the peak picking has the true rate as well.
    """
    import librosa

    known(variant, VARIANTS)
    samples = finite(waveform, "waveform", dimensions=1, least=_HOP).astype(np.float32)
    if variant == "onset":
        times = librosa.onset.onset_detect(y=samples, sr=SAMPLE_RATE, hop_length=_HOP, units="time")
    else:
        envelope = librosa.onset.onset_strength(y=samples, sr=SAMPLE_RATE)
        picking = SAMPLE_RATE if variant == "beat_v1_corrected" else _LIBROSA_RATE
        raw = librosa.onset.onset_detect(onset_envelope=envelope, sr=picking, backtrack=False)
        loudness = librosa.feature.rms(S=np.abs(librosa.stft(y=samples)))[0]
        frames = librosa.onset.onset_backtrack(raw, loudness) if len(raw) else raw
        clock = _LIBROSA_RATE if variant == "beat_v1" else SAMPLE_RATE
        times = librosa.frames_to_time(frames, sr=clock)
    if not len(times):
        raise ValueError("no audio beats: the sound is silent or steady")
    return np.asarray(times, np.float64)
