"""Lip measures: a mouth made to follow the sound, then moved, frozen and exchanged; SyncNet's arithmetic and files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avatar.metrics.lips import detrended, lip_sync
from avatar.metrics.sync import SIDE, SyncNet, SyncScorer, mfcc, mouth_crop, sync_score

RNG = np.random.default_rng(8)


def voice(frames=250):
    """Loudness like syllables, five a second."""
    steps = RNG.normal(size=frames + 4)
    return np.convolve(steps, np.ones(5) / 5, "valid")


def test_a_mouth_that_follows_the_sound():
    loudness = voice()
    result = lip_sync(3 * loudness + 7, loudness, 25.0)
    assert result.correlation == pytest.approx(1) and result.lag_s == 0 and result.best == result.correlation
    assert len(result.curve) == len(result.lags_s) == 21


@pytest.mark.parametrize("late", [-6, -1, 4])
def test_lag_is_positive_where_the_mouth_is_late(late):
    loudness = voice()
    result = lip_sync(np.roll(loudness, late), loudness, 25.0)
    assert result.lag_s == pytest.approx(late / 25) and result.best > 0.95 > result.correlation


def test_noise_another_voice_and_half_a_second_make_it_worse():
    loudness = voice(1000)
    good = lip_sync(loudness, loudness, 25.0).correlation
    noisy = lip_sync(loudness + RNG.normal(size=1000), loudness, 25.0).correlation
    other = lip_sync(loudness, voice(1000), 25.0)
    assert good > noisy > 0.2 > abs(other.correlation)
    assert abs(lip_sync(np.roll(loudness, 13), loudness, 25.0).correlation) < 0.2


def test_trend_and_lost_faces_do_not_count():
    loudness = voice()
    opening = loudness + np.linspace(0, 30, 250)
    opening[50:60] = np.nan
    assert lip_sync(opening, loudness, 25.0).correlation > 0.95
    assert np.isnan(detrended(opening, 25.0)).sum() == 10
    assert detrended(np.full(50, 3.0), 25.0) == pytest.approx(0)


def test_what_says_nothing_is_refused():
    loudness = voice()
    with pytest.raises(ValueError, match="never changes"):
        lip_sync(np.full(250, 0.3), loudness, 25.0)
    with pytest.raises(ValueError, match="frames show a face"):
        lip_sync(np.full(250, np.nan), loudness, 25.0)
    with pytest.raises(ValueError, match="one clock"):
        lip_sync(loudness[:-1], loudness, 25.0)
    with pytest.raises(ValueError, match="NaN"):
        lip_sync(loudness, loudness * np.nan, 25.0)


def test_sync_score_finds_the_lag():
    sound = RNG.normal(size=(120, 32)).astype(np.float32)
    for late in (0, 3, -7):
        score = sync_score(np.roll(sound, late, axis=0), sound)
        assert score.lag == late and score.confidence > 1
    other = sync_score(RNG.normal(size=(120, 32)), sound)
    assert other.confidence < sync_score(sound, sound).confidence
    with pytest.raises(ValueError, match="longer clip"):
        sync_score(sound[:20], sound)


def test_mfcc_of_a_tone():
    """Golden: python_speech_features 0.6 gave the same to the last digit on noise with a pause. Renew only with it."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4000) / 16000).astype(np.float32)
    cepstra = mfcc(tone)
    assert cepstra.shape == (24, 13)
    expected = [20.4996, 26.0422, 9.4339, -7.5605]
    assert cepstra[3, :4] == pytest.approx(expected, abs=1e-3)
    assert np.isfinite(mfcc(np.zeros(100, np.float32))).all()


def test_syncnet_from_a_file(tmp_path):
    torch.manual_seed(0)
    model = SyncNet().eval()
    path = tmp_path / "syncnet.safetensors"
    save_file({n: v for n, v in model.state_dict().items() if "num_batches" not in n}, path)
    scorer = SyncScorer(path)
    crops = RNG.integers(0, 255, (6, SIDE, SIDE, 3)).astype(np.uint8)
    mouths = scorer.mouths(crops)
    with torch.inference_mode():
        clip = torch.from_numpy(crops[1:6, ..., ::-1].copy()).permute(3, 0, 1, 2)[None].float()
        assert mouths.shape == (2, 1024) and mouths[1] == pytest.approx(model.lips(clip)[0].numpy(), abs=1e-4)
        wave = RNG.normal(size=16000).astype(np.float32) * 0.1
        sounds = scorer.sound(wave)
        window = torch.from_numpy(mfcc(wave)[8:28].T.astype(np.float32))[None, None]
        assert sounds[2] == pytest.approx(model.audio(window)[0].numpy(), abs=1e-4)
    assert len(sounds) == 20  # 99 audio frames: 1 + (99 - 20) // 4
    with pytest.raises(ValueError, match="crops"):
        scorer.mouths(crops[:3])


def test_mouth_crop_holds_the_lower_face():
    """A face 100 high around (200, 200): the crop is 140 a side from (130, 150)."""
    image = np.zeros((400, 400, 3), np.uint8)
    image[150:290, 130:270] = 90
    face = np.array([[160, 150], [240, 250]], np.float32)
    crop = mouth_crop(image, face)
    assert crop.shape == (SIDE, SIDE, 3) and (crop[4:-4, 4:-4] == 90).all()
    assert mouth_crop(image, face - 160)[0, 0].tolist() == [110, 110, 110]
