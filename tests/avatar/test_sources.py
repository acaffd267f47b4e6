"""What drives a video is read together, and what does not fit together is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.sources import Sources
from avatar.warp.prior import Prior
from pose.keypoints import COUNT, Keypoints

SIZE = (64, 64)


def keypoints(frames: int, **changes) -> Keypoints:
    points = np.arange(frames, dtype=np.float32)[:, None, None] * np.ones((1, COUNT, 2), np.float32)
    return replace(Keypoints(points, np.ones((frames, COUNT), np.float32), SIZE, 25.0), **changes)


def prior(frames: int) -> Prior:
    return Prior(torch.arange(frames)[:, None, None, None].expand(-1, 3, *SIZE), torch.ones(frames, 1, *SIZE))


def tokens(frames: int) -> torch.Tensor:
    return torch.arange(frames)[:, None, None].expand(-1, 2, 4)


def parts(whole, *sizes: int):
    start = 0
    for size in sizes:
        yield (
            whole[slice(start, start + size)]
            if not isinstance(whole, Prior)
            else Prior(whole.frames[start : start + size], whole.confidence[start : start + size])
        )
        start += size


def test_pieces_stay_together():
    sources = Sources(parts(tokens(9), 4, 5), parts(keypoints(9), 1, 8), parts(prior(9), 7, 2), SIZE, 25.0)
    pieces = []
    while (piece := sources.take(4)) is not None:
        pieces.append(piece)
    assert [piece.frames for piece in pieces] == [4, 4, 1]
    assert torch.cat([piece.audio for piece in pieces])[:, 0, 0].tolist() == list(range(9))
    assert torch.cat([piece.prior.frames for piece in pieces])[:, 0, 0, 0].tolist() == list(range(9))
    assert np.concatenate([piece.keypoints.points for piece in pieces])[:, 0, 0].tolist() == list(range(9))


def test_sound_may_be_longer_or_end_a_frame_early():
    assert Sources([tokens(20)], [keypoints(9)], None, SIZE, 25.0).take(20).frames == 9
    sources = Sources([tokens(8)], [keypoints(9)], None, SIZE, 25.0)
    assert sources.take(8).audio[-1, 0, 0] == 7 and sources.take(8).audio[-1, 0, 0] == 7


def test_frames_cut_or_give_the_length():
    assert Sources([tokens(20)], None, None, SIZE, 25.0, frames=5).take(12).frames == 5
    silent = Sources(None, None, None, SIZE, 25.0, frames=5)
    assert [silent.take(3).frames, silent.take(3).frames, silent.take(3)] == [3, 2, None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, None, None), "how long the video is"),
        ((None, [keypoints(5)], [prior(4)]), "prior ends after 4 frames and the keypoints after 5"),
        (([tokens(3)], [keypoints(5)], None), "sound ends after 3 frames and the video has at least 5"),
        ((None, [keypoints(5, size=(32, 32))], None), "Keypoints.resized"),
        ((None, [keypoints(5, fps=30.0)], None), "30 frames a second and the model 25; resample"),
        ((None, None, [Prior(torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, 32, 32))]), "the photo's size"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Sources(*given, SIZE, 25.0).take(8)
