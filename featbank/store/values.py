"""Features on their way to disk: checked, and converted to the stored dtype."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError
from featbank.store.rounding import Columns

__all__ = ["check_rounding", "check_values", "copy_rows", "lost_columns"]

# float32 values below this round to at most 65504, the largest float16.
FLOAT16_LIMIT = 65520.0


# Numbers looked at in one call: few enough that torch stays on one thread. Beside the threads that
# hash and write, two of its own would only wait for each other.
PIECE = 32_768


def check_values(block: NDArray[Any], dtype: str, split: str, ids: Sequence[str]) -> None:
    """Refuse values that are not finite in the stored dtype, naming rows and ids.

    Parameters
    ----------
    block : ndarray of shape (n, D)
        Features of any float dtype.
    dtype : {"float16", "float32"}
        The stored dtype.
    split : str
        The split's name, for the message.
    ids : sequence of n strings
        The rows' ids, for the message.

    Raises
    ------
    InputError
        A value is not finite, or beyond the range of `dtype`.
    """
    limit = FLOAT16_LIMIT if dtype == "float16" else float(np.finfo(np.float32).max)
    low, high = extremes(block)
    if -limit < low and high < limit:
        return
    bad = np.flatnonzero(~(np.abs(block.astype(np.float64)) < limit).all(axis=1))
    finite = np.isfinite(block[bad]).all()
    what = f"features beyond the range of {dtype}" if finite else "features that are not finite"
    remedy = "mend the model or the file"
    if finite:
        fits = dtype == "float16" and np.abs(block[bad]).max() <= np.finfo(np.float32).max
        remedy = "store them with --dtype float32" if fits else "divide them by a constant first"
    shown = ", ".join(ids[int(row)] for row in bad[:3]) + (", …" if bad.size > 3 else "")
    message = f"split {split!r}: {bad.size} rows have {what} ({shown}); {remedy}"
    raise InputError(message)


# Rows of a chunk of which rounding is looked at: enough for columns that lose as a whole, and few
# enough that it costs a small part of hashing and writing the chunk.
LOOKED_AT = 128


def check_rounding(
    block: NDArray[Any], stored: NDArray[Any], split: str, rounded: MutableMapping[str, Columns]
) -> None:
    """Take in a chunk of features; refuse a split most of whose columns are lost so far.

    Parameters
    ----------
    block : ndarray of shape (n, D)
        The features as they were.
    stored : ndarray of shape (n, D)
        The same in the stored dtype.
    split : str
        The split's name.
    rounded : mapping
        By split, what rounding has done so far; extended. Where fewer than half of the columns
        are lost, `lost_columns` says so from it.

    Raises
    ------
    InputError
        Most columns of the split are lost in the stored dtype.
    """
    if block.dtype.itemsize <= stored.dtype.itemsize:
        return
    step = max(1, len(block) // LOOKED_AT)
    columns = rounded.setdefault(split, Columns(block.shape[1]))
    columns.add(block[::step], stored[::step])
    grave = columns.grave()
    if 2 * int(grave.sum()) > int(columns.used().sum()):
        message = (
            f"split {split!r}: as {stored.dtype}, {columns.say(grave)}; "
            "store them with --dtype float32"
        )
        raise InputError(message)


def lost_columns(rounded: Mapping[str, Columns], dtype: str) -> list[str]:
    """Say for each split how many columns are lost in the stored dtype; nothing where none is."""
    return [
        f"split {split!r}: as {dtype}, {columns.say(columns.grave())}; --dtype float32 keeps it"
        for split, columns in rounded.items()
        if columns.grave().any()
    ]


def extremes(block: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest value (NaN where there is one), in one pass."""
    import torch

    flat = torch.from_numpy(block).reshape(-1)
    found = [
        torch.stack(torch.aminmax(flat[start : start + PIECE]))
        for start in range(0, len(flat), PIECE)
    ]
    return float(torch.stack(found)[:, 0].min()), float(torch.stack(found)[:, 1].max())


def copy_rows(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy into the stored dtype; by torch, whose half-precision conversion is vectorised."""
    import torch

    torch.from_numpy(target).copy_(torch.from_numpy(source))
