"""Speech recordings in, features on the clock of the video out, as a stream of bounded memory.

Letters: N samples at 16 kHz, F video frames, D width of a block.

`open_speech` reads a recording once (any file libsndfile or ffmpeg decodes, any rate, any channels): it refuses what
cannot be used, counts the samples exactly and keeps a few histograms. `SpeechFile.features` reads it again and
yields `SpeechFeatures`. Both passes together take about 0.1 s for 10 s of speech.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pose.acoustics import SAMPLE_RATE, Clock, LevelMeter, Levels, frame_blocks, measure_windows

Array = NDArray[np.float32]

READ_SAMPLES = 1 << 16  # decoded at a time, per channel
MINIMUM_S = 0.1  # shorter than one syllable: a click or a broken export


@dataclass(frozen=True)
class SpeechFeatures:
    """Features of F frames. `blocks`: {name: (F, D) float32}, see `pose.acoustics.frame_blocks` for their meaning.

    `waveform` (N,) float32 16 kHz in [-1, 1]: the sound of these frames (the last frame may run past its end), or
    None. `fps` frames a second.
    """

    fps: float
    blocks: dict[str, Array]
    waveform: Array | None = None

    def __post_init__(self) -> None:
        lengths = {name: block.shape for name, block in self.blocks.items()}
        if not lengths or any(len(shape) != 2 for shape in lengths.values()):
            raise ValueError(f"blocks must be (F, D) arrays, at least one, got {lengths}")
        if len({shape[0] for shape in lengths.values()}) != 1:
            raise ValueError(f"all blocks must have the same number of frames, got {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.blocks.values())))

    def __getitem__(self, frames: slice) -> SpeechFeatures:
        """A range of frames; arrays are views."""
        start, stop, step = frames.indices(len(self))
        if step != 1:
            raise ValueError(f"features can be cut but not thinned: got a step of {step}")
        waveform = self.waveform
        if waveform is not None:
            waveform = waveform[round(start * SAMPLE_RATE / self.fps) : round(stop * SAMPLE_RATE / self.fps)]
        return replace(
            self, blocks={name: block[start:stop] for name, block in self.blocks.items()}, waveform=waveform
        )

    @staticmethod
    def join(parts: Sequence[SpeechFeatures]) -> SpeechFeatures:
        """Parts that follow each other as one."""
        if not parts:
            raise ValueError("nothing to join: pass at least one part")
        waves = [part.waveform for part in parts if part.waveform is not None]
        blocks = {name: np.concatenate([part.blocks[name] for part in parts]) for name in parts[0].blocks}
        return SpeechFeatures(parts[0].fps, blocks, np.concatenate(waves) if len(waves) == len(parts) else None)


def stream_features(
    chunks: Iterable[Array],  # (N,) each, 16 kHz mono, any sizes
    levels: Levels,
    fps: float = 25.0,
) -> Iterator[SpeechFeatures]:
    """Features of a recording that arrives in chunks, about four seconds at a time.

    The result does not depend on the sizes of the chunks. Holds about ten seconds of sound.
    """
    if not 1.0 <= fps <= 240.0:
        raise ValueError(f"fps must be between 1 and 240, got {fps}")
    clock = Clock(fps)
    for first, segment, samples in _segments(chunks, clock, clock.context):
        start, _ = clock.span(first - clock.context, clock.block + 2 * clock.context)
        windows = measure_windows(segment, clock, first - clock.context, clock.block + 2 * clock.context)
        blocks = frame_blocks(windows, levels, clock)
        frames = min(clock.block, clock.frames(samples) - first)
        inside = slice(clock.context, clock.context + frames)
        sound = slice(round(first * SAMPLE_RATE / fps), min(round((first + frames) * SAMPLE_RATE / fps), samples))
        yield SpeechFeatures(
            fps,
            {name: block[inside] for name, block in blocks.items()},
            segment[sound.start - start : sound.stop - start].copy(),
        )


def measure_levels(chunks: Iterable[Array]) -> Levels:
    """Loudness, noise floor and pitch of a whole 16 kHz mono recording, in one pass that keeps only histograms."""
    clock, meter = Clock(25.0), LevelMeter()
    for first, segment, samples in _segments(chunks, clock, 0):
        windows = measure_windows(segment, clock, first, clock.block)
        meter.add(windows, min(clock.block, clock.frames(samples) - first) * clock.windows)
    return meter.levels()


def speech_features(waveform: Array, fps: float = 25.0) -> SpeechFeatures:
    """Features of a 16 kHz mono waveform (N,) held in memory, the same as those of the stream."""
    if waveform.ndim != 1 or len(waveform) == 0:
        raise ValueError(f"waveform must be (N,) with N > 0, got {waveform.shape}; mix it to mono first")
    if not np.isfinite(waveform).all():
        raise ValueError("waveform holds NaN or infinite samples; export the recording again")
    waveform = waveform.astype(np.float32, copy=False)
    return SpeechFeatures.join(list(stream_features([waveform], measure_levels([waveform]), fps)))


def _segments(chunks: Iterable[Array], clock: Clock, context: int) -> Iterator[tuple[int, Array, int]]:
    """Cut a stream into the segments of its blocks: (first frame, samples of block and context, samples known so far).

    Outside the recording there are zeros. Segments always have the shape of `clock.span`. The number of samples is
    the final one whenever a block reaches past the end of the sound.
    """
    first, held_from = 0, 0
    held = np.zeros(0, np.float32)
    waiting = iter(chunks)
    ended = False
    while True:
        start, stop = clock.span(first - context, clock.block + 2 * context)
        parts, total = [held], held_from + len(held)
        while total < stop and not ended:
            chunk = next(waiting, None)
            ended = chunk is None
            if chunk is not None:
                parts.append(np.asarray(chunk, np.float32))
                total += len(chunk)
        held = np.concatenate(parts)
        if first >= clock.frames(total):
            return
        segment = np.zeros(stop - start, np.float32)
        low, high = max(start, held_from), min(stop, total)
        segment[low - start : high - start] = held[low - held_from : high - held_from]
        yield first, segment, total
        first += clock.block
        keep = max(0, clock.span(first - context, 1)[0])
        dropped = min(max(keep - held_from, 0), len(held))
        held, held_from = held[dropped:], held_from + dropped


@dataclass(frozen=True)
class SpeechFile:
    """A checked recording. `samples` at 16 kHz, `source_rate` Hz and `channels` of the file, `levels` of the whole.

    `decoder` "soundfile" or "ffmpeg"; `channel` the one that is used, None for the mean of all; `gain` 1, or less
    where the file exceeds full scale.
    """

    path: Path
    samples: int
    source_rate: int
    channels: int
    levels: Levels
    decoder: str
    channel: int | None = None
    gain: float = 1.0

    @property
    def duration_s(self) -> float:
        return self.samples / SAMPLE_RATE

    def frames(self, fps: float = 25.0) -> int:
        """Video frames that cover the sound."""
        return Clock(fps).frames(self.samples)

    def chunks(self) -> Iterator[Array]:
        """The recording as 16 kHz mono float32 in [-1, 1], a few seconds at a time."""
        return self._sound(None)

    def _sound(self, meter: _SoundMeter | None) -> Iterator[Array]:
        """`chunks`, seen by the meter before and after mixing.

        Parts come in fixed sizes and the resampler sees the same ones in every pass: all passes agree bit for bit.
        """
        resampler = None
        if self.source_rate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(self.source_rate, SAMPLE_RATE, 1, dtype="float32")
        parts = _decode(self.path, self.decoder)
        if meter is not None:
            parts = meter.watch(parts)
        for part in chain(parts, [None]):
            if part is not None:
                mono = part.mean(1, dtype=np.float32) if self.channel is None else part[:, self.channel].copy()
                mono *= np.float32(self.gain)
                mono = resampler.resample_chunk(mono) if resampler else mono
            elif resampler:
                mono = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            else:
                return
            if meter is not None and len(mono):
                meter.samples += len(mono)
                meter.peak = max(meter.peak, float(np.abs(mono).max()))
            if len(mono):
                yield mono

    def features(self, fps: float = 25.0) -> Iterator[SpeechFeatures]:
        """Features of the whole recording as a stream."""
        return stream_features(self.chunks(), self.levels, fps)


def open_speech(path: str | Path) -> SpeechFile:
    """Check a recording and measure its levels; ValueError with one line says what is wrong and what to do.

    The whole file is decoded once (about 8 s for 30 minutes): only so are the duration exact and the samples checked.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no such audio file: {path}; check the path")
    if not path.is_file():
        raise ValueError(f"{path} is not a file; pass one audio file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); record or export it again")
    decoder, rate, channels = _probe(path)

    speech = SpeechFile(path, 0, rate, channels, LevelMeter().levels(), decoder)
    meter = _SoundMeter(path, rate, channels)
    levels = measure_levels(speech._sound(meter))
    channel, gain = meter.cancelled(), 1.0 / max(meter.peak, 1.0)
    if channel is not None or gain < 1.0:  # rare: measure again what will really be used
        speech = replace(speech, channel=channel, gain=gain)
        meter = _SoundMeter(path, rate, channels)
        levels = measure_levels(speech._sound(meter))
        speech = replace(speech, gain=speech.gain / max(meter.peak, 1.0))
    if meter.samples == 0:
        raise ValueError(f"{path} holds no sound (0 samples); record or export it again")
    if meter.samples < MINIMUM_S * SAMPLE_RATE:
        raise ValueError(f"{path} lasts {1000 * meter.samples / SAMPLE_RATE:.0f} ms; pass at least {MINIMUM_S:g} s")
    return replace(speech, samples=meter.samples, levels=levels)


