"""One chunk, one file: its rows in C order, then their crc32c. Written and read in place."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from featbank.errors import DamagedError, FeatbankError, StorageError
from featbank.files.atomic import open_new
from featbank.store.schema import CRC_BYTES

__all__ = ["ChunkRecord", "chunk_file", "digest_file", "read_chunk", "write_chunk"]

Array = NDArray[Any]

PIECE = 1 << 18  # bytes read, then summed, at a time: it fits the second-level cache


@dataclass(frozen=True)
class ChunkRecord:
    """What the manifest knows of a chunk: its rows, and its file's two digests.

    Parameters
    ----------
    start, stop : int
        The rows, [start, stop).
    crc32c : int
        Of the rows, as the file's last four bytes repeat it; checked at every read.
    sha256 : str
        Of the whole file, in hexadecimal; checked by `verify`.
    """

    start: int
    stop: int
    crc32c: int
    sha256: str


def chunk_file(array: Path, index: int, n_dims: int, view: int | None = None) -> Path:
    """Return the path of a chunk, in zarr's default key encoding.

    Parameters
    ----------
    array : Path
        The array's folder.
    index : int
        Number of the chunk along the rows.
    n_dims : int
        How many axes rows and what is in them have; that of views does not count.
    view : int, optional
        Of an array of views, which of them the chunk is of.
    """
    before = [] if view is None else [str(view)]
    return array.joinpath("c", *before, str(index), *["0"] * (n_dims - 1))


def crc32c(data: Array) -> int:
    """Checksum a C-contiguous array (an array, since the library refuses memory views)."""
    return int(google_crc32c.value(data.reshape(-1).view(np.uint8)))


def write_chunk(file: Path, rows: Array, start: int, stop: int) -> ChunkRecord:
    """Write a chunk's file; return its record.

    Parameters
    ----------
    file : Path
        The file, which is made anew.
    rows : ndarray
        The whole chunk with its padding, in C order.
    start, stop : int
        The rows of the array that it holds, [start, stop).

    Raises
    ------
    StorageError
        The disk is full, or cannot be written.
    """
    checksum = crc32c(rows)
    tail = checksum.to_bytes(CRC_BYTES, "little")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(open_new(file), "wb", buffering=0) as handle:
            write_all(handle.fileno(), as_bytes(rows))
            write_all(handle.fileno(), memoryview(tail))
    except FeatbankError:
        raise
    except OSError as error:
        message = (
            f"cannot write {file}: {error.strerror}; nothing is lost: "
            "mend that and run the same command again to continue"
        )
        raise StorageError(message) from error
    sha = hashlib.sha256(as_bytes(rows))
    sha.update(tail)
    return ChunkRecord(start, stop, checksum, sha.hexdigest())


def as_bytes(array: Array) -> memoryview:
    """View a C-contiguous array as its bytes."""
    return array.reshape(-1).view(np.uint8).data


def write_all(descriptor: int, view: memoryview) -> None:
    """Write every byte: one call may take fewer, on a full disk or a signal."""
    while view.nbytes:
        view = view[os.write(descriptor, view) :]


def read_chunk(file: Path, record: ChunkRecord, out: Array, padding: Array) -> None:
    """Read a chunk's file, and check its crc32c.

    Parameters
    ----------
    file : Path
        The chunk's file.
    record : ChunkRecord
        What the manifest or the journal says of it.
    out : ndarray
        Filled with the chunk's rows.
    padding : ndarray
        Filled with what follows them to the end of a whole chunk.

    Raises
    ------
    DamagedError
        The file is missing, of another size, or its rows are not those that were written.
    """
    tail = np.empty(CRC_BYTES, dtype=np.uint8)
    parts = [part.reshape(-1).view(np.uint8) for part in (out, padding)]
    expected = sum(part.nbytes for part in parts) + CRC_BYTES
    try:
        with file.open("rb", buffering=0) as handle:
            size = os.fstat(handle.fileno()).st_size
            if size != expected:
                raise damaged(file, record, f"holds {size} bytes instead of {expected}")
            checksum = 0
            for part in parts:
                checksum = read_and_sum(handle.fileno(), part, checksum)
            read_all(handle.fileno(), as_bytes(tail))
    except FileNotFoundError as error:
        raise damaged(file, record, "is missing") from error
    except OSError as error:
        raise damaged(file, record, f"cannot be read ({error.strerror})") from error
    if not checksum == record.crc32c == int.from_bytes(tail.tobytes(), "little"):
        raise damaged(file, record, "does not match its checksum")


def read_and_sum(descriptor: int, out: NDArray[np.uint8], checksum: int) -> int:
    """Fill `out` piece by piece, each summed while it is still in the processor's cache."""
    for start in range(0, out.nbytes, PIECE):
        piece = out[start : start + PIECE]
        read_all(descriptor, as_bytes(piece))
        checksum = int(google_crc32c.extend(checksum, piece))
    return checksum


def read_all(descriptor: int, view: memoryview) -> None:
    """Fill `view`; a file that ends early leaves it short, which the checksum then shows."""
    while view.nbytes:
        count = os.readv(descriptor, [view])
        if count == 0:
            return
        view = view[count:]


def damaged(file: Path, record: ChunkRecord, what: str) -> DamagedError:
    """Say which rows are lost, and how to get them back."""
    message = (
        f"{file} {what}: rows {record.start} to {record.stop - 1} are damaged; "
        "run `featbank verify` for the whole list, then extract or import again"
    )
    return DamagedError(message)


def digest_file(file: Path, start: int, stop: int) -> ChunkRecord:
    """Record a chunk file that zarr itself wrote."""
    raw = file.read_bytes()
    stored = int.from_bytes(raw[-CRC_BYTES:], "little")
    return ChunkRecord(start, stop, stored, hashlib.sha256(raw).hexdigest())
