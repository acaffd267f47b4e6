"""Clips: what goes in comes out, near lossless where it is pictures."""

import dataclasses
import json

import numpy as np
import pytest

from avatar.data.clips import Clip, make_clip
from avatar.data.pixels import decode_video, encode_video
from pose.keypoints import Keypoints


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


@pytest.fixture(scope="module")
def clip(synthetic_clip):
    return synthetic_clip(1, frames=30, size=(64, 128), latent_channels=4, audio=(2, 4, 8))


def test_everything_survives(clip):
    again = Clip.from_files(clip.files())
    assert again.meta == clip.meta and again.files() == clip.files()
    for name in ("points", "clarity", "movement_box", "boxes", "latents", "audio_states"):
        assert np.array_equal(getattr(again, name), getattr(clip, name), equal_nan=True), name
    assert np.abs(again.confidence - clip.confidence).max() < 1e-3 and again.confidence.dtype == np.float32
    assert again.crops_jpeg == clip.crops_jpeg and again.crops(29).shape == (3, 16, 16, 3)
    assert abs(again.crops(0).astype(int) - 90).max() <= 2
    assert isinstance(again.keypoints, Keypoints) and again.keypoints.size == (64, 128) and again.keypoints.fps == 25
    assert len(again) == 30 and again.split == "train"


def test_extra_arrays_are_carried_and_ignored(clip):
    richer = dataclasses.replace(clip, extra={"normals": np.arange(6, dtype=np.int16).reshape(2, 3)})
    again = Clip.from_files(richer.files())
    assert np.array_equal(again.extra["normals"], richer.extra["normals"]) and again.extra["normals"].dtype == np.int16


def test_pictures_are_near_lossless_and_cut_by_number(clip, synthetic_clip):
    random = np.random.default_rng(0)
    smooth = np.cumsum(random.normal(0, 2, (20, 64, 128, 3)), axis=2) + 128
    frames = smooth.clip(0, 255).astype(np.uint8)
    data = encode_video(frames, 25.0)
    assert data == encode_video(frames, 25.0), "the same frames, the same bytes"
    found = decode_video(data, (64, 128))
    assert found.shape == frames.shape and min(psnr(a, b) for a, b in zip(found, frames, strict=True)) > 38
    assert abs(found.mean((0, 1, 2)) - frames.mean((0, 1, 2))).max() < 0.5, "colours do not shift"
    assert np.array_equal(decode_video(data, (64, 128), 13, 17), found[13:17])
    assert np.array_equal(clip.frames(13, 17), clip.frames()[13:17]) and clip.frames(-2).shape == (2, 64, 128, 3)
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, None], (3, 64, 256))
    assert (
        np.abs(
            decode_video(encode_video(ramp, 25.0, ("-pix_fmt", "gray", "-crf", "10")), (64, 256), grey=True).astype(
                int
            )
            - ramp
        ).max()
        <= 2
    )
    assert clip.mattes(28).shape == (2, 64, 128) and clip.mattes().max() > 250 and clip.mattes().min() < 5


def test_sound_and_audio_windows(clip, synthetic_clip):
    assert len(clip.waveform()) == 30 * 640 and len(clip.waveform(context=True)) == 35 * 640
    assert np.array_equal(clip.waveform(context=True)[5 * 640 :], clip.waveform())
    windows = clip.audio
    assert windows.shape == (30, 5, 4, 8)
    assert np.array_equal(windows[7, 2], clip.audio_states[7 + 2]) and np.array_equal(
        windows[0], clip.audio_states[:5]
    )
    silent = synthetic_clip(sound=False)
    assert silent.audio is None and "flac" not in silent.files()
    with pytest.raises(ValueError, match="silent"):
        silent.waveform()


def test_a_photo_is_a_clip_of_one_frame(synthetic_clip):
    photo = Clip.from_files(synthetic_clip(frames=1, sound=False).files())
    assert len(photo) == 1 and photo.frames().shape == (1, 64, 64, 3) and photo.mattes().shape == (1, 64, 64)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"split": "test"}, "one of train, val"),
        ({"key": "a.b"}, "neither dots"),
        ({"height": 60}, "multiples of 64"),
        ({"source": None}, "needs source"),
        ({"sound": False}, "sound=False"),
        ({"frames": 29}, r"points must be \(29"),
    ],
)
def test_wrong_clips_are_refused(clip, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(clip, meta={**clip.meta, **change})


def test_damaged_samples_are_refused(clip):
    files = clip.files()
    with pytest.raises(ValueError, match="lacks safetensors"):
        Clip.from_files({"json": files["json"], "mp4": files["mp4"]})
    with pytest.raises(ValueError, match="damaged"):
        Clip.from_files({**files, "safetensors": files["safetensors"][:100]})
    longer = json.dumps({**clip.meta, "frames": 31}).encode()
    with pytest.raises(ValueError, match="must be"):
        Clip.from_files({**files, "json": longer})
    cut = Clip.from_files({**files, "mp4": files["mp4"][: len(files["mp4"]) // 2]})
    with pytest.raises(ValueError, match="frames, not 30|could not code"):
        cut.frames()
    with pytest.raises(ValueError, match="too few"):
        make_clip(clip.meta, clip.frames(), None, np.zeros(100, np.float32))
