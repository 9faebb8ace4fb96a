"""Arrays that are written whole at commit: labels, ids, classifier."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.store import zarr_arrays as _zarr
from featbank.store.array_record import ArrayRecord
from featbank.store.chunks import chunk_file, digest_file, write_chunk
from featbank.store.schema import chunk_rows

__all__ = ["sha256_of", "write_array", "write_ids"]


def write_array(store: Path, name: str, values: NDArray[Any]) -> ArrayRecord:
    """Write a small numeric array, (n, ...), in whole-row chunks."""
    n_rows, dtype = len(values), str(values.dtype)
    step = min(n_rows, chunk_rows(values.shape[1:], dtype))
    _zarr.create_array(store, name, values.shape, dtype, step)
    fill = _zarr.fill_value(dtype)
    chunks = []
    for index, start in enumerate(range(0, n_rows, step)):
        stop = min(start + step, n_rows)
        rows = np.full((step, *values.shape[1:]), fill, dtype=values.dtype)
        rows[: stop - start] = values[start:stop]
        file = chunk_file(store / name, index, values.ndim)
        chunks.append(write_chunk(file, rows, start, stop))
    digest = sha256_of(store / name / "zarr.json")
    return ArrayRecord(values.shape, dtype, step, digest, tuple(chunks))


def write_ids(store: Path, name: str, ids: Sequence[str]) -> ArrayRecord:
    """Write the ids, (N,) strings."""
    step = min(len(ids), chunk_rows((), "string"))
    _zarr.write_strings(store, name, ids, step)
    chunks = []
    for index, start in enumerate(range(0, len(ids), step)):
        file = chunk_file(store / name, index, 1)
        chunks.append(digest_file(file, start, min(start + step, len(ids))))
    digest = sha256_of(store / name / "zarr.json")
    return ArrayRecord((len(ids),), "string", step, digest, tuple(chunks))


def sha256_of(file: Path) -> str:
    """SHA-256 of a small file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
