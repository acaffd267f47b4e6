"""Working sizes: multiples of 64, near the wanted area and the photo's shape."""

import numpy as np
import pytest

from avatar.sizes import crop_to_aspect, resize, working_size


@pytest.mark.parametrize("photo", [(1024, 1024), (4320, 7680), (1920, 1080), (64, 64), (640, 480), (333, 517)])
@pytest.mark.parametrize("side", [256, 512, 768])
def test_shape_and_area(photo, side):
    height, width = working_size(*photo, side)
    assert height % 64 == 0 and width % 64 == 0
    assert 0.7 < height * width / side**2 < 1.45
    assert abs(np.log(width / height / (photo[1] / photo[0]))) < np.log(1.14)


def test_published_sizes_are_their_own():
    assert working_size(640, 384, round((640 * 384) ** 0.5)) == (640, 384)
    assert working_size(768, 768, 768) == (768, 768)
    assert working_size(1000, 1000) == (512, 512)


def test_extreme_strips_stay_bounded():
    assert working_size(10000, 10)[0] <= 512 * 4


def test_crop_keeps_the_top_and_the_middle():
    image = np.arange(100 * 80 * 3).reshape(100, 80, 3).astype(np.uint8)
    assert (crop_to_aspect(image, (64, 64)) == image[:80]).all()
    assert (crop_to_aspect(image, (128, 64)) == image[:, 15:65]).all()
    assert resize(image, (64, 64)).shape == (64, 64, 3)


def test_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 64"):
        working_size(100, 100, 32)