class _SoundMeter:
    """Looks at the decoded sound as it passes: counts, peak, broken samples, channels that cancel each other."""

    def __init__(self, path: Path, rate: int, channels: int) -> None:
        self.path, self.rate = path, rate
        self.samples = 0  # at 16 kHz, after mixing
        self.peak = 0.0
        self.power = np.zeros(channels)
        self.mixed_power = 0.0

    def watch(self, parts: Iterable[Array]) -> Iterator[Array]:
        seen = 0
        for part in parts:
            if not np.isfinite(part).all():
                at = (seen + int(np.flatnonzero(~np.isfinite(part).all(1))[0])) / self.rate
                raise ValueError(f"{self.path} holds NaN or infinite samples (first at {at:.2f} s); export it again")
            seen += len(part)
            wide = part.astype(np.float64)
            self.power += (wide**2).sum(0)
            self.mixed_power += (wide.mean(1) ** 2).sum()
            yield part

    def cancelled(self) -> int | None:
        """The loudest channel if mixing would lose 99 % of its power (one channel inverted), else None."""
        loudest = int(self.power.argmax())
        return loudest if self.mixed_power < 0.01 * self.power[loudest] else None


def _probe(path: Path) -> tuple[str, int, int]:
    """(decoder, sample rate, channels) of a recording; ValueError when neither library finds sound in it."""
    try:
        info = soundfile.info(str(path))
        if info.frames > 0:
            return "soundfile", int(info.samplerate), int(info.channels)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: .raw, which has no header
        pass
    source = _Ffmpeg(path)
    try:
        return "ffmpeg", source.rate, source.channels
    finally:
        source.close()


