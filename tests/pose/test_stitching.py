"""Windows into a stream: each frame once, continuous over the overlap; smoothing whatever the pieces."""

import pytest
import torch
from scipy.signal import savgol_filter

from pose.stitching import Smoother, Stitcher, crossfade_weights


def stitched(windows, overlap, weights=None):
    weights = crossfade_weights(overlap) if weights is None else weights
    stitcher = Stitcher(torch.zeros(1, overlap, windows[0].shape[2]), weights)
    pieces = [stitcher.push(window) for window in windows]
    return torch.cat([*pieces, stitcher.tail], 1)


@pytest.mark.parametrize(("frames", "overlap", "count"), [(10, 2, 4), (8, 4, 3), (34, 4, 2), (9, 1, 1)])
def test_each_frame_exactly_once(frames, overlap, count):
    stride = frames - overlap
    time = torch.arange(count * stride + overlap, dtype=torch.float32)
    windows = [time[k * stride : k * stride + frames].view(1, -1, 1) for k in range(count)]
    torch.testing.assert_close(stitched(windows, overlap)[0, :, 0], time[overlap:], atol=1e-4, rtol=0)


def test_crossfade_spans_the_whole_overlap():
    """Between two constant windows the blend rises by one equal step a frame, the joins included."""
    overlap = 5
    result = stitched([torch.zeros(1, 20, 1), torch.ones(1, 20, 1)], overlap)[0, :, 0]
    steps = result.diff()
    moving = steps[steps != 0]
    assert len(moving) == overlap + 1
    torch.testing.assert_close(moving, torch.full((overlap + 1,), 1 / (overlap + 1)))
    weights = crossfade_weights(overlap)
    torch.testing.assert_close(weights + weights.flip(0), torch.ones(overlap))


def test_released_blend_is_one_frame():
    result = stitched([torch.zeros(1, 20, 1), torch.ones(1, 20, 1)], 5, crossfade_weights(5, "released"))[0, :, 0]
    assert sorted(set(result.tolist())) == [0.0, 0.5, 1.0] and (result == 0.5).sum() == 1


def test_windows_too_short_are_refused():
    with pytest.raises(ValueError, match="two overlaps of 4"):
        Stitcher(torch.zeros(1, 4, 1), crossfade_weights(4)).push(torch.zeros(1, 7, 1))


@pytest.mark.parametrize("pieces", [[60], [1] * 60, [3, 20, 7, 30], [14, 1, 45], [5, 4]])
def test_smoothing_a_stream_is_smoothing_the_whole(pieces):
    whole = torch.randn(2, sum(pieces), 3, generator=torch.Generator().manual_seed(0))
    smoother = Smoother(15, 2)
    parts = [smoother.push(piece) for piece in whole.split(pieces, 1)]
    result = torch.cat([*parts, smoother.finish()], 1)
    wanted = torch.as_tensor(savgol_filter(whole.double(), 15, 2, axis=1)).float() if sum(pieces) >= 15 else whole
    torch.testing.assert_close(result, wanted, atol=1e-5, rtol=0)


def test_the_face_is_not_smoothed_and_comes_with_its_frame():
    whole = torch.randn(1, 40, 5, generator=torch.Generator().manual_seed(0))
    smoother = Smoother(9, 2, width=3)
    result = torch.cat([*(smoother.push(piece) for piece in whole.split(7, 1)), smoother.finish()], 1)
    torch.testing.assert_close(result[..., 3:], whole[..., 3:])
    assert result[..., :3].diff(dim=1).norm() < 0.5 * whole[..., :3].diff(dim=1).norm()


def test_smoothing_of_nothing():
    assert Smoother().finish() is None
    with pytest.raises(ValueError, match="odd"):
        Smoother(8, 2)
