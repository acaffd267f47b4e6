"""The writer: exact frames and duration, sound, odd sizes, nothing left behind after a failure, disclosure."""

import re
import subprocess

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from avatar.video_io import VideoWriter, check_output


@pytest.fixture
def sound(tmp_path):
    path = tmp_path / "sound.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(44100 * 2) / 10)[:, None].repeat(2, 1), 44100)
    return path


def moving(frames, size):
    """Frames whose brightness counts up, so that order and number can be read back."""
    for k in range(frames):
        yield np.full((*size, 3), 20 + 4 * k, np.uint8)


def described(path):
    """What ffmpeg says of a file."""
    run = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True)
    return run.stderr


def stream_seconds(path, stream):
    """Seconds of one stream, by decoding it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-map", stream]
    command += ["-f", "null", "-progress", "pipe:1", "-"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(re.findall(r"out_time_us=(\d+)", run.stdout)[-1]) / 1e6


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mov", ".mkv"])
@pytest.mark.parametrize("frames", [30, 55])  # shorter and longer than the 2 s of sound
def test_frames_and_duration_are_exact(tmp_path, sound, suffix, frames):
    path = tmp_path / f"video{suffix}"
    with VideoWriter(path, (64, 96), 25, frames, sound) as writer:
        for frame in moving(frames, (64, 96)):
            writer.write(frame)
    back = imageio.imread(path)
    assert back.shape == (frames, 64, 96, 3)
    assert np.abs(back.mean((1, 2, 3)) - (20 + 4 * np.arange(frames))).max() < 3
    assert stream_seconds(path, "0:v:0") == pytest.approx(frames / 25, abs=0.001)
    assert stream_seconds(path, "0:a:0") == pytest.approx(frames / 25, abs=0.03)  # a packet of sound is 20-23 ms
    assert "AI-generated" in described(path)
    if suffix == ".mp4":
        assert "yuv420p" in described(path) and "aac" in described(path)


def test_ntsc_rate(tmp_path):
    with VideoWriter(tmp_path / "video.mp4", (64, 64), 30000 / 1001, 10) as writer:
        for frame in moving(10, (64, 64)):
            writer.write(frame)
    assert len(imageio.imread(tmp_path / "video.mp4")) == 10
    assert "29.97 fps" in described(tmp_path / "video.mp4")


def test_many_segments_are_one_video(tmp_path, sound):
    with VideoWriter(tmp_path / "video.mp4", (64, 64), 25, 50, sound, segment_frames=15) as writer:
        for frame in moving(50, (64, 64)):
            writer.write(frame)
    back = imageio.imread(tmp_path / "video.mp4")
    assert np.abs(back.mean((1, 2, 3)) - (20 + 4 * np.arange(50))).max() < 3
    assert stream_seconds(tmp_path / "video.mp4", "0:v:0") == pytest.approx(2.0, abs=0.001)


def test_a_broken_off_video_goes_on_from_its_last_segment(tmp_path, sound):
    frames = list(moving(50, (64, 64)))
    arguments = (tmp_path / "video.mp4", (64, 64), 25, 50, sound, "key", 15)
    with pytest.raises(KeyboardInterrupt), VideoWriter(*arguments) as writer:
        for frame in frames[:40]:
            writer.write(frame)
        raise KeyboardInterrupt
    assert not (tmp_path / "video.mp4").exists()
    with VideoWriter(*arguments) as writer:
        assert writer.written == 30
        for frame in frames[writer.written :]:
            writer.write(frame)
    resumed = (tmp_path / "video.mp4").read_bytes()
    with VideoWriter(*arguments) as writer:
        assert writer.written == 0
        for frame in frames:
            writer.write(frame)
    assert (tmp_path / "video.mp4").read_bytes() == resumed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sound.wav", "video.mp4"]


def test_odd_size_is_padded_not_refused(tmp_path):
    with VideoWriter(tmp_path / "video.mp4", (65, 97), 25, 3) as writer:
        for frame in moving(3, (65, 97)):
            writer.write(frame)
    assert imageio.imread(tmp_path / "video.mp4").shape == (3, 66, 98, 3)


def test_folder_of_png_is_lossless(tmp_path):
    frames = [np.random.default_rng(k).integers(0, 255, (33, 47, 3), np.uint8) for k in range(3)]
    with VideoWriter(tmp_path / "frames", (33, 47), 25, 3) as writer:
        for frame in frames:
            writer.write(frame)
    names = sorted((tmp_path / "frames").glob("*.png"))
    assert [name.name for name in names] == ["000000.png", "000001.png", "000002.png"]
    assert all((imageio.imread(name) == frame).all() for name, frame in zip(names, frames, strict=True))
    assert "AI-generated" in (tmp_path / "frames" / "ABOUT.txt").read_text()


def test_gif(tmp_path, sound):
    with VideoWriter(tmp_path / "video.gif", (64, 64), 25, 8, sound) as writer:
        for frame in moving(8, (64, 64)):
            writer.write(frame)
    assert len(imageio.imread(tmp_path / "video.gif", index=None)) == 8
    assert b"AI-generated" in (tmp_path / "video.gif").read_bytes()


@pytest.mark.parametrize("name", ["video.mp4", "frames"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, name):
    if name.endswith("mp4"):
        (tmp_path / name).write_bytes(b"old")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / name, (64, 64), 25, 100) as writer:
        for k, frame in enumerate(moving(100, (64, 64))):
            if k == 20:
                raise KeyboardInterrupt
            writer.write(frame)
    assert sorted(tmp_path.iterdir()) == before
    if name.endswith("mp4"):
        assert (tmp_path / name).read_bytes() == b"old"


def test_a_wrong_number_of_frames_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="3 frames were written and 5"),
        VideoWriter(tmp_path / "video.mp4", (64, 64), 25, 5) as writer,
    ):
        for frame in moving(3, (64, 64)):
            writer.write(frame)
    assert not list(tmp_path.iterdir())


def test_ffmpeg_says_why_it_failed(tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no sound in here")
    with (
        pytest.raises(OSError, match=r"could not write .*video.mp4: ."),
        VideoWriter(tmp_path / "video.mp4", (64, 64), 25, 500, tmp_path / "noise.wav") as writer,
    ):
        for _ in range(500):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["noise.wav"]


def test_check_output(tmp_path):
    check_output(tmp_path / "talking.mp4")
    check_output(tmp_path / "frames")
    for path, words in [
        (tmp_path / "absent" / "x.mp4", "does not exist"),
        (tmp_path / "x.avi2", "cannot write"),
        (tmp_path, "empty folder|is a folder"),
    ]:
        (tmp_path / "something").touch()
        with pytest.raises(ValueError, match=words):
            check_output(path)
