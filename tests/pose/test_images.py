"""Reading photos: every mode arrives as upright 8-bit RGB, and what cannot be read is refused in one line."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pose.images import BACKDROP, load_image, read_video


@pytest.fixture(scope="module")
def picture():
    """(96, 128, 3): smooth, with four different corners, so that any turn or flip shows."""
    y, x = np.mgrid[0:96, 0:128]
    return np.stack([x * 2, y * 2, 255 - x - y], axis=2).astype(np.uint8)


def close(loaded, expected, tolerance=3.0):
    assert loaded.dtype == np.uint8 and loaded.shape == expected.shape
    assert np.abs(loaded.astype(float) - expected).mean() < tolerance


def test_png_is_exact(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert np.array_equal(load_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize("orientation, undo", [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_exif_orientation_is_respected(picture, tmp_path, orientation, undo):
    exif = Image.Exif()
    exif[274] = orientation
    stored = np.ascontiguousarray(np.rot90(picture, undo))
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=98)
    close(load_image(tmp_path / "a.jpg"), picture)


def test_transparency_is_laid_on_light_grey(picture, tmp_path):
    alpha = np.zeros((96, 128), np.uint8)
    alpha[:, :64] = 255
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png")
    assert np.array_equal(loaded[:, :64], picture[:, :64])
    assert (loaded[:, 64:] == BACKDROP).all()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(picture, tmp_path, mode):
    image = Image.fromarray(picture).convert("RGB" if mode == "LAB" else mode)
    name = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.tif" if mode in ("HSV", "LAB") else "a.png")
    if mode in ("HSV", "LAB"):
        image = image.convert("RGB")
    image.save(name)
    expected = np.asarray(image.convert("RGB"))
    close(load_image(name), expected, 6.0)


def test_sixteen_bits_keep_their_brightness(picture, tmp_path):
    grey = picture[..., 0].astype(np.uint16) * 257
    for name in ("a.png", "a.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        close(load_image(tmp_path / name), np.repeat(picture[..., :1], 3, axis=2), 0.01)


def test_float_tiff(picture, tmp_path):
    Image.fromarray(picture[..., 1].astype(np.float32) / 255).save(tmp_path / "a.tif")
    close(load_image(tmp_path / "a.tif"), np.repeat(picture[..., 1:2], 3, axis=2), 0.01)


def test_animation_gives_its_first_frame(picture, tmp_path):
    frames = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    close(load_image(tmp_path / "a.gif"), picture, 12.0)


def png_of_size(width, height):
    """A PNG whose header promises a size that its data does not have."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "content, problem",
    [
        (b"", "is empty"),
        (b"this is text", "not an image"),
        (png_of_size(10, 10), "only 10 x 10"),
        (png_of_size(9000, 9000), "shrink it"),
        (png_of_size(60000, 60000), "shrink it"),
        (png_of_size(200, 200), "damaged"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(tmp_path, content, problem):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=problem) as error:
        load_image(path)
    assert "\n" not in str(error.value) and ";" in str(error.value)


def test_truncated_missing_and_folder(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load_image(tmp_path / "cut.jpg")
    with pytest.raises(ValueError, match="no such image"):
        load_image(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="is a folder"):
        load_image(tmp_path)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="not a video"):
        next(read_video(tmp_path / "a.mp4", 25))
    with pytest.raises(ValueError, match="no such video"):
        next(read_video(tmp_path / "b.mp4", 25))
