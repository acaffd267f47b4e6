"""What measures accept: finite numbers of a known shape, and enough of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Double = NDArray[np.float64]


def finite(value: ArrayLike, name: str, *, dimensions: int | tuple[int, ...], least: int = 1) -> Double:
    """A float64 copy with one of the given numbers of dimensions, at least `least` entries along the first one.

    NaN and infinite values are refused: a mean over what is left would hide that a clip is broken.
    """
    array = np.array(value, np.float64)
    allowed = (dimensions,) if isinstance(dimensions, int) else dimensions
    if array.ndim not in allowed or array.size == 0:
        raise ValueError(f"{name} must have {' or '.join(map(str, allowed))} dimensions and values, got {array.shape}")
    if len(array) < least:
        raise ValueError(f"{name} has {len(array)} entries; at least {least} are needed")
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} holds NaN or infinite values, first at {place}")
    return array


def same_shape(first: Double, second: Double, names: str) -> None:
    """Refuse arrays of different shapes: cutting one to the other is a choice of the caller."""
    if first.shape != second.shape:
        raise ValueError(f"{names} must have one shape, got {first.shape} and {second.shape}; cut them to one length")


def known(variant: str, variants: tuple[str, ...]) -> None:
    """Refuse a variant that does not exist."""
    if variant not in variants:
        raise ValueError(f"variant must be one of {', '.join(variants)}, got {variant!r}")


def positive(value: float, name: str) -> None:
    """Refuse a rate, width or duration that is 0, negative or NaN: it would make a score of 0 or nonsense."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
