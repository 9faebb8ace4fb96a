"""Conversion of a file's features to the stored dtype; losses are refused or reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError
from featbank.runtime.progress import Reporter
from featbank.store.rounding import Columns, RowKeys, inexact
from featbank.store.values import check_values, copy_rows

__all__ = ["Cast"]

Array = NDArray[Any]


class Cast:
    """Converts the features of one split, chunk by chunk, and keeps account of what is lost.

    Parameters
    ----------
    split : str
    dtype : {"float16", "float32"}
        How features are stored.
    allowed : bool
        Whether losses are only said.
    """

    def __init__(self, split: str, dtype: str, *, allowed: bool = False) -> None:
        self.split, self.dtype, self.allowed = split, dtype, allowed
        self.columns: Columns | None = None
        self.rows = RowKeys([], [])

    def __call__(self, block: Array, ids: Sequence[str]) -> Array:
        """Return features (n, D) of any real dtype as they are stored.

        Raises
        ------
        InputError
            A value is not finite, does not fit the dtype, or is a whole number that it changes.
        """
        given = as_float(block)
        check_values(given, self.dtype, self.split, ids)
        stored = np.empty(given.shape, self.dtype)
        copy_rows(given, stored)
        if block.dtype.kind in "iu":
            self.check_whole_numbers(block, stored, ids)
        elif given.dtype.itemsize > stored.dtype.itemsize and len(block):
            self.columns = self.columns or Columns(block.shape[1])
            self.columns.add(given, stored)
            self.rows.add(given, stored)
        return stored

    def check_whole_numbers(self, block: Array, stored: Array, ids: Sequence[str]) -> None:
        """Refuse whole numbers that the stored dtype cannot hold exactly."""
        changed = inexact(block, stored)
        if changed.any() and not self.allowed:
            row, column = (int(each[0]) for each in np.nonzero(changed))
            message = (
                f"split {self.split!r}: {int(changed.any(axis=1).sum())} rows have whole numbers "
                f"that {self.dtype} cannot hold exactly ({ids[row]}: {block[row, column]} becomes "
                f"{float(stored[row, column])!r}); {self.remedy()}"
            )
            raise InputError(message)

    def remedy(self) -> str:
        """Say what to do about a loss."""
        first = (
            "store them with --dtype float32"
            if self.dtype == "float16"
            else "divide features by their scale, or take the offset of a column out, before"
        )
        return f"{first}; --allow-rounding stores them as they are"

    def finish(self, reporter: Reporter) -> None:
        """Refuse a split that loses columns that matter, or most rows; say what less is lost.

        Raises
        ------
        InputError
            Columns lose what tells rows apart, or more than half of the different rows are equal
            now. With `allowed`, that is only said.
        """
        if self.columns is None:
            return
        lost, grave = self.columns.lost(), self.columns.grave()
        before, after = self.rows.counts()
        fault = ""
        if lost.any():
            fault = self.columns.say(grave if grave.any() else lost)
        elif after < before:
            fault = f"of {before} different rows only {after} are left"
        line = f"split {self.split!r}: as {self.dtype}, {fault}"
        if (grave.any() or 2 * after < before) and not self.allowed:
            message = f"{line}; {self.remedy()}"
            raise InputError(message)
        if fault:
            reporter.warn(line)


def as_float(block: Array) -> Array:
    """Return a block in memory, of a float dtype that torch has, in the machine's byte order."""
    if block.dtype.kind != "f":
        return block.astype(np.float32)
    if block.dtype.itemsize > 8:
        return block.astype(np.float64)
    return np.require(block, dtype=block.dtype.newbyteorder("="), requirements=["C", "W"])
