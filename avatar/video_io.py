"""Frames to files: H.264 or VP9 with sound, GIF, or a folder of PNGs, written as a stream and never half.

Everything is written under a temporary name beside the target and renamed at the end, so that a crash, a full disk or
Ctrl-C leaves what was there before. ffmpeg comes with the imageio-ffmpeg package. F frames, H W size.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

CONTAINERS = (".mp4", ".mov", ".mkv", ".webm", ".gif")
# Constant-quality settings, ours: visually lossless at 512 pixels and still 200 frames a second on two cores.
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "17", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1", "-crf", "28", "-b:v", "0")


def disclosure() -> str:
    """The sentence that every file of ours carries in its metadata."""
    from importlib.metadata import PackageNotFoundError, version

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
    if path.suffix:
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
    """

    def __init__(
        self, path: str | Path, size: tuple[int, int], fps: float, frames: int, audio: str | Path | None = None
    ) -> None:
        self.path, self.size, self.fps, self.frames = Path(path), size, fps, frames
        self.written = 0
        self.kind = self.path.suffix.lower()
        self._work = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        self._process: subprocess.Popen[bytes] | None = None
        if not self.kind:
            return
        self._log = open(self._work / "ffmpeg.log", "w+b")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            self._command(audio), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log
        )

    def _command(self, audio: str | Path | None) -> list[str]:
        height, width = self.size
        rate = str(Fraction(self.fps).limit_denominator(1001))
        command = [find_ffmpeg(), "-y", "-nostdin", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{width + width % 2}x{height + height % 2}", "-r", rate, "-i", "pipe:0"]
        sound = audio is not None and self.kind != ".gif"
        if sound:
            command += ["-i", str(audio), "-map", "0:v:0", "-map", "1:a:0", "-af", "apad"]
            command += ["-c:a", "libopus" if self.kind == ".webm" else "aac", "-b:a", "160k"]
        if self.kind == ".gif":
            # One palette a frame keeps memory flat; a shared palette would hold every frame until the end.
            command += ["-vf", "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"]
        elif self.kind == ".webm":
            command += [*VP9, "-pix_fmt", "yuv420p"]
        else:
            command += list(H264)
        command += ["-map_metadata", "-1", "-metadata", f"comment={disclosure()}", "-metadata", "encoder=Rhetor"]
        # The end is set by time for both streams: half a frame early, so that rounding never lets a frame slip.
        return [*command, "-t", f"{(self.frames - 0.001) / self.fps:.6f}", str(self._target())]

    def _target(self) -> Path:
        return self._work / f"video{self.kind}" if self.kind else self._work / "frames"

    def write(self, frame: Frame) -> None:
        """Append one frame (H, W, 3) uint8 RGB."""
        if frame.shape != (*self.size, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frames must be {(*self.size, 3)} uint8, got {frame.shape} {frame.dtype}")
        if self._process is None:
            self._target().mkdir(exist_ok=True)
            imageio.imwrite(self._target() / f"{self.written:06d}.png", frame, compress_level=3)
        else:
            height, width = self.size
            if height % 2 or width % 2:
                frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(np.ascontiguousarray(frame).data)
            except BrokenPipeError:
                raise OSError(f"could not write {self.path}: {self._reason()}") from None
        self.written += 1

    def _reason(self) -> str:
        """The last line ffmpeg said."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "ffmpeg stopped without a message"

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._process is not None:
                self._finish(failed=kind is not None)
            if kind is None:
                self._keep()
        finally:
            if self._process is not None:
                self._log.close()
            shutil.rmtree(self._work, ignore_errors=True)

    def _finish(self, failed: bool) -> None:
        assert self._process is not None and self._process.stdin is not None
        if failed:
            self._process.kill()
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            failed = True
        if self._process.wait() and not failed:
            raise OSError(f"could not write {self.path}: {self._reason()}")

    def _keep(self) -> None:
        if self.written != self.frames:
            raise ValueError(f"{self.written} frames were written and {self.frames} were announced")
        target = self._target()
        if self.kind == ".gif":
            _add_gif_comment(target, disclosure())
        if not self.kind:
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
