"""Chunks into arrays: in place, by threads, every one checked against the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featbank.files.plain_files import plain_size
from featbank.store.array_record import ArrayRecord
from featbank.store.chunks import ChunkRecord, damaged, read_chunk
from featbank.store.format_checks import chunk_bytes

__all__ = ["cast", "check_files", "check_sizes", "gather", "iterate", "read_into", "read_whole"]

# Two readers keep the disk and the checksum busy at once; more only compete for memory.
READERS = 2


def read_into(array: Path, record: ArrayRecord, out: NDArray[Any]) -> None:
    """Read all chunks of an array into place, converting where `out` has another dtype."""

    def one(index: int) -> None:
        chunk = record.chunks[index]
        file = record.file(array, index)
        read_rows(file, chunk, record, out[chunk.start : chunk.stop])

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(one, range(len(record.chunks))))


def read_whole(array: Path, record: ArrayRecord, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Return all rows of an array, in its own dtype or another."""
    check_sizes(array, record)
    out = np.empty(record.shape, dtype=record.dtype if dtype is None else dtype)
    read_into(array, record, out)
    return out


def read_rows(file: Path, chunk: ChunkRecord, record: ArrayRecord, target: NDArray[Any]) -> None:
    """Read the rows of one chunk.

    Parameters
    ----------
    file : Path
        The chunk's file.
    chunk : ChunkRecord
        The record of the chunk.
    record : ArrayRecord
        That of its array.
    target : ndarray of shape (stop - start, ...)
        Filled with the rows, converted to its dtype.

    Raises
    ------
    DamagedError
        The file is not what was written.
    """
    n_rows, row_shape = chunk.stop - chunk.start, record.row_shape
    same = target.dtype == record.dtype
    rows = target if same else np.empty((n_rows, *row_shape), dtype=record.dtype)
    padding = np.empty((record.chunk_rows - n_rows, *row_shape), dtype=record.dtype)
    read_chunk(file, chunk, rows, padding)
    if not same:
        convert(rows, target)


def convert(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy into another dtype; by torch, whose half-precision conversion is vectorised."""
    import torch

    torch.from_numpy(target).copy_(torch.from_numpy(source))


def cast(source: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array in another dtype, itself where it has it already."""
    if source.dtype == dtype:
        return source
    out = np.empty(source.shape, dtype=dtype)
    convert(source, out)
    return out


def check_sizes(array: Path, record: ArrayRecord) -> None:
    """Check that an array's chunks are plain files of their size, before memory is taken."""
    for index in range(len(record.chunks)):
        check_size(array, record, index)


def check_size(array: Path, record: ArrayRecord, index: int) -> None:
    """Check that one chunk is a plain file of its size."""
    file, expected = record.file(array, index), chunk_bytes(record)
    try:
        size = plain_size(array, file)
    except FileNotFoundError as error:
        raise damaged(file, record.chunks[index], "is missing") from error
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise damaged(file, record.chunks[index], what) from error
    if expected not in (None, size):
        what = f"holds {size} bytes instead of {expected}"
        raise damaged(file, record.chunks[index], what)


def check_files(array: Path, record: ArrayRecord) -> None:
    """Check the chunk files of an array of text, which zarr decodes itself."""
    check_sizes(array, record)
    for index, chunk in enumerate(record.chunks):
        file = record.file(array, index)
        raw = file.read_bytes()
        counted = int.from_bytes(raw[:4], "little") == record.chunk_rows
        if not counted or hashlib.sha256(raw).hexdigest() != chunk.sha256:
            raise damaged(file, chunk, "is not what was written")


def gather(array: Path, record: ArrayRecord, indices: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Read some rows; each chunk concerned is read and checked once.

    Parameters
    ----------
    array : Path
        The array's folder.
    record : ArrayRecord
        Its record.
    indices : ndarray of shape (n,), int64
        The rows, in any order.
    out : ndarray of shape (n, ...)
        Filled with them: out[i] is row indices[i].

    Raises
    ------
    DamagedError
        A file is not what was written.
    """
    chunk_of = indices // record.chunk_rows
    order = np.argsort(chunk_of, kind="stable")
    wanted, starts = np.unique(chunk_of[order], return_index=True)
    groups = np.split(order, starts)[1:]

    def one(item: tuple[int, NDArray[np.intp]]) -> None:
        index, places = item
        chunk = record.chunks[index]
        check_size(array, record, index)
        rows = np.empty((chunk.stop - chunk.start, *record.row_shape), dtype=record.dtype)
        read_rows(record.file(array, index), chunk, record, rows)
        out[places] = rows[indices[places] - chunk.start]

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(one, zip(wanted.tolist(), groups, strict=True)))


def iterate(array: Path, record: ArrayRecord) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row, rows) of each chunk in order, the next being read meanwhile."""

    def one(index: int) -> tuple[int, NDArray[Any]]:
        chunk = record.chunks[index]
        check_size(array, record, index)
        rows = np.empty((chunk.stop - chunk.start, *record.row_shape), dtype=record.dtype)
        read_rows(record.file(array, index), chunk, record, rows)
        return chunk.start, rows

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(one, 0)
        for index in range(1, len(record.chunks)):
            ready, ahead = ahead.result(), pool.submit(one, index)
            yield ready
        yield ahead.result()
