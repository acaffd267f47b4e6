"""Frames to files: H.264 or VP9 with sound, GIF, or a folder of PNGs, written as a stream and never half.

Frames are encoded in segments of a minute inside a work folder beside the target; at the end the segments are joined
with the sound and the result is renamed into place. A crash, a full disk or Ctrl-C leaves what was there before, and a
long video can go on from its last whole segment. ffmpeg comes with the imageio-ffmpeg package. H W size.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

CONTAINERS = (".mp4", ".mov", ".mkv", ".webm", ".gif")
SEGMENT_FRAMES = 1500  # one minute at 25 fps: what an interruption can cost (ours)
# Constant-quality settings, ours: visually lossless at 512 pixels and still 200 frames a second on two cores.
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "17", "-pix_fmt", "yuv420p")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1", "-crf", "28", "-b:v", "0",
       "-pix_fmt", "yuv420p")  # fmt: skip
# One palette a frame keeps memory flat; a shared palette would hold every frame until the end.
GIF = ("-vf", "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1")


def disclosure() -> str:
    """The sentence that every file of ours carries in its metadata."""
    try:
        release = version("rhetor")
    except PackageNotFoundError:  # run from a source tree that was never installed
        release = "from source"
    return f"AI-generated video: made from one photo and one recording by Rhetor {release}."


def find_ffmpeg() -> str:
    """Path of the ffmpeg program; ValueError with the remedy when there is none."""
    try:
        program = shutil.which(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        program = None
    if program is None:
        raise ValueError(
            "ffmpeg was not found; reinstall the imageio-ffmpeg package or set IMAGEIO_FFMPEG_EXE to an ffmpeg program"
        )
    return program


def check_output(path: str | Path) -> None:
    """Refuse a target that cannot be written, before any work is done. A path without a suffix is a PNG folder."""
    path = Path(path)
    if path.suffix and path.suffix.lower() not in CONTAINERS:
        raise ValueError(f"cannot write {path.suffix} files; use one of {', '.join(CONTAINERS)} or a folder for PNGs")
    if path.suffix and path.is_dir():
        raise ValueError(f"{path} is a folder; name a file inside it")
    if not path.suffix and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not an empty folder; name a new folder or a file such as talking.mp4")
    check_folder(path.parent)
    find_ffmpeg()


def check_folder(folder: Path) -> None:
    """Refuse a folder that is missing or not writable."""
    if not folder.is_dir():
        raise ValueError(f"the output folder {folder} does not exist; make it first or name another")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"the output folder {folder} is not writable ({error.strerror}); name another") from None


class VideoWriter:
    """Writes frames one by one; a context manager that keeps the file only when the block ends without an error.

    `path`: the suffix decides: .mp4 .mov .mkv (H.264 yuv420p and AAC), .webm (VP9 and Opus), .gif (no sound), none for
    a folder of PNGs. `size` (height, width) of the frames; odd sizes get their last row or column repeated, because
    yuv420p has no odd sizes. `frames`: how many will come; the sound is cut or padded with silence to exactly
    frames / fps seconds, and closing after another number raises. `audio`: any file with sound that ffmpeg reads.
    `key`: names the work that makes the frames. With a key, whole segments outlive a failure, and the next writer with
    the same path and key starts with `written` > 0: the caller skips that many frames. What it needs for that beside
    its inputs it may save whenever a segment is whole, by setting `save_state`; `state` is then the file to read.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float,
        frames: int,
        audio: str | Path | None = None,
        key: str | None = None,
        segment_frames: int = SEGMENT_FRAMES,
    ) -> None:
        self.path, self.size, self.fps, self.frames, self.audio = Path(path), size, fps, frames, audio
        self.kind = self.path.suffix.lower()
        joinable = self.kind not in ("", ".gif")
        self.resumable = key is not None and joinable
        self._segment_frames = segment_frames if joinable else frames
        if self.resumable:
            self._work = self.path.parent / f".{self.path.name}.{key}.part"
            self._work.mkdir(exist_ok=True)
        else:
            self._work = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        self.written = min(len(self._segments()) * self._segment_frames, frames)
        self.save_state: Callable[[Path], None] | None = None
        self._encoder: subprocess.Popen[bytes] | None = None
        self._log = open(self._work / "ffmpeg.log", "w+b")  # noqa: SIM115 - closed in __exit__

    @property
    def state(self) -> Path:
        """Where `save_state` wrote when the last whole segment was closed."""
        return self._work / f"state_{len(self._segments()) - 1:06d}.safetensors"

    def write(self, frame: Frame) -> None:
        """Append one frame (H, W, 3) uint8 RGB."""
        if frame.shape != (*self.size, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frames must be {(*self.size, 3)} uint8, got {frame.shape} {frame.dtype}")
        if self.written >= self.frames:
            raise ValueError(f"{self.frames} frames were announced and one more came")
        if self.kind:
            self._encode(frame)
        else:
            (self._work / "frames").mkdir(exist_ok=True)
            imageio.imwrite(self._work / "frames" / f"{self.written:06d}.png", frame, compress_level=3)
        self.written += 1
        if self.kind and (self.written % self._segment_frames == 0 or self.written == self.frames):
            self._close_segment()

    def _encode(self, frame: Frame) -> None:
        if self._encoder is None:
            self._encoder = subprocess.Popen(
                self._segment_command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log
            )
        height, width = self.size
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        assert self._encoder.stdin is not None
        try:
            self._encoder.stdin.write(np.ascontiguousarray(frame).data)
        except BrokenPipeError:
            raise self._failure() from None

    def _segment_command(self) -> list[str]:
        height, width = self.size
        command = [find_ffmpeg(), "-y", "-nostdin", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{width + width % 2}x{height + height % 2}", "-r", self._rate(), "-i", "pipe:0"]
        command += GIF if self.kind == ".gif" else VP9 if self.kind == ".webm" else H264
        return [*command, str(self._work / f"open{self._segment_suffix()}")]

    def _rate(self) -> str:
        return str(Fraction(self.fps).limit_denominator(1001))

    def _segment_suffix(self) -> str:
        return ".gif" if self.kind == ".gif" else ".mp4"

    def _segments(self) -> list[Path]:
        return sorted(self._work.glob("segment_*"))

    def _close_segment(self) -> None:
        assert self._encoder is not None and self._encoder.stdin is not None
        try:
            self._encoder.stdin.close()
        except BrokenPipeError:
            raise self._failure() from None
        if self._encoder.wait():
            raise self._failure()
        self._encoder = None
        number, before = len(self._segments()), self.state
        if self.resumable and self.save_state is not None:
            self.save_state(self._work / f"state_{number:06d}.safetensors")
        name = f"segment_{number:06d}{self._segment_suffix()}"
        os.replace(self._work / f"open{self._segment_suffix()}", self._work / name)
        before.unlink(missing_ok=True)  # only now: what was whole stays whole

    def _failure(self) -> OSError:
        """An error with the last line that ffmpeg said."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return OSError(f"could not write {self.path}: {lines[-1] if lines else 'ffmpeg stopped without a message'}")

    def _join(self) -> Path:
        """Join the segments, add sound and metadata; the finished file inside the work folder."""
        target = self._work / f"video{self.kind}"
        listing = self._work / "segments.txt"
        listing.write_text("".join(f"file '{segment.name}'\n" for segment in self._segments()))
        command = [find_ffmpeg(), "-y", "-nostdin", "-v", "error", "-f", "concat", "-i", str(listing)]
        if self.audio is not None:
            command += ["-i", str(Path(self.audio).resolve()), "-map", "0:v:0", "-map", "1:a:0", "-af", "apad"]
            command += ["-c:a", "libopus" if self.kind == ".webm" else "aac", "-b:a", "160k"]
            # The end of the sound: a thousandth of a frame early, so that rounding cannot add a frame.
            command += ["-t", f"{(self.frames - 0.001) / self.fps:.6f}"]
        command += ["-c:v", "copy", "-map_metadata", "-1", "-metadata", f"comment={disclosure()}"]
        if self.kind in (".mp4", ".mov"):
            command += [
                "-movflags",
                "+faststart",
                "-video_track_timescale",
                str(Fraction(self._rate()).numerator * 512),
            ]
        if subprocess.run([*command, str(target)], stdin=subprocess.DEVNULL, stderr=self._log).returncode:
            raise self._failure()
        return target

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        keep_work = self.resumable  # a failure from here on may be mended and the work taken up again
        try:
            if self._encoder is not None:
                self._encoder.kill()
                self._encoder.wait()
            if kind is None:
                self._finish()
                keep_work = False
        finally:
            self._log.close()
            if not (keep_work and self._segments()):
                shutil.rmtree(self._work, ignore_errors=True)

    def _finish(self) -> None:
        if self.written != self.frames:
            raise ValueError(f"{self.written} frames were written and {self.frames} were announced")
        if self.kind == ".gif":
            target = self._segments()[0]
            _add_gif_comment(target, disclosure())
        elif self.kind:
            target = self._join()
        else:
            target = self._work / "frames"
            (target / "ABOUT.txt").write_text(f"{disclosure()}\n{self.frames} frames at {self.fps:g} a second.\n")
            if self.path.is_dir():
                self.path.rmdir()  # empty: check_output saw to it
        os.replace(target, self.path)


def _add_gif_comment(path: Path, text: str) -> None:
    """Put a comment extension before the trailer (GIF89a specification, section 24)."""
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        data = text.encode("ascii")[:255]
        file.write(b"\x21\xfe" + bytes([len(data)]) + data + b"\x00\x3b")
