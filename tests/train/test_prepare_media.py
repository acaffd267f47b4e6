"""Raw files by ffmpeg: what they are, the same frames in every way of reading, cuts, sound in time, damage."""

import subprocess

import numpy as np
import pytest

from avatar.video_io import find_ffmpeg
from train.prepare_media import Scanner, probe, read_frames, read_sound, shrunk


def ffmpeg(*arguments):
    subprocess.run([find_ffmpeg(), "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Four seconds at 30 a second: grey that grows by one every frame, and by 84 at 2 s; a click at 1 s."""
    path = tmp_path_factory.mktemp("media") / "grey.mp4"
    picture = "color=black:s=160x96:r=30:d=4,geq=lum='if(lt(T,2),16,100)+N':cb=128:cr=128"
    sound = "aevalsrc='if(between(t,1,1.01),0.9,0)':s=44100:d=4"
    ffmpeg(
        "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-c:v", "libx264", "-qp", "0", "-c:a", "aac", path
    )
    return path


def test_what_a_file_is(video, tmp_path):
    media = probe(video)
    assert (media.height, media.width, media.sound) == (96, 160, True) and abs(media.seconds - 4) < 0.1
    silent, turned, narrow = (tmp_path / name for name in ("silent.mkv", "turned.mp4", "narrow.mp4"))
    ffmpeg("-i", video, "-c", "copy", "-an", silent)
    assert not probe(silent).sound and len(read_sound(silent, 0, 4)) == 0
    ffmpeg("-display_rotation", "90", "-i", video, "-c", "copy", turned)
    assert (probe(turned).height, probe(turned).width) == (160, 96)
    assert next(read_frames(turned, 0, 1, (160, 96))).shape == (160, 96, 3)
    ffmpeg("-i", video, "-vf", "setsar=2/1", "-an", narrow)
    assert (probe(narrow).height, probe(narrow).width) == (96, 320), "pixels twice as wide as high"


def test_files_that_are_none(tmp_path, video):
    for name, content, reason in (
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"hello", "not a video"),
        ("cut.mp4", video.read_bytes()[:1500], "not a video .*moov atom not found"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=reason) as error:
            probe(tmp_path / name)
        assert "\n" not in str(error.value) and "0x" not in str(error.value)
    ffmpeg("-i", video, "-vn", tmp_path / "sound.mp4")
    with pytest.raises(ValueError, match="has no pictures"):
        probe(tmp_path / "sound.mp4")


def test_frames_are_the_same_however_they_are_read(video):
    whole = list(read_frames(video, 0, 4, (96, 160)))
    assert len(whole) == 100
    levels = np.array([frame.mean() for frame in whole])
    assert abs(np.diff(levels[:49]).mean() - 30 / 25 * 255 / 219) < 0.05, "25 of 30 frames a second, in even steps"
    again = list(read_frames(video, 1.2, 0.8, (96, 160)))
    assert len(again) == 20 and all(np.array_equal(a, b) for a, b in zip(again, whole[30:50], strict=True))
    part = next(read_frames(video, 0, 1, (96, 160), (10, 20, 30, 41)))
    assert part.shape == (41, 30, 3) and np.array_equal(part, whole[0][20:61, 10:40])
    scanner = Scanner(video, 0, 4, (96, 160), 12, 10.0)
    seen = list(scanner)
    assert [number for number, _ in seen] == list(range(0, 100, 12))
    assert all(np.array_equal(frame, whole[number]) for number, frame in seen)
    assert scanner.result.frames == 100 and scanner.result.cuts == [50] and scanner.result.errors == []


def test_sound_is_on_the_pictures_clock(video, tmp_path):
    sound = read_sound(video, 0, 4)
    assert abs(np.argmax(np.abs(sound) > 0.2) / 16000 - 1) < 0.01 and abs(len(sound) - 64000) < 800
    later = read_sound(video, 0.52, 2)
    assert abs(np.argmax(np.abs(later) > 0.2) / 16000 - 0.48) < 0.01 and len(later) == 32000
    # A recording whose sound begins half a second after its pictures
    ffmpeg(
        "-i",
        video,
        "-itsoffset",
        "0.5",
        "-i",
        video,
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c",
        "copy",
        tmp_path / "late.mkv",
    )
    late = read_sound(tmp_path / "late.mkv", 0, 4)
    assert abs(np.argmax(np.abs(late) > 0.2) / 16000 - 1.5) < 0.02


def test_damage_is_counted(video, tmp_path):
    damaged = tmp_path / "damaged.mpg"
    ffmpeg("-i", video, "-vf", "noise=alls=30:allf=t", "-c:v", "mpeg2video", "-an", damaged)
    data, random = bytearray(damaged.read_bytes()), np.random.default_rng(0)
    for place in random.integers(5000, len(data), 300):
        data[place] = int(random.integers(256))
    damaged.write_bytes(data)
    scanner = Scanner(damaged, 0, 4, (96, 160), 12, 10.0)
    list(scanner)
    assert scanner.result.frames > 50 and len(scanner.result.errors) > 4


def test_shrunk_keeps_the_shape():
    assert shrunk(1920, 1080, 1280) == (1280, 720) and shrunk(100, 60, 1280) == (100, 60)
    assert all(side % 2 == 0 for side in shrunk(1081, 1921, 500))
