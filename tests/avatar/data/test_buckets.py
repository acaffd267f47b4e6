"""Buckets: the published table, and the nearest shape."""

import pytest

from avatar.data.buckets import bucket_sizes, nearest_bucket


def test_the_published_sizes():
    """facts: within 7 % of 640 x 384, aspect to 2.5."""
    expected = {
        (640, 384), (384, 640), (576, 448), (448, 576), (512, 512), (512, 448), (448, 512), (768, 320), (320, 768),
    }  # fmt: skip
    assert set(bucket_sizes((640 * 384) ** 0.5)) == expected


def test_nearest_shape():
    sizes = bucket_sizes(512)
    assert (512, 512) in sizes and all(h % 64 == 0 and w % 64 == 0 for h, w in sizes)
    assert nearest_bucket(100, 100, sizes) == (512, 512)
    assert nearest_bucket(1920, 1080, sizes) == (704, 384) and nearest_bucket(1080, 1920, sizes) == (384, 704)
    assert nearest_bucket(5000, 100, sizes) == sizes[0]
    assert bucket_sizes(64) == ((64, 64),)
    with pytest.raises(ValueError, match="no size of multiples of 64"):
        bucket_sizes(30)
