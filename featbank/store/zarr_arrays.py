"""The only module that imports zarr: metadata, small arrays, and the view of an array.

Bulk rows do not pass through here. A chunk of format 1 is its rows and four bytes of checksum, so
`featbank.store.chunks` writes and reads it in place; zarr's own code serves as the second opinion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import LocalStore

from featbank.store.schema import dimension_names

__all__ = [
    "create_array",
    "create_group",
    "fill_value",
    "open_array",
    "read_strings",
    "write_strings",
]


def _at(store: Path, name: str, *, read_only: bool = False) -> LocalStore:
    """Return the folder of a group or an array as a store.

    zarr reads a string as an address, in which ``#``, ``?`` and ``:`` have a meaning. A folder may
    have any name, so zarr is never given a string.
    """
    return LocalStore(store / name, read_only=read_only)


def create_group(store: Path, name: str) -> None:
    """Make the group `name` below the root."""
    zarr.create_group(_at(store, name), zarr_format=3, overwrite=False)


def create_array(
    store: Path, name: str, shape: tuple[int, ...], dtype: str, chunk_rows: int
) -> None:
    """Write the metadata of an array of whole-row, uncompressed, checksummed chunks.

    Parameters
    ----------
    store : Path
        The bank's folder.
    name : str
        The array's name in it.
    shape : tuple of int
        Rows and what is in them; of three axes the first is that of views, and a chunk is of one.
    dtype : str
        The stored dtype.
    chunk_rows : int
        Rows of a whole chunk.
    """
    chunks = (chunk_rows, *shape[1:]) if len(shape) < 3 else (1, chunk_rows, *shape[2:])
    zarr.create_array(
        _at(store, name),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        serializer=BytesCodec(endian="little"),
        compressors=[Crc32cCodec()],
        filters=None,
        fill_value=fill_value(dtype),
        config={"write_empty_chunks": True},
        dimension_names=dimension_names(name),
        zarr_format=3,
    )


def fill_value(dtype: str) -> float | int:
    """Return what a row that was never written reads as: nothing that could pass for data."""
    return {"f": float("nan"), "i": -1, "u": 0}[np.dtype(dtype).kind]


def write_strings(store: Path, name: str, values: Any, chunk_rows: int) -> None:
    """Write a one-dimensional array of variable-length strings.

    Parameters
    ----------
    store : Path
        The bank's folder.
    name : str
        The array's name in it.
    values : sequence of str
        The strings.
    chunk_rows : int
        Strings of a whole chunk.
    """
    array = zarr.create_array(
        _at(store, name),
        shape=(len(values),),
        dtype=str,
        chunks=(chunk_rows,),
        compressors=[Crc32cCodec()],
        filters=None,
        config={"write_empty_chunks": True},
        dimension_names=dimension_names(name),
        zarr_format=3,
    )
    array[:] = np.asarray(values, dtype=object)


def read_strings(store: Path, name: str) -> np.ndarray[Any, Any]:
    """Read an array of strings, (N,) of Python strings."""
    return np.asarray(open_array(store, name)[:], dtype=object)


def open_array(store: Path, name: str) -> Any:
    """Open one array read-only."""
    return zarr.open_array(_at(store, name, read_only=True), mode="r", zarr_format=3)
