"""Windows of speech with a phone for every frame, made hard to hear: what the audio encoder learns from.

A folder is what train/speech_corpus.py or train/speech_labels.py makes. Every visit of a window cuts it elsewhere,
speaks it faster or slower (and higher or lower, with the whole vocal tract), puts it into a room, filters it and adds
noise or other people. All strengths are ours; the learned network must hear phones through laptop microphones.

Letters: N samples at 16 kHz, F frames (states of 20 ms), U utterances.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from avatar.models.audio_encoder import FIELD, SAMPLE_RATE, SPEECH_STRIDE
from pose.textgrid import Interval, read_textgrid
from train.phones import PHONES, labels_at

Array = NDArray[np.float32]
SPEED = (0.82, 1.22)  # of the tape: rate, pitch and vocal tract at once; a child to a large man
NOISE_DB = (3.0, 35.0)  # speech over noise
BABBLE_DB = (8.0, 30.0)
ROOM_S = (0.1, 0.8)  # reverberation time
KNOTS_HZ = np.array([60.0, 150.0, 400.0, 800.0, 1500.0, 2500.0, 4000.0, 6000.0, 8000.0])  # of a random filter


@dataclass(frozen=True)
class Labelled:
    """One utterance of a corpus."""

    path: Path
    voice: str
    split: str
    duration_s: float
    phones: tuple[Interval, ...]

    def sound(self, start_s: float, stop_s: float) -> Array:
        """Samples of a stretch of time; zeros outside the recording."""
        first, last = round(start_s * SAMPLE_RATE), round(stop_s * SAMPLE_RATE)
        begin = min(max(first, 0), round(self.duration_s * SAMPLE_RATE))
        sound, _ = soundfile.read(str(self.path), frames=max(last - begin, 0), start=begin, dtype="float32")
        return np.pad(sound, (begin - first, max(last - begin - len(sound), 0)))[: last - first]


def read_corpus(folder: str | Path) -> list[Labelled]:
    """The utterances (U) of a corpus; ValueError says what is missing."""
    folder = Path(folder)
    try:
        rows = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["utterances"]
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{folder} holds no corpus.json; make a corpus with train/speech_corpus.py") from None
    found = []
    for row in rows:
        path = folder / f"{row['name']}.flac"
        phones = read_textgrid(path.with_suffix(".TextGrid"))["phones"]
        if unknown := {phone.text for phone in phones} - {"", "?", *PHONES}:
            raise ValueError(
                f"{path.with_suffix('.TextGrid')} names {unknown}, which are no phones of train/phones.py"
            )
        found.append(Labelled(path, row["voice"], row["split"], float(row["duration_s"]), phones))
    return found


def frame_times(frames: int) -> NDArray[np.float64]:
    """The middle of what each state sees, seconds from the first sample (F,)."""
    return (np.arange(frames) * SPEECH_STRIDE + FIELD / 2) / SAMPLE_RATE


class SpeechWindows(Dataset):
    """Windows of F frames: "waveform" (N,) with mean 0 and variance 1, "labels" (F,) places in PHONES or UNKNOWN.

    An utterance has one window for every window's length of it. With `augment` they are cut at random places and made
    hard to hear; without, they are cut evenly and left as they are.
    """

    def __init__(self, utterances: Sequence[Labelled], frames: int, augment: bool) -> None:
        self.utterances, self.frames, self.augment = list(utterances), frames, augment
        self.samples = FIELD + SPEECH_STRIDE * (frames - 1)
        self.window_s = self.samples / SAMPLE_RATE
        self.places = [
            (number, part)
            for number, utterance in enumerate(self.utterances)
            for part in range(max(1, round(utterance.duration_s / self.window_s)))
        ]

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, index: int, generator: np.random.Generator) -> dict[str, Tensor]:
        number, part = self.places[index]
        utterance = self.utterances[number]
        speed = float(np.exp(generator.uniform(*np.log(SPEED)))) if self.augment else 1.0
        slack = utterance.duration_s - self.window_s * speed
        start = part * self.window_s
        if self.augment:
            start = generator.uniform(min(slack, 0.0) - 0.2, max(slack, 0.0) + 0.2)
        sound = self._window(utterance, start, speed)
        if self.augment:
            if generator.random() < 0.2:
                others = (self.utterances[int(i)] for i in generator.integers(len(self.utterances), size=2))
                voices = sum(self._window(o, generator.uniform(0, max(o.duration_s - 2, 0.1)), 1.0) for o in others)
                sound = mixed(sound, np.asarray(voices), generator.uniform(*BABBLE_DB))
            sound = roughened(sound, generator)
        labels = labels_at(utterance.phones, start + frame_times(self.frames) * speed)
        sound = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
        return {"waveform": torch.from_numpy(sound.astype(np.float32)), "labels": torch.from_numpy(labels)}

    def _window(self, utterance: Labelled, start: float, speed: float) -> Array:
        sound = utterance.sound(start, start + self.window_s * speed)
        if speed != 1.0:
            sound = soxr.resample(sound, SAMPLE_RATE * speed, SAMPLE_RATE, quality="LQ")
        return np.pad(sound, (0, max(self.samples - len(sound), 0)))[: self.samples]


def mixed(sound: Array, other: Array, ratio_db: float) -> Array:
    """`sound` (N,) with `other` that many dB below it."""
    gain = np.sqrt((sound**2).mean() / ((other**2).mean() + 1e-12)) * 10.0 ** (-ratio_db / 20.0)
    return (sound + gain * other).astype(np.float32)


def roughened(sound: Array, generator: np.random.Generator) -> Array:
    """A waveform (N,) through a random room, filter, noise and overdriven microphone; each comes at times."""
    size = scipy.fft.next_fast_len(len(sound) + int(ROOM_S[1] * SAMPLE_RATE), real=True)
    spectrum = scipy.fft.rfft(sound, size)
    hertz = np.linspace(1.0, SAMPLE_RATE / 2, len(spectrum), dtype=np.float32)

    # 1. Room: the direct sound and noise that dies away by 60 dB in the reverberation time.
    if generator.random() < 0.5:
        time = np.arange(int(ROOM_S[1] * SAMPLE_RATE)) / SAMPLE_RATE
        tail = generator.standard_normal(len(time), np.float32) * np.exp(-6.9 / generator.uniform(*ROOM_S) * time)
        tail *= 10.0 ** (generator.uniform(-20.0, 0.0) / 20.0) / np.sqrt((tail**2).sum())
        tail[0] += 1.0
        spectrum = spectrum * scipy.fft.rfft(tail.astype(np.float32), size)

    # 2. Filter: a smooth random curve, and the ends of the band cut off.
    gain_db = np.zeros(len(hertz), np.float32)
    if generator.random() < 0.7:
        gain_db += np.interp(hertz, KNOTS_HZ, generator.normal(0.0, 5.0, len(KNOTS_HZ)))
    if generator.random() < 0.2:
        gain_db -= 40.0 * np.clip(np.log2(hertz / generator.uniform(3000.0, 7500.0)), 0.0, 2.0)
    if generator.random() < 0.2:
        gain_db -= 24.0 * np.clip(np.log2(generator.uniform(80.0, 350.0) / hertz), 0.0, 3.0)
    rough = scipy.fft.irfft(spectrum * 10.0 ** (gain_db / 20.0), size)[: len(sound)]

    # 3. Noise: its power falls by 0 to 9 dB an octave.
    if generator.random() < 0.75:
        noise = generator.standard_normal((2, len(hertz)), np.float32) * (hertz + 30.0) ** -generator.uniform(0.0, 1.5)
        rough = mixed(
            rough, scipy.fft.irfft(noise[0] + 1j * noise[1], size)[: len(sound)], generator.uniform(*NOISE_DB)
        )

    # 4. Overdrive.
    if generator.random() < 0.1:
        rough = np.tanh(rough * generator.uniform(1.0, 4.0) / (np.abs(rough).max() + 1e-6))
    return rough.astype(np.float32)
