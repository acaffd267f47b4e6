"""Where the prior is sure it stays, corrections follow the picture, and every frame comes out once."""

import numpy as np
import pytest
import torch

from avatar import composite
from avatar.composite import Compositor
from avatar.warp.prior import Prior


def picture(shift: int) -> np.ndarray:
    """A textured picture moved `shift` pixels to the right."""
    rows, columns = np.mgrid[:96, :96].astype(np.float32)
    texture = (
        0.5 + 0.25 * np.sin((columns - shift) / 5) * np.cos(rows / 7) + 0.2 * np.sin((columns - shift + rows) / 11)
    )
    return np.repeat(texture[..., None], 3, axis=2).astype(np.float32)


def test_corrections_follow_the_picture():
    correction = np.zeros((96, 96, 3), np.float32)
    correction[40:56, 40:56] = 0.3
    moved = composite.carried(correction, picture(0), picture(6))
    wanted = np.roll(correction, 6, axis=1)
    assert np.abs(moved - wanted).mean() < 0.2 * np.abs(correction - wanted).mean()


def test_between_blends_both_neighbours():
    low, high = np.full((96, 96, 3), 0.1, np.float32), np.full((96, 96, 3), 0.5, np.float32)
    still = picture(0)
    blended = composite.between(still, (still, low), (still, high), 0.25)
    np.testing.assert_allclose(blended, 0.2, atol=1e-6)
    np.testing.assert_allclose(composite.between(still, (still, low), None, 0.25), 0.1, atol=1e-6)


def moving_prior(frames: int) -> Prior:
    pictures = np.stack([picture(2 * frame) for frame in range(frames)]).transpose(0, 3, 1, 2)
    confidence = torch.ones(frames, 1, 96, 96)
    confidence[..., :48] = 0
    return Prior(torch.from_numpy(np.ascontiguousarray(pictures)), confidence)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 6, 11])
def test_every_frame_comes_out_once_and_sure_pixels_are_the_priors(stride, frames):
    prior, step = moving_prior(frames), 2 * stride  # windows of two generated frames
    compositor, out = Compositor(stride), []
    for start in range(0, frames, step):
        part = Prior(prior.frames[start : start + step], prior.confidence[start : start + step])
        out += compositor.add(part.frames[::stride] * 0 + 0.5, part)
    out = torch.cat([*out, *compositor.finish()])
    assert out.shape == prior.frames.shape
    torch.testing.assert_close(out[..., 48:], prior.frames[..., 48:])
    torch.testing.assert_close(out[::stride, ..., :48], torch.full_like(out[::stride, ..., :48], 0.5))
    # Nothing was wrong with the prior but its left half's grey: frames between are corrected nearly as well.
    assert (out[..., :48] - 0.5).abs().mean() < 0.03


def test_without_composite_generated_frames_stand():
    prior, generated = moving_prior(3), torch.rand(3, 3, 96, 96)
    torch.testing.assert_close(next(Compositor(1, by_confidence=False).add(generated, prior)), generated)
    torch.testing.assert_close(next(Compositor().add(generated, None)), generated)
