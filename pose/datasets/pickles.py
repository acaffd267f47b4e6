"""Pickle files of numbers, read without running what is in them.

A pickle is a program: loading it can call any function. Here only the names that NumPy's arrays and plain containers
need are known, and everything else is refused by name before anything runs.
"""

from __future__ import annotations

import codecs
import collections
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.core import multiarray


class _Refused(pickle.UnpicklingError):
    """The file asks for more than numbers."""


def _from_buffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    # How protocol 5 writes arrays.
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    # How protocol 2 writes bytes. Only this codec: others decompress or import.
    if codecs.lookup(encoding).name not in ("iso8859-1", "utf-8"):
        raise _Refused(f"bytes encoded as {encoding}")
    return text.encode(encoding)


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "complex"): complex,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytearray"): bytearray,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _KNOWN[_module, "_reconstruct"] = multiarray._reconstruct  # type: ignore[attr-defined]
    _KNOWN[_module.replace("multiarray", "numeric"), "_frombuffer"] = _from_buffer
    _KNOWN[_module, "scalar"] = multiarray.scalar  # type: ignore[attr-defined]


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module
        if (module, name) not in _KNOWN:
            raise _Refused(f"it wants to load {module}.{name}")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("it refers to objects outside the file")


def load_arrays(path: str | Path) -> Any:
    """What a pickle of arrays, numbers, strings and containers holds; ValueError for anything else."""
    try:
        return _ArrayUnpickler(io.BytesIO(Path(path).read_bytes()), encoding="latin1").load()
    except _Refused as error:
        raise ValueError(
            f"{path} was refused: {error}. Only NumPy arrays and plain values are read from pickles, because a pickle "
            "can run any code; if you trust the file, rewrite it as .npz"
        ) from None
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        AttributeError,
        MemoryError,
    ) as error:
        raise ValueError(f"{path} is not a whole pickle: {error or type(error).__name__}") from None
