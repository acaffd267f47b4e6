"""Speech from text with the exact time of every phone, from two free programs: espeak-ng and flite.

espeak-ng is used through its library, whose events give the sample at which each phone begins: 500 times faster than
real time. flite is run as a program and prints where its phones end. Both come with most Linux distributions.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pose.textgrid import Interval
from train.phones import unified

SAMPLE_RATE = 16000
FLITE_VOICES = ("kal16", "awb", "rms", "slt")  # diphones, and three statistical voices of CMU ARCTIC's speakers
FLITE_HZ = {"kal16": 100.0, "awb": 120.0, "rms": 95.0, "slt": 170.0}  # about the pitch of each as it comes
CLOSURE_S = 0.06  # the longest closure of a stop: what is silent before the release that espeak-ng marks
CLOSURE_DB = -20.0  # of the peak of the phone before, which fades into the closure


@dataclass(frozen=True)
class Utterance:
    """What a voice said: waveform (N,) float32 16 kHz and its phones, without gaps."""

    waveform: NDArray[np.float32]
    phones: tuple[Interval, ...]

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / SAMPLE_RATE


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT of espeak-ng's speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_SYNCHRONOUS, _PHONEME_EVENTS_IPA, _PHONEME_EVENT, _UTF8 = 2, 3, 7, 1
_RATE, _PITCH = 1, 3  # espeak_PARAMETER


class Espeak:
    """espeak-ng's library. One instance a process; a voice is a language with a variant, such as en-us+f2."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
        except OSError:
            raise ValueError(
                "the library of espeak-ng was not found; install it (Debian and Ubuntu: apt install espeak-ng; "
                "macOS: brew install espeak-ng), or make the corpus with --programs flite"
            ) from None
        self.rate = int(self.library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_IPA))
        if self.rate <= 0:
            raise ValueError("espeak-ng could not start: its data folder is missing; install espeak-ng-data")
        self._sound: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _Callback(self._receive)  # kept: the library calls it later
        self.library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: ctypes._Pointer, count: int, events: ctypes._Pointer) -> int:
        if count > 0:
            self._sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
        place = 0
        while events[place].type:
            if events[place].type == _PHONEME_EVENT:
                self._events.append((events[place].sample, events[place].id.string.decode("utf-8", "ignore")))
            place += 1
        return 0

    def speak(self, text: str, voice: str, words_a_minute: int = 175, pitch: int = 50) -> Utterance:
        """Say a text. `pitch` 0 to 99; ValueError if there is no such voice or nothing to say."""
        language, _, variant = voice.partition("+")
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(
                f"espeak-ng has no voice {voice!r}; espeak-ng --voices lists {language}, and its variants"
            )
        self.library.espeak_SetParameter(_RATE, words_a_minute, 0)
        self.library.espeak_SetParameter(_PITCH, pitch, 0)
        self._sound, self._events = [], []
        data = text.encode()
        self.library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        sound = np.concatenate(self._sound) if self._sound else np.zeros(0, np.int16)
        if not self._events or not len(sound):
            raise ValueError(f"espeak-ng found nothing to say in {text[:40]!r}")
        waveform = soxr.resample(sound.astype(np.float32) / 32768.0, self.rate, SAMPLE_RATE)
        starts = [min(sample, len(sound)) / self.rate for sample, _ in self._events] + [len(sound) / self.rate]
        spans = [
            Interval(start, end, name)
            for (_, name), start, end in zip(self._events, starts[:-1], starts[1:], strict=True)
            if end > start
        ]
        return Utterance(waveform, unified(_with_closures(spans, waveform)))


def _with_closures(spans: list[Interval], waveform: NDArray[np.float32]) -> list[Interval]:
    """espeak-ng marks the release of p, t, k and ch; their closure, as anywhere else, belongs to the stop."""
    step = SAMPLE_RATE // 200
    for place in range(1, len(spans)):
        before, stop = spans[place - 1], spans[place]
        if not stop.text.startswith(("p", "t", "k")):
            continue
        earliest = max(stop.start - CLOSURE_S, 0.5 * (before.start + before.end) if before.text else before.start)
        end = round(stop.start * SAMPLE_RATE)
        loudest = max(float(np.abs(waveform[round(before.start * SAMPLE_RATE) : end]).max(initial=0.0)), 1e-3)
        quiet = loudest * 10.0 ** (CLOSURE_DB / 20.0) if before.text else 1.0
        while end - step >= earliest * SAMPLE_RATE and np.abs(waveform[end - step : end]).max() < quiet:
            end -= step
        edge = min(end / SAMPLE_RATE, stop.start)
        if edge > before.start:
            spans[place - 1], spans[place] = before._replace(end=edge), stop._replace(start=edge)
    return spans


def flite_program() -> str:
    """The path of flite; ValueError says where to get it."""
    program = shutil.which("flite")
    if program is None:
        raise ValueError(
            "flite was not found; install it (Debian and Ubuntu: apt install flite; macOS: brew install flite), or "
            "make the corpus with --programs espeak"
        )
    return program


def flite_speak(text: str, voice: str, stretch: float = 1.0, pitch_hz: float | None = None) -> Utterance:
    """Say a text with one of FLITE_VOICES; `stretch` makes every phone longer. About 0.3 s for a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        options = ["-voice", voice, "--setf", f"duration_stretch={stretch}"]
        options += ["--setf", f"int_f0_target_mean={pitch_hz}"] if pitch_hz is not None else []
        done = subprocess.run(
            [flite_program(), *options, "-psdur", "-t", text, "-o", str(path)],
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode or not path.exists():
            raise ValueError(f"flite could not say {text[:40]!r} with voice {voice}: {done.stderr.strip()[:80]}")
        waveform, rate = soundfile.read(str(path), dtype="float32")
    spans, start = [], 0.0
    for item in done.stdout.split():
        name, _, end = item.rpartition(":")
        spans.append(Interval(start, float(end), "" if name == "pau" else name.upper()))
        start = float(end)
    duration = len(waveform) / rate  # the last pause may be listed longer than it is
    spans = [span._replace(end=min(span.end, duration)) for span in spans]
    return Utterance(soxr.resample(waveform, rate, SAMPLE_RATE), unified(spans))
