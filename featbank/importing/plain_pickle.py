"""Pickles of numpy arrays, read by an unpickler that can build those and nothing else.

The feature files of the code of Kang et al. (ICLR 2020) are pickles. A pickle is a program; this
one may call the five constructors that numpy's own arrays need, and is refused at the first name
beyond them, before anything of it is run.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - only to build the restricted reader below
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from featbank.errors import InputError

__all__ = ["read_plain_pickle"]

# A pickle has no header to check a size against, so the file itself is bounded.
MOST_BYTES = 64 << 30


class Refused(Exception):
    """The pickle names something that is no array."""


def latin1(text: str, codec: str = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, which old protocols use to spell bytes."""
    if codec not in ("latin1", "latin-1"):
        raise Refused(codec)
    return text.encode("latin1")


def reconstruct(kind: Any, shape: Any, code: Any) -> Any:
    """Stand in for numpy's empty array, of just that class."""
    if kind is not np.ndarray:
        raise Refused(str(kind))
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def plain_dtype(*args: Any) -> np.dtype[Any]:
    """Build a dtype of numbers or text; an object dtype could hold anything."""
    dtype: np.dtype[Any] = np.dtype(*args)
    if dtype.hasobject:
        raise Refused(str(dtype))
    return dtype


def scalar(dtype: np.dtype[Any], data: bytes) -> Any:
    """Build a numpy scalar from its bytes."""
    return np.frombuffer(data, dtype=plain_dtype(dtype), count=1)[0]


def from_buffer(data: Any, dtype: np.dtype[Any], shape: Any, order: str) -> Any:
    """Build an array from its bytes, as protocol 5 does."""
    return np.frombuffer(data, dtype=plain_dtype(dtype)).reshape(shape, order=order)  # type: ignore[call-overload]


ALLOWED: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): plain_dtype,
    ("_codecs", "encode"): latin1,
}
for _module in ("numpy.core", "numpy._core"):
    ALLOWED[f"{_module}.multiarray", "_reconstruct"] = reconstruct
    ALLOWED[f"{_module}.multiarray", "scalar"] = scalar
    ALLOWED[f"{_module}.numeric", "_frombuffer"] = from_buffer


class ArrayUnpickler(pickle.Unpickler):
    """Resolves only the names above."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for an allowed name."""
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to anything outside the file."""
        raise Refused(str(pid))


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dict of numpy arrays.

    Raises
    ------
    InputError
        The file is no pickle, or asks for anything but arrays; nothing of it was run.
    """
    if path.stat().st_size > MOST_BYTES:
        message = f"{path} is larger than {MOST_BYTES >> 30} GiB; convert it to .npy files"
        raise InputError(message)
    try:
        with path.open("rb") as handle:
            content = ArrayUnpickler(handle).load()
    except Refused as error:
        message = f"{path} is a pickle of more than arrays ({error}); it was not run"
        raise InputError(message) from error
    except Exception as error:
        message = f"{path} is no pickle of numpy arrays ({type(error).__name__})"
        raise InputError(message) from error
    if not isinstance(content, dict):
        message = f"{path} holds a {type(content).__name__}, not a dict of arrays"
        raise InputError(message)
    return {str(key): np.asarray(value) for key, value in content.items() if plain(value)}


def plain(value: Any) -> bool:
    """Tell whether a value is an array, or a list of numbers that makes one."""
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    return isinstance(value, list) and all(isinstance(each, (int, float)) for each in value)