def _decode(path: Path, decoder: str) -> Iterator[Array]:
    """(n, channels) float32 parts at the file's own rate."""
    if decoder == "ffmpeg":
        source = _Ffmpeg(path)
        try:
            yield from source.parts()
        finally:
            source.close()
        return
    try:
        with soundfile.SoundFile(str(path)) as file:
            while len(part := file.read(READ_SAMPLES, dtype="float32", always_2d=True)):
                yield part
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} is damaged: {error}; export it again, for example as WAV") from error


class _Ffmpeg:
    """ffmpeg decoding a file to a pipe, as Sun AU: its 24-byte header tells rate and channels, then come floats."""

    def __init__(self, path: Path) -> None:
        import imageio_ffmpeg

        source = f"file:{path.resolve()}"  # "file:" so that no name is taken for an option or an address
        options = ["-nostdin", "-i", source, "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        try:
            program = imageio_ffmpeg.get_ffmpeg_exe()
            self._process = subprocess.Popen([program, *options], stdin=nothing, stdout=pipe, stderr=nothing)
        except (RuntimeError, OSError) as error:
            raise ValueError(f"{path} needs ffmpeg, which was not found; pip install imageio-ffmpeg") from error
        head = self._read(24)
        if len(head) < 24 or head[:4] != b".snd":
            self.close()
            raise ValueError(f"{path} is not audio that libsndfile or ffmpeg reads; pass a WAV, FLAC, MP3 or M4A file")
        offset, _, _, self.rate, self.channels = (int(v) for v in np.frombuffer(head[4:], ">u4"))
        self._read(offset - 24)

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(count)

    def parts(self) -> Iterator[Array]:
        """(n, channels) float32."""
        width = 4 * self.channels
        while len(data := self._read(READ_SAMPLES * width)) >= width:
            samples = np.frombuffer(data[: len(data) // width * width], ">f4").astype(np.float32)
            yield samples.reshape(-1, self.channels)

    def close(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()
