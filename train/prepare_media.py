"""Raw files by ffmpeg: what a file is, its frames at 25 a second, its cuts, its sound at 16 kHz; all as streams.

Every read names a start and a length, so that a file of hours is read in parts. Frames are upright (rotation metadata
is obeyed) and have square pixels. F frames, H W size, N samples.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar.data.clips import FPS, SAMPLE_RATE
from avatar.video_io import find_ffmpeg

Frame = NDArray[np.uint8]
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v", ".ts", ".mts", ".flv", ".wmv", ".ogv")
PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SCENE_SIDE = 256  # pixels across of what cuts are looked for in: noise averages out


@dataclass(frozen=True)
class Media:
    """A file: `height` and `width` as shown, `seconds` (0 of a photo), whether it has `sound`."""

    seconds: float
    height: int
    width: int
    sound: bool

    @property
    def photo(self) -> bool:
        return self.seconds == 0


def probe(path: Path) -> Media:
    """What ffmpeg says of a file; ValueError with the reason when it is not a video."""
    if not path.stat().st_size:
        raise ValueError("the file is empty")
    said = _said(["-hide_banner", "-i", str(path)])
    video = re.search(r"Stream #.*Video: .*?(\d{2,5})x(\d{2,5})(.*)", said)
    if video is None:
        problem = next(iter(_said(["-v", "error", "-i", str(path)]).splitlines()), "")
        problem = "it has no pictures" if "At least one output" in problem or not problem else plain(problem, path)
        raise ValueError(f"not a video that ffmpeg can read ({problem})")
    width, height = int(video[1]), int(video[2])
    shape = re.search(r"SAR (\d+):(\d+)", video[3])
    if shape and int(shape[1]) and int(shape[2]):
        width = max(2, round(width * int(shape[1]) / int(shape[2])))
    turned = re.search(r"rotation of (-?\d+(?:\.\d+)?) degrees", said)
    if turned and round(abs(float(turned[1]))) % 180 == 90:
        width, height = height, width
    return Media(_seconds(path, said), height, width, "Audio: " in said)


def read_frames(
    path: Path,
    start_s: float,
    seconds: float,
    size: tuple[int, int],  # (height, width) that the file is scaled to
    crop: tuple[int, int, int, int] | None = None,  # x, y, width, height within `size`
    errors: list[str] | None = None,  # complaints of the decoder are appended
) -> Iterator[Frame]:
    """Upright RGB frames (H, W, 3) at 25 a second, at most seconds · 25 of them, always the same ones."""
    chain = [f"fps={FPS:g}:start_time=0", f"scale={size[1]}:{size[0]}:flags=area,setsar=1"]
    height, width = size
    if crop is not None:
        x, y, width, height = crop
        chain.append(f"crop={width}:{height}:{x}:{y}:exact=1")
    output = ["-map", "0:v:0", "-vf", ",".join(chain), "-frames:v", str(round(seconds * FPS))]
    yield from _frames([*_section(path, start_s, seconds), *output], (height, width), errors)


def _frames(arguments: list[str], size: tuple[int, int], errors: list[str] | None) -> Iterator[Frame]:
    """Frames of an ffmpeg command without its output."""
    height, width = size
    command = [find_ffmpeg(), "-v", "error", "-nostdin", *arguments, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL) as process,
    ):
        assert process.stdout is not None
        try:
            while len(data := process.stdout.read(height * width * 3)) == height * width * 3:
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
        finally:
            process.stdout.close()
            process.terminate()  # where the reader wants no more; one that has ended does not mind
            process.wait()
        if errors is not None:
            log.seek(0)
            errors += log.read().decode(errors="replace").splitlines()


@dataclass(frozen=True)
class Scan:
    """`frames` of a part, the `cuts` before frames, and decoding `errors`."""

    frames: int
    cuts: list[int]
    errors: list[str]


class Scanner:
    """Reads a part once: every nth frame is given out, cuts are known afterwards (`result`)."""

    def __init__(
        self, path: Path, start_s: float, seconds: float, size: tuple[int, int], every: int, cut: float
    ) -> None:
        self._arguments = (path, start_s, seconds)
        self._size, self._every, self._cut = size, every, cut
        self.result: Scan | None = None

    def __iter__(self) -> Iterator[tuple[int, Frame]]:
        """(number, frame (H, W, 3)) of every nth frame."""
        path, start_s, seconds = self._arguments
        height, width = self._size
        errors: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            scores = Path(folder) / "scores.txt"
            graph = (
                f"[0:v:0]fps={FPS:g}:start_time=0,trim=end_frame={round(seconds * FPS)},split[a][b];"
                f"[a]scale={SCENE_SIDE}:-2:flags=area,scdet=threshold={self._cut:g},"
                f"metadata=mode=print:key=lavfi.scd.score:file='{scores}'[c];"
                f"[b]select='not(mod(n,{self._every}))',scale={width}:{height}:flags=area,setsar=1[d]"
            )
            command = [*_section(path, start_s, seconds), "-filter_complex", graph, "-map", "[c]", "-f", "null", "-"]
            frames = _frames([*command, "-map", "[d]", "-fps_mode", "passthrough"], self._size, errors)
            for number, frame in enumerate(frames):
                yield number * self._every, frame
            said = scores.read_text() if scores.exists() else ""
        values = [float(value) for value in re.findall(r"lavfi\.scd\.score=([\d.]+)", said)]
        cuts = [number for number, value in enumerate(values) if number and value >= self._cut]
        self.result = Scan(len(values), cuts, errors)


def read_sound(path: Path, start_s: float, seconds: float) -> NDArray[np.float32]:
    """16 kHz mono sound (N,) in [-1, 1] on the pictures' clock; shorter where the sound ends."""
    # Sound that begins after the pictures is preceded by silence, holes are filled: sample 0 is the start of pictures.
    output = ["-map", "0:a:0?", "-vn", "-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(SAMPLE_RATE)]
    command = [find_ffmpeg(), "-v", "error", "-nostdin", *_section(path, start_s, seconds), *output]
    done = subprocess.run([*command, "-f", "f32le", "pipe:1"], capture_output=True, stdin=subprocess.DEVNULL)
    samples = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], np.float32)[: round(seconds * SAMPLE_RATE)]
    return np.clip(np.nan_to_num(samples), -1, 1).astype(np.float32)


def shrunk(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width), even, with no side longer than `side`."""
    scale = min(1.0, side / max(height, width))
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def _section(path: Path, start_s: float, seconds: float) -> list[str]:
    # Half a second more than is wanted: the end is cut by number of frames, not by time.
    return ["-ss", f"{start_s:.3f}", "-t", f"{seconds + 0.5:.3f}", "-i", str(path)]


def _seconds(path: Path, said: str) -> float:
    """Duration; counted where the file does not say."""
    found = re.search(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", said)
    if found is None:
        said = _said(["-hide_banner", "-i", str(path), "-map", "0:v:0", "-c", "copy", "-f", "null", "-"])
        found = next(iter(reversed(list(re.finditer(r"time=(\d+):(\d\d):(\d\d(?:\.\d+)?)", said)))), None)
    if found is None:
        raise ValueError("not a video that ffmpeg can read (it has no duration)")
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def _said(arguments: list[str]) -> str:
    done = subprocess.run([find_ffmpeg(), *arguments], capture_output=True, stdin=subprocess.DEVNULL)
    return done.stderr.decode(errors="replace")


def plain(line: str, path: Path) -> str:
    """A line of ffmpeg's without addresses in memory and the path."""
    return re.sub(r"\[[^\]]* @ 0x[0-9a-f]+\] ", "", line).replace(f"{path}: ", "").strip()
