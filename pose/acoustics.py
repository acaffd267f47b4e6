"""What is measured in speech: spectrum, pitch, loudness, voicing and onsets on the clock of the video.

Letters: N samples at 16 kHz, F video frames, S windows a frame, W = F*S windows, B mel bands.

Frame k covers [k / fps, (k + 1) / fps). Each frame is analysed in S windows (about 100 a second whatever the frame
rate) so that a stop closure, shorter than two video frames, is seen. The waveform is analysed in blocks that stand at
fixed places of the recording, each with half a second of context on both sides and always of one shape: the features
of a frame never depend on how the recording was cut into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]
Double = NDArray[np.float64]

SAMPLE_RATE = 16000
BANDS = 64
BLOCK_S = 4.0  # seconds of a block: short enough to keep memory flat, long enough to keep the context cheap
CONTEXT_S = 0.6  # seconds of context on each side; every neighbourhood used below is shorter

SPECTRUM_SAMPLES = 400  # 25 ms
SPECTRUM_FFT = 512
PITCH_SAMPLES = 640  # 40 ms: more than two periods of the lowest voice
PITCH_FFT = 1024
PITCH_HZ = (60.0, 550.0)
FLOOR_DB = -140.0  # of a full-scale sine; 16-bit rounding noise lies near -100
SILENT_DB = -88.0  # a recording whose loud parts stay below this is silence (16-bit dither is about -91)
RANGE_DB = 40.0  # from the loud parts of speech down to what still counts as speech when nothing hums or hisses
OUTSTANDING_WINDOWS = 8  # 80 ms: a click has fewer


def mel_edges(bands: int = BANDS, low_hz: float = 80.0, high_hz: float = 7800.0) -> Double:
    """Edges and centres of `bands` triangles equally spaced in mel (HTK: 2595 log10(1 + f / 700)), (bands + 2,) Hz."""
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (low_hz, high_hz))
    return 700.0 * (10.0 ** (np.linspace(low, high, bands + 2) / 2595.0) - 1.0)


MEL_HZ = mel_edges()[1:-1]


def _mel_filters() -> Double:
    """Triangles over the power spectrum, (257, B); a narrow one always holds at least its nearest bin."""
    edges = mel_edges()
    bins = np.fft.rfftfreq(SPECTRUM_FFT, 1.0 / SAMPLE_RATE)[:, None]
    rise = (bins - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - bins) / np.diff(edges)[1:]
    filters = np.clip(np.minimum(rise, fall), 0.0, None)
    empty = filters.sum(0) < 0.5
    filters[np.abs(bins - MEL_HZ).argmin(0)[empty], np.flatnonzero(empty)] = 1.0
    return filters


_FILTERS = _mel_filters()
_SPECTRUM_WINDOW = np.hanning(SPECTRUM_SAMPLES + 2)[1:-1]
_PITCH_WINDOW = np.hanning(PITCH_SAMPLES + 2)[1:-1]
_LAGS = np.arange(int(SAMPLE_RATE / PITCH_HZ[1]), int(SAMPLE_RATE / PITCH_HZ[0]) + 2)
_PITCH_WINDOW_POWER = np.fft.irfft(np.abs(np.fft.rfft(_PITCH_WINDOW, PITCH_FFT)) ** 2)


@dataclass(frozen=True)
class Clock:
    """Where the windows of the frames and the blocks of a recording stand, at `fps` frames a second."""

    fps: float

    @property
    def windows(self) -> int:
        """S: windows a frame."""
        return max(1, round(100.0 / self.fps))

    @property
    def block(self) -> int:
        """Frames of a block."""
        return max(1, round(BLOCK_S * self.fps))

    @property
    def context(self) -> int:
        """Frames of context on each side of a block."""
        return int(np.ceil(CONTEXT_S * self.fps))

    def frames(self, samples: int) -> int:
        """Frames that cover `samples` samples; the last one may be part silence."""
        return int(np.ceil(samples * self.fps / SAMPLE_RATE - 1e-9))

    def span(self, first_frame: int, frames: int) -> tuple[int, int]:
        """First sample and one past the last that the windows of these frames touch; it may lie outside the sound."""
        starts = self.starts(first_frame, frames)
        return int(starts[0]), int(starts[-1]) + PITCH_SAMPLES

    def starts(self, first_frame: int, frames: int) -> NDArray[np.int64]:
        """First sample of each window, (frames * S,); windows are 40 ms wide around the middle of their part."""
        middle = (first_frame + (np.arange(frames * self.windows) + 0.5) / self.windows) / self.fps
        return np.round(middle * SAMPLE_RATE).astype(np.int64) - PITCH_SAMPLES // 2


@dataclass(frozen=True)
class Windows:
    """Raw measures of W windows: `power` (W, B) mel power, 1 = full-scale sine; `lag_hz` (W,) the best period as Hz;
    `harmonicity` (W,) normalised autocorrelation at that period, 1 for a periodic sound."""

    power: Double
    lag_hz: Double
    harmonicity: Double


def measure_windows(segment: Array, clock: Clock, first_frame: int, frames: int) -> Windows:
    """Measure the windows of `frames` frames in `segment`, which holds exactly the samples of `clock.span`.

    Pitch: peaks of the autocorrelation divided by that of the window (Boersma 1993, "Accurate short-term analysis of
    the fundamental frequency", eq. 9), with a small preference for short periods against octave errors.
    """
    starts = clock.starts(first_frame, frames)
    wide = sliding_window_view(segment, PITCH_SAMPLES)[starts - starts[0]].astype(np.float64)
    wide = wide - wide.mean(1, keepdims=True)

    margin = (PITCH_SAMPLES - SPECTRUM_SAMPLES) // 2
    spectrum = np.fft.rfft(wide[:, margin:-margin] * _SPECTRUM_WINDOW, SPECTRUM_FFT)
    power = (spectrum.real**2 + spectrum.imag**2) @ _FILTERS / (_SPECTRUM_WINDOW.sum() / 2.0) ** 2

    spectrum = np.fft.rfft(wide * _PITCH_WINDOW, PITCH_FFT)
    correlation = np.fft.irfft(spectrum.real**2 + spectrum.imag**2)
    lags = np.concatenate([_LAGS[:1] - 1, _LAGS, _LAGS[-1:] + 1])
    window = _PITCH_WINDOW_POWER[lags] / _PITCH_WINDOW_POWER[0]
    ratio = correlation[:, lags] / (correlation[:, :1] + 1e-9) / window
    inner = ratio[:, 1:-1]
    peak = (inner >= ratio[:, :-2]) & (inner > ratio[:, 2:])
    score = np.where(peak, inner - 0.04 * np.log2(_LAGS / _LAGS[0]), -1.0)
    best = score.argmax(1)
    row = np.arange(len(best))
    before, at, after = ratio[row, best], ratio[row, best + 1], ratio[row, best + 2]
    bend = before - 2.0 * at + after
    shift = np.where(bend < -1e-9, 0.5 * (before - after) / np.minimum(bend, -1e-9), 0.0)
    lag = _LAGS[best] + np.clip(shift, -0.5, 0.5)
    return Windows(power, SAMPLE_RATE / lag, np.where(score[row, best] > -1.0, np.clip(at, 0.0, 1.0), 0.0))


def decibel(power: Double) -> Double:
    """10 log10 of a power, not below -140 dB."""
    return 10.0 * np.log10(np.maximum(power, 10.0 ** (FLOOR_DB / 10.0)))


@dataclass(frozen=True)
class Levels:
    """What one pass over a recording says of the whole: all in dB of a full-scale sine.

    `speech_db` loudness of its loud parts; `threshold_db` what counts as speech begins here; `floor` (B,) mean power
    of the steady noise in each band; `pitch_hz` median of the voice. `silent`: nothing in it is speech.
    """

    speech_db: float
    threshold_db: float
    floor: Double
    pitch_hz: float
    silent: bool


@dataclass
class LevelMeter:
    """Histograms of a recording, fed block by block; their size does not depend on its length."""

    bands: NDArray[np.int64] = field(default_factory=lambda: np.zeros((BANDS, 161), np.int64))  # 1 dB from -140 to 20
    total: NDArray[np.int64] = field(default_factory=lambda: np.zeros(321, np.int64))  # 0.5 dB
    pitch: NDArray[np.int64] = field(default_factory=lambda: np.zeros(400, np.int64))  # 0.1 semitone above 60 Hz

    def add(self, windows: Windows, count: int) -> None:
        """Count the first `count` windows."""
        power = windows.power[:count]
        bins = np.clip(np.round(decibel(power) - FLOOR_DB), 0, 160).astype(np.int64) + 161 * np.arange(BANDS)
        self.bands += np.bincount(bins.ravel(), minlength=self.bands.size).reshape(self.bands.shape)
        loud = np.clip(np.round((decibel(power.sum(1)) - FLOOR_DB) * 2), 0, 320).astype(np.int64)
        self.total += np.bincount(loud, minlength=self.total.size)
        voiced = (windows.harmonicity[:count] > 0.8) & (decibel(power.sum(1)) > SILENT_DB)
        semitone = np.clip(120.0 * np.log2(windows.lag_hz[:count][voiced] / PITCH_HZ[0]), 0, 399).astype(np.int64)
        self.pitch += np.bincount(semitone, minlength=self.pitch.size)

    def levels(self) -> Levels:
        """Read the histograms."""
        windows = max(1, int(self.total.sum()))
        voiced = int(self.pitch.sum())
        pitch_hz = PITCH_HZ[0] * 2.0 ** (_percentile(self.pitch, 50) / 120.0) if voiced else 150.0
        # The 15th percentile of noise in one band lies about 6 dB under its mean (8 for one bin, 3 for ten).
        floor = np.array([10.0 ** ((_percentile(band, 15) + FLOOR_DB + 6.0) / 10.0) for band in self.bands])
        floor_db = float(decibel(floor.sum()))
        # Loud parts are judged among what stands out of the noise, so that one word in a minute of silence counts.
        standing_out = np.where(np.arange(len(self.total)) / 2 + FLOOR_DB > floor_db + 8.0, self.total, 0)
        loud = standing_out if standing_out.sum() > OUTSTANDING_WINDOWS else self.total
        speech_db = _percentile(loud, 93) / 2 + FLOOR_DB
        # A voice wanders in pitch; mains hum and test tones do not.
        wanders = _percentile(self.pitch, 90) - _percentile(self.pitch, 10) > 3
        silent = speech_db < SILENT_DB
        if speech_db - floor_db < 3.0:  # as loud in its quiet parts: steady noise, or a voice cut without any pause
            if voiced > 0.3 * windows and wanders:
                floor = np.zeros(BANDS)
                floor_db = FLOOR_DB
            else:
                silent = True
        threshold_db = max(speech_db - RANGE_DB, min(floor_db - 6.0, speech_db - 9.0), SILENT_DB - 12.0)
        return Levels(speech_db, threshold_db, floor, pitch_hz, silent)


def _percentile(histogram: NDArray[np.int64], percent: float) -> int:
    """The bin in which the given percentile of the counted values lies; 0 when nothing was counted."""
    total = np.cumsum(histogram)
    return int(np.searchsorted(total, max(1.0, total[-1] * percent / 100.0))) if total[-1] else 0


def frame_blocks(windows: Windows, levels: Levels, clock: Clock) -> dict[str, Array]:
    """Features of the frames whose windows these are, {name: (F, D)}; the context frames at both ends are less exact.

    energy: 0 at the threshold of speech, 1 at the loudness of the loud parts, in equal steps of dB, at most 1.3;
    fine (S): the same for each window of the frame; formants (S): the same for 500 to 3500 Hz alone, which falls when
    the mouth closes on a voiced sound. pitch: semitones above the voice's median, 0 where unvoiced.
    voicing, speech: [0, 1]. onset: [0, 1], how fast the spectrum rises, about 0.5 at the start of a stressed syllable.
    mel (64): dB relative to the loud parts, noise removed, -60 to about 0.
    """
    count = clock.windows
    frames = len(windows.power) // count
    # 1. Loudness and spectrum with the steady noise taken away.
    power = np.maximum(windows.power - 1.5 * levels.floor, 10.0 ** (FLOOR_DB / 10.0))
    span_db = levels.speech_db - levels.threshold_db
    fine = np.clip((decibel(power.sum(1)) - levels.threshold_db) / max(span_db, 1.0), 0.0, 1.3)
    between = (MEL_HZ > 500.0) & (MEL_HZ < 3500.0)
    formants = np.clip((decibel(power[:, between].sum(1)) - levels.threshold_db) / max(span_db, 1.0), 0.0, 1.3)
    if levels.silent:
        fine, formants = np.zeros_like(fine), np.zeros_like(formants)
    mean_power = power.reshape(frames, count, BANDS).mean(1)
    energy = np.clip((decibel(mean_power.sum(1)) - levels.threshold_db) / max(span_db, 1.0), 0.0, 1.3)
    energy = energy * (not levels.silent)
    mel = np.clip(decibel(mean_power) - levels.speech_db, -60.0, 20.0) if not levels.silent else None

    # 2. Voicing and pitch: a median over 50 ms removes lone octave errors.
    strength = np.clip((windows.harmonicity - 0.4) / 0.4, 0.0, 1.0) * np.clip(fine / 0.15, 0.0, 1.0)
    semitone = 12.0 * np.log2(windows.lag_hz / levels.pitch_hz)
    middle = np.median(sliding_window_view(np.pad(semitone, 2, mode="edge"), 5), axis=1)
    semitone = np.where(np.abs(semitone - middle) > 6.0, middle, semitone)
    weight = strength.reshape(frames, count) + 1e-6
    pitch = (semitone.reshape(frames, count) * weight).sum(1) / weight.sum(1)
    voicing = strength.reshape(frames, count).mean(1)
    pitch = np.where(voicing > 0.3, np.clip(pitch, -18.0, 18.0), 0.0)

    # 3. Onsets: rise of the compressed spectrum over 30 ms.
    compressed = np.maximum(decibel(power) - levels.speech_db + 45.0, 0.0)
    step = max(1, round(0.03 * clock.fps * count))
    rise = np.maximum(compressed[step:] - compressed[:-step], 0.0).mean(1)
    rise = np.concatenate([np.zeros(step), rise]) * (fine > 0.0)
    onset = np.clip(rise.reshape(frames, count).max(1) / 20.0, 0.0, 1.0)

    # 4. Speech: loud enough; gaps under 0.24 s (stop closures) are filled, lone clicks under 50 ms are dropped.
    loud = fine > 0.12
    radius = max(1, round(0.025 * clock.fps * count))
    kept = _spread(~_spread(~loud, radius), radius) | (loud & (strength > 0.5))
    gap = max(1, round(0.12 * clock.fps * count))
    speaking = ~_spread(~_spread(kept, gap), gap)
    speech = speaking.reshape(frames, count).mean(1)

    columns = {"energy": energy, "pitch": pitch, "voicing": voicing, "onset": onset, "speech": speech}
    blocks = {name: value[:, None].astype(np.float32) for name, value in columns.items()}
    blocks["fine"] = fine.reshape(frames, count).astype(np.float32)
    blocks["formants"] = formants.reshape(frames, count).astype(np.float32)
    blocks["mel"] = np.full((frames, BANDS), -60.0, np.float32) if mel is None else mel.astype(np.float32)
    return blocks


def _spread(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """True within `radius` of a true value (dilation); outside the ends counts as the end value."""
    return sliding_window_view(np.pad(mask, radius, mode="edge"), 2 * radius + 1).any(1)
