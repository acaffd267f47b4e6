"""Pictures and sound of a clip as compact bytes and back: near lossless H.264, FLAC, JPEG.

The same frames give the same bytes: one encoder thread, no dates and no program names in the file.

Letters: F frames, H W image size, N samples.
"""

from __future__ import annotations

import io
import subprocess

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from avatar.video_io import find_ffmpeg

Image = NDArray[np.uint8]

# Ours: a talking person at 704 x 384 keeps 45 dB at 0.4 MB a second; chroma is whole, for lips and hands are small.
PICTURE = ("-pix_fmt", "yuv444p", "-crf", "10")
MATTE = ("-pix_fmt", "gray", "-crf", "10")
# Half a second between key frames: a reader that wants a few frames does not pay for a whole clip.
CODEC = ("-c:v", "libx264", "-preset", "veryfast", "-g", "12", "-threads", "1", "-bitexact")
PIPE = ("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-f", "mp4")  # ffmpeg cannot go back in a pipe
JPEG_QUALITY = 95


def encode_video(frames: Image, fps: float, options: tuple[str, ...] = PICTURE) -> bytes:
    """An MP4 of RGB frames (F, H, W, 3) or grey ones (F, H, W), uint8; H and W even."""
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[3] != 3):
        raise ValueError(f"frames must be uint8 (F, H, W, 3) or (F, H, W), got {frames.dtype} {frames.shape}")
    layout = "gray" if frames.ndim == 3 else "rgb24"
    source = ("-f", "rawvideo", "-pix_fmt", layout, "-s", f"{frames.shape[2]}x{frames.shape[1]}", "-r", f"{fps:g}")
    return _ffmpeg([*source, "-i", "pipe:0", *CODEC, *options, *PIPE], np.ascontiguousarray(frames).tobytes())


def decode_video(
    data: bytes, size: tuple[int, int], start: int = 0, stop: int | None = None, grey: bool = False
) -> Image:
    """Frames `start` to `stop` of what `encode_video` made, uint8 (f, H, W, 3), or (f, H, W) if `grey`."""
    shape = size if grey else (*size, 3)
    # Frames are chosen by number in a filter: seeking by time would round.
    chosen = f"select='gte(n,{start})" + ("'" if stop is None else f"*lt(n,{stop})'")
    limit = () if stop is None else ("-frames:v", str(max(stop - start, 0)))
    layout = ("-f", "rawvideo", "-pix_fmt", "gray" if grey else "rgb24")
    command = ["-threads", "1", "-i", "pipe:0", "-vf", chosen, "-fps_mode", "passthrough", *limit, *layout]
    return np.frombuffer(_ffmpeg(command, data), np.uint8).reshape(-1, *shape)


def encode_sound(waveform: NDArray[np.float32], sample_rate: int) -> bytes:
    """FLAC, 16 bits, of mono sound (N,) in [-1, 1]."""
    file = io.BytesIO()
    samples = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def decode_sound(data: bytes) -> NDArray[np.float32]:
    """Mono sound (N,) in [-1, 1]."""
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def encode_jpeg(image: Image) -> bytes:
    """RGB (H, W, 3) as JPEG."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    return cv2.imencode(".jpg", image[..., ::-1], quality)[1].tobytes()


def decode_jpeg(data: bytes | Image) -> Image:
    """RGB (H, W, 3)."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("a picture inside a clip is damaged; prepare the clip again")
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)


def _ffmpeg(arguments: list[str], data: bytes) -> bytes:
    command = [find_ffmpeg(), "-v", "error", "-nostats", *arguments, "pipe:1"]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(f"ffmpeg could not code a clip: {said[-1] if said else 'it stopped without a message'}")
    return done.stdout
