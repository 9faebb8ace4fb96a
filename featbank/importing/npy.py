"""Arrays in numpy's own formats: `.npy`, and `.npz`, which is a zip of them.

numpy's reader believes a header: a flipped bit in a shape is read as fewer rows. Here an array must
fill its file, or its member, exactly. Numbers are mapped where they lie; compressed ones pass
through memory as their rows are asked for.
"""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import weakref
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError
from featbank.files.archive import UNREADABLE, data_offset, prove_archive
from featbank.files.plain_files import open_regular
from featbank.files.plain_pickle import load_plain_pickle
from featbank.importing.budget import Budget
from featbank.importing.entries import Unusable, entry

__all__ = ["CompressedArray", "read_arrays", "read_npy", "read_npz"]

Array = NDArray[Any]

# numpy itself refuses longer headers, because parsing them takes long.
HEADER_BYTES = 10_000 + 12

PIECE = 1 << 20


@dataclass(frozen=True)
class Header:
    """What the header of a ``.npy`` says.

    Attributes
    ----------
    shape : tuple of int
        The array's shape.
    fortran : bool
        Whether it lies in Fortran order.
    dtype : numpy.dtype
        The type of its numbers.
    n_bytes : int
        Bytes that the header itself takes.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    n_bytes: int

    def check_size(self, size: int) -> None:
        """Refuse an array that does not fill its file exactly."""
        if self.n_bytes + math.prod(self.shape) * self.dtype.itemsize != size:
            message = f"shape {self.shape} of {self.dtype} is not what its {size:,} bytes hold"
            raise ValueError(message)


def read_header(head: bytes) -> Header:
    """Parse the header at the beginning of a ``.npy``; ValueError where it is none."""
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        message = f"version {version} of the format is for records, which are no features"
        raise ValueError(message)
    read = np.lib.format.read_array_header_1_0
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # numpy warns of headers that Python 2 wrote, and reads them well
        try:
            if version == (2, 0):
                read = np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
        except (SyntaxError, tokenize.TokenError, RecursionError, TypeError) as error:
            raise ValueError(str(error)) from error
    if any(isinstance(n, bool) or n < 0 for n in shape):
        message = f"its shape is {shape}"
        raise ValueError(message)
    return Header(shape, fortran, dtype, stream.tell())


def read_npy(path: Path, budget: Budget) -> dict[str, Any]:
    """Map a ``.npy``; its name is the file's: ``train_features.npy`` is train_features."""
    try:
        with open_regular(path) as handle:
            size = path.stat().st_size
            return {path.stem: map_array(handle, 0, size, budget)}
    except InputError:
        raise
    except UNREADABLE as error:
        message = f"{path} cannot be read as an .npy of a plain array ({error})"
        raise InputError(message) from error


def read_npz(path: Path, budget: Budget, *, compressed: bool = True) -> dict[str, Any]:
    """Map the arrays of an ``.npz`` whose members have all proved sound."""
    try:
        with open_regular(path) as handle:
            members = prove_archive(path, handle, compressed=compressed)
            content = {}
            for member in members:
                key = member.filename.removesuffix(".npy")
                if key in content:
                    message = f"{path} has two arrays of the name {key}"
                    raise InputError(message)
                content[key] = read_member(path, handle, member, budget)
    except InputError:
        raise
    except UNREADABLE as error:
        message = f"{path} cannot be read as an .npz archive of plain arrays ({error})"
        raise InputError(message) from error
    return content


def read_arrays(path: Path) -> dict[str, Array]:
    """Read the arrays of an uncompressed ``.npz`` into memory, all of them numbers or text.

    Raises
    ------
    MissingFileError, InputError
        It is missing, no regular file, damaged, compressed, or holds something else.
    """
    content = read_npz(path, Budget(0), compressed=False)
    for name, value in content.items():
        if isinstance(value, Unusable):
            message = f"{path}: {name} {value.why}"
            raise InputError(message)
    return {name: np.array(value) for name, value in content.items()}


def read_member(path: Path, handle: BinaryIO, member: zipfile.ZipInfo, budget: Budget) -> Any:
    """Return the array in a member of an archive: mapped, or to be decompressed as it is used.

    Parameters
    ----------
    path : Path
        What a message calls the archive.
    handle : binary file
        The archive, open.
    member : zipfile.ZipInfo
        The member, which `prove_archive` has found sound.
    budget : Budget
        Counts what has to be held in memory.
    """
    if not member.filename.endswith(".npy"):
        return Unusable("is no .npy array")
    try:
        if member.compress_type == zipfile.ZIP_STORED:
            start = data_offset(path, handle, member)
            return map_array(handle, start, member.file_size, budget)
        return packed_array(path, handle, member, budget)
    except InputError:
        raise
    except UNREADABLE as error:
        message = f"{path} cannot be read as an .npz: {member.filename} is no array ({error})"
        raise InputError(message) from error


