"""Reading any photo as plain 8-bit RGB, upright, in bounded memory; what cannot be read is refused in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MIN_SIDE = 64  # below it no face can be located well enough to be animated
MAX_PIXELS = 8192 * 8192  # "8K" squared; larger files are decompression bombs or scans that nobody needs here
BACKDROP = 238  # light grey behind transparent pixels: neutral for skin, hair and cloth


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """The picture as uint8 RGB (H, W, 3), turned upright by its EXIF orientation.

    Transparency is composited on light grey; grey, palette, CMYK, 16-bit (scaled by 257) and float images (clipped to
    [0, 1] if they stay within it, else scaled by their maximum) become RGB; of an animation the first frame is taken.
    ValueError, one line with a remedy: missing, not an image, damaged, smaller than 64 pixels or above 67 megapixels.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no such image: {path}; check the path")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give one image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's doubts about size and metadata; the size is judged below
            image = Image.open(path)
        with image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{path} has {width} x {height} pixels; shrink it to at most 8192 x 8192")
            if min(width, height) < MIN_SIDE:
                raise ValueError(
                    f"{path} is only {width} x {height} pixels; give a photo of at least {MIN_SIDE} x {MIN_SIDE}"
                )
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                image.draft(image.mode, (4096, 4096))  # decode very large JPEGs at 1/2, 1/4 or 1/8, never below 4096
            image.seek(0)
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright)
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        problem = "is empty" if empty else "is not an image this program can read"
        raise ValueError(f"{path} {problem}; give a PNG, JPEG, WebP, TIFF, BMP or GIF") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} is too large to open safely; shrink it to at most 8192 x 8192") from None
    except PermissionError:
        raise ValueError(f"{path} cannot be opened: permission denied; make it readable") from None
    except (OSError, SyntaxError, EOFError) as error:  # Pillow raises SyntaxError for broken PNG chunks
        raise ValueError(f"{path} is damaged or incomplete ({error}); save or download it again") from None


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 RGB of a decoded PIL image of any mode."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(image).astype(np.float32)
        if not np.isfinite(values).all():
            values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        top = float(values.max())
        full = 65535.0 if image.mode != "F" and top > 255 else 255.0 if image.mode != "F" else max(1.0, top)
        grey = (np.clip(values / full, 0, 1) * 255 + 0.5).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        layer = image.convert("RGBA")
        backdrop = Image.new("RGBA", layer.size, (BACKDROP,) * 3 + (255,))
        return np.asarray(Image.alpha_composite(backdrop, layer).convert("RGB")).copy()
    return np.asarray(image.convert("RGB")).copy()


def read_video(path: str | Path, fps: float, max_side: int = 1280) -> Iterator[NDArray[np.uint8]]:
    """Upright frames of a video at `fps`, uint8 RGB (H, W, 3), one at a time, no side longer than `max_side`.

    Frames are repeated or left out to reach `fps` (ffmpeg's fps filter). ValueError: no such file, not a video.
    """
    import imageio_ffmpeg

    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)  # it warns of every video that carries a rotation
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such video: {path}; check the path")
    reader = imageio_ffmpeg.read_frames(str(path), output_params=["-an", "-vf", f"fps={fps}"])
    try:
        width, height = next(reader)["size"]
    except (OSError, RuntimeError, StopIteration, KeyError):
        raise ValueError(f"{path} is not a video that ffmpeg can read; convert it to mp4") from None
    scale = min(1.0, max_side / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    for data in reader:
        frame = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        yield frame if scale == 1 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
