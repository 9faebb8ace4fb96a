"""Pickles of arrays and plain values, read by an unpickler that can build those and nothing else.

The feature files of the code of Kang et al. (ICLR 2020) are pickles. A pickle is a program; this
one may name what numpy's own arrays need, and is refused at the first name beyond, before anything
of it is run. What it names is never numpy's own either: the stand-ins below check every shape,
dtype and length before an array is made, and make it as a view of bytes that the file holds.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle  # noqa: TID251 - only to build the restricted reader below
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError
from featbank.files.opcodes import survey
from featbank.files.plain_files import open_regular

__all__ = ["load_plain_pickle", "read_plain_pickle"]

# The kinds of numbers, truth values, text and bytes. Objects ("O") are checked one by one.
DTYPE = re.compile(r"[<>=|]?([biufcSU][0-9]{1,9}|O8?)")


class Refused(Exception):
    """The pickle names something that is no array."""


class Name:
    """Stands for a class or function that a pickle names; nothing can be set on it."""

    __slots__ = ("stand_in",)

    def __init__(self, stand_in: Callable[..., Any] | None = None) -> None:
        self.stand_in = stand_in

    def __call__(self, *args: Any) -> Any:
        """Call the stand-in, where there is one."""
        if self.stand_in is None:
            message = "a class of arrays that is called"
            raise Refused(message)
        return self.stand_in(*args)

    def __setstate__(self, state: Any) -> None:
        """Refuse a state, which would change the reader itself."""
        message = "a name that is given a state"
        raise Refused(message)


ARRAY_CLASS = Name()


class PickledDtype:
    """Stands for a dtype of numbers or text."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not (isinstance(text, str) and DTYPE.fullmatch(text)):
            raise Refused(f"dtype {text!r:.60}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        """Take the byte order; refuse records, and another size than the name has."""
        _, order, subarray, names, fields, size, *_ = state
        if subarray or names or fields or size not in (-1, self.dtype.itemsize):
            message = "a dtype of records"
            raise Refused(message)
        if order in (">", b">"):
            self.dtype = self.dtype.newbyteorder(">")


class PickledArray:
    """Stands for an array; `array` is set by its state, once."""

    def __init__(self, array: NDArray[Any] | None = None) -> None:
        self.array = array

    def __setstate__(self, state: Any) -> None:
        """Build the array from what numpy pickles: version, shape, dtype, order and contents."""
        if self.array is not None:
            message = "an array that is built twice"
            raise Refused(message)
        _, shape, dtype, fortran, data = state
        self.array = build(data, dtype, shape, "F" if fortran else "C")


def build(data: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    """Return an array of bytes that a pickle holds, which must be as many as its shape says.

    Parameters
    ----------
    data : bytes, str or list
        The array's bytes; text where Python 2 wrote them, a list for an array of text objects.
    dtype : PickledDtype
        The type of its numbers.
    shape : int or tuple of int
        The array's shape.
    order : {"C", "F"}
        How it lies in memory.

    Raises
    ------
    Refused
        The pickle asks for something else, whatever that is.
    """
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(n) is int and n >= 0 for n in sizes) or order not in ("C", "F"):
        message = "an array of no shape"
        raise Refused(message)
    if not isinstance(dtype, PickledDtype):
        message = "an array of no dtype"
        raise Refused(message)
    if dtype.dtype.hasobject:
        return build_objects(data, sizes, order)
    raw = (
        data.encode("latin1") if isinstance(data, str) else data
    )  # text is how Python 2 wrote bytes
    if len(raw) != math.prod(sizes) * dtype.dtype.itemsize:
        message = "an array whose bytes are not as many as its shape says"
        raise Refused(message)
    return np.frombuffer(raw, dtype.dtype).reshape(sizes, order=order)  # type: ignore[call-overload, no-any-return]


def build_objects(data: Any, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """Return an array of objects, which must be text."""
    if not isinstance(data, list) or math.prod(shape) != len(data):
        message = "an array of objects whose list is not as long as its shape says"
        raise Refused(message)
    odd = next((each for each in data if not isinstance(each, (str, bytes))), None)
    if odd is not None:
        raise Refused(f"an array of objects of type {type(odd).__name__}")
    out = np.empty(len(data), dtype=object)
    out[:] = data
    return out.reshape(shape, order=order)  # type: ignore[call-overload, no-any-return]


def reconstruct(kind: Any, _shape: Any, _code: Any) -> PickledArray:
    """Stand in for numpy's making of an empty array, whose state follows."""
    if kind is not ARRAY_CLASS:
        raise Refused(str(kind))
    return PickledArray()


def from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    """Stand in for numpy's making of an array from its bytes, as protocol 5 does.

    Parameters
    ----------
    data, dtype, shape, order
        As `build` takes them; a pickle may give anything.
    """
    return PickledArray(build(data, dtype, shape, order))


def scalar(dtype: Any, data: Any) -> Any:
    """Stand in for numpy's making of a scalar from its bytes."""
    return build(data, dtype, (1,), "C")[0]


ALLOWED: dict[tuple[str, str], Name] = {
    ("numpy", "ndarray"): ARRAY_CLASS,
    ("numpy", "dtype"): Name(PickledDtype),
}
for _module in ("numpy.core", "numpy._core"):
    ALLOWED[f"{_module}.multiarray", "_reconstruct"] = Name(reconstruct)
    ALLOWED[f"{_module}.multiarray", "scalar"] = Name(scalar)
    ALLOWED[f"{_module}.numeric", "_frombuffer"] = Name(from_buffer)


class ArrayUnpickler(pickle.Unpickler):
    """Resolves only the names above.

    Parameters
    ----------
    handle : BinaryIO
        The pickle.
    n_bytes : int
        Its size. Old protocols spell bytes as text that a call encodes, and calling costs less
        than the text: what all calls make is bounded by this.
    """

    def __init__(self, handle: BinaryIO, n_bytes: int) -> None:
        super().__init__(handle, encoding="latin1")
        self.left = n_bytes

    def find_class(self, module: str, name: str) -> Name:
        """Return the stand-in for an allowed name."""
        if (module, name) == ("_codecs", "encode"):
            return Name(self.encode)
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise Refused(f"{module}.{name}") from None

    def encode(self, text: str, codec: str = "latin1") -> bytes:
        """Stand in for `_codecs.encode`, which old protocols use to spell bytes."""
        if codec not in ("latin1", "latin-1"):
            raise Refused(f"codec {codec!r:.60}")
        self.left -= len(text)
        if self.left < 0:
            message = "bytes that are made many times from one text"
            raise Refused(message)
        return text.encode("latin1")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to anything outside the file."""
        raise Refused(str(pid))


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dict of arrays, numbers, text and lists of those.

    Raises
    ------
    InputError
        The file is no pickle, asks for anything else or for far more memory than it has bytes;
        nothing of it was run.
    """
    with open_regular(path) as handle:
        try:
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as raw:
                content = load_plain_pickle(path, handle, raw)
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            message = f"{path} is no pickle of numpy arrays (it is empty)"
            raise InputError(message) from error
    if not isinstance(content, dict):
        message = f"{path} holds a {type(content).__name__}, not a dict of arrays"
        raise InputError(message)
    if len({str(key) for key in content}) < len(content):
        message = f"{path} has two entries of the same name"
        raise InputError(message)
    return {str(key): value for key, value in content.items()}


def load_plain_pickle(
    path: Path | str, handle: BinaryIO | io.BytesIO, raw: bytes | mmap.mmap
) -> Any:
    """Return what a pickle holds: `handle` reads what `raw` is, and `path` names it in messages."""
    try:
        with memoryview(raw) as view:
            end = survey(view).end
        if end != len(raw):
            message = f"{len(raw) - end:,} bytes follow its end"
            raise InputError(message)
    except InputError as error:
        message = f"{path} is no pickle of numpy arrays ({error})"
        raise InputError(message) from error
    try:
        return resolve(ArrayUnpickler(handle, len(raw)).load(), {})
    except Refused as error:
        message = f"{path} is a pickle of more than arrays ({error}); it was not run"
        raise InputError(message) from error
    except Exception as error:
        message = f"{path} is no pickle of numpy arrays ({type(error).__name__})"
        raise InputError(message) from error


def resolve(value: Any, known: dict[int, Any]) -> Any:
    """Put arrays in the place of their stand-ins, in dicts, lists and tuples too.

    `known` is what was put in the place of each container, so that one that is held many times is
    gone through once.
    """
    if isinstance(value, PickledArray):
        if value.array is None:
            message = "an array without contents"
            raise Refused(message)
        return value.array
    if isinstance(value, (PickledDtype, Name)):
        message = "a name where a value should be"
        raise Refused(message)
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) not in known:
        known[id(value)] = None  # raised for a container that holds itself
        parts = value.values() if isinstance(value, dict) else value
        found = [resolve(each, known) for each in parts]
        known[id(value)] = (
            dict(zip(value, found, strict=True)) if isinstance(value, dict) else found
        )
    return known[id(value)]