def packed_array(path: Path, handle: BinaryIO, member: zipfile.ZipInfo, budget: Budget) -> Any:
    """Return the array in a deflated member; one of text objects is read at once.

    Parameters
    ----------
    path, handle, member, budget
        As `read_member` takes them.
    """
    with zipfile.ZipFile(handle) as archive, archive.open(member) as opened:
        header = read_header(opened.read(min(member.file_size, HEADER_BYTES)))
        if header.dtype.hasobject:
            budget.take(member.file_size, f"{path}: {member.filename}")
            opened.seek(header.n_bytes)
            return read_objects(opened.read(), header, budget)
    header.check_size(member.file_size)
    if header.dtype.kind not in "biufUS" or 0 in header.shape:
        return entry(np.empty((0, *header.shape[1:]), header.dtype), budget)
    return CompressedArray(path, member, header, budget)


def map_array(handle: BinaryIO, start: int, size: int, budget: Budget) -> Any:
    """Map the ``.npy`` that lies in a file; an array of text objects is read at once.

    Parameters
    ----------
    handle : binary file
        The file, open.
    start, size : int
        Where the ``.npy`` begins, and its bytes.
    budget : Budget
        Counts what has to be held in memory.

    Raises
    ------
    ValueError
        It is no ``.npy``, or its shape does not fill it exactly.
    """
    handle.seek(start)
    header = read_header(handle.read(min(size, HEADER_BYTES)))
    if header.dtype.hasobject:
        handle.seek(start + header.n_bytes)
        return read_objects(handle.read(size - header.n_bytes), header, budget)
    header.check_size(size)
    if not math.prod(header.shape) * header.dtype.itemsize:
        return entry(np.empty(header.shape, dtype=header.dtype), budget)
    mapped = np.memmap(
        handle,
        header.dtype,
        "r",
        offset=start + header.n_bytes,
        shape=header.shape,
        order="F" if header.fortran else "C",
    )
    return entry(mapped, budget)


def read_objects(raw: bytes, header: Header, budget: Budget) -> Any:
    """Read an array of Python objects: a pickle, of which only text is taken."""
    if header.dtype.kind != "O":
        return Unusable(f"is an array of records ({header.dtype})")
    try:
        found = entry(load_plain_pickle("it", io.BytesIO(raw), raw), budget)
    except InputError as error:
        return Unusable(f"is an array of Python objects that are no text ({error})")
    if not isinstance(found, np.ndarray) or found.shape != header.shape:
        return Unusable("is an array of Python objects that are not of its own shape")
    return found


class CompressedArray:
    """Numbers or text in a deflated member of an ``.npz``, decompressed as they are used.

    Slices that go forward are served without holding more than the slice. ``numpy.asarray`` gives
    the whole array, if it is of a size that the budget allows.

    Parameters
    ----------
    path : Path
        The archive.
    member : zipfile.ZipInfo
        The member that holds the array.
    header : Header
        What its header says.
    budget : Budget
        Counts the array where it is asked for as a whole.
    """

    def __init__(self, path: Path, member: zipfile.ZipInfo, header: Header, budget: Budget) -> None:
        self.path, self.member, self.header, self.budget = path, member, header, budget
        self.shape, self.dtype, self.ndim = header.shape, header.dtype, len(header.shape)
        self.by_rows = self.ndim > 0 and (self.ndim == 1 or not header.fortran)
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.stream: zipfile.ZipExtFile | None = None
        self.next_row = 0
        self.kept: Array | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        if not self.by_rows:
            return np.asarray(self)[rows]
        start, stop, _ = rows.indices(len(self))
        if self.stream is None or start < self.next_row:
            self.rewind()
        for first in range(self.next_row, start, max(1, PIECE // max(1, self.row_bytes))):
            self.read(min(start - first, max(1, PIECE // self.row_bytes)) * self.row_bytes)
        raw = self.read((stop - start) * self.row_bytes)
        self.next_row = stop
        if stop == len(self):
            self.close()
        return np.frombuffer(raw, self.dtype).reshape(stop - start, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.kept is None:
            size = math.prod(self.shape) * self.dtype.itemsize
            self.budget.take(size, f"{self.path}: {self.member.filename}")
            self.rewind()
            order = "F" if self.header.fortran else "C"
            self.kept = np.frombuffer(self.read(size), self.dtype).reshape(self.shape, order=order)  # type: ignore[call-overload]
            self.close()
        return np.asarray(self.kept, dtype=dtype)

    def rewind(self) -> None:
        """Go to the first row."""
        self.close()
        handle = open_regular(self.path)
        self.closer = weakref.finalize(self, handle.close)
        self.archive = zipfile.ZipFile(handle)
        self.stream = cast(zipfile.ZipExtFile, self.archive.open(self.member))
        self.next_row = 0
        self.read(self.header.n_bytes)

    def read(self, n_bytes: int) -> bytes:
        """Read on; the member was proved to have that many bytes."""
        raw = self.stream.read(n_bytes) if self.stream is not None else b""
        if len(raw) != n_bytes:
            message = f"{self.path} was changed while it was read"
            raise InputError(message)
        return raw

    def close(self) -> None:
        """Close the file."""
        if self.stream is not None:
            self.stream.close()
            self.closer()
            self.stream = None
