"""What storing features in fewer bits loses.

float16 has eleven bits and nothing below 6e-8, float32 has twenty-four bits. Features of ordinary
size lose nothing that matters. But 1e-9 is 0 in float16, and in float32 a column of 1e6 plus
thousandths is a constant: rows that differed are then equal, and no number in the bank shows it.
So the error is compared with what tells the rows apart, column by column, and rows are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "RowKeys", "inexact"]

Array = NDArray[Any]

# A column is lost where the root mean square of its rounding errors is more than this part of its
# standard deviation. Honest features stay below a hundredth: float16 rounds by at most 1/2048.
TOLERATED = 1 / 8

# A lost column is grave where its error is more than this part of the spread of all columns: as
# much as float16 does to any value. Channels of a network that are all but dead (1e-8 beside 1)
# lose less than that, and no head on the raw features can tell.
GRAVE = 2.0**-11

PIECE = 65_536  # numbers in one step: small enough to stay in the processor's cache


class Columns:
    """Compares rows before and after a cast, column by column.

    Parameters
    ----------
    dim : int
        Number of columns D.
    """

    def __init__(self, dim: int) -> None:
        self.n_rows = 0
        self.first: tuple[Array, Array] | None = None
        # Of the differences from the first row, which keeps a large offset out of the sums.
        self.sums, self.squares, self.errors = (np.zeros(dim) for _ in range(3))
        self.range_before, self.range_after = np.zeros(dim), np.zeros(dim)

    def add(self, before: Array, after: Array) -> None:
        """Take in rows (n, D), as they were and as they are stored; both finite floats."""
        import torch

        if self.first is None:
            self.first = (before[0].copy(), after[0].copy())
        self.n_rows += len(before)
        one, two = torch.from_numpy(before), torch.from_numpy(after)
        wide = one.dtype if one.dtype == torch.float64 else torch.float32
        first, first_after = (torch.from_numpy(each).to(wide) for each in self.first)
        step = max(1, PIECE // before.shape[1])
        for start in range(0, len(before), step):
            old, new = (each[start : start + step].to(wide) for each in (one, two))
            away, error = old - first, old - new
            self.sums += away.sum(0, dtype=torch.float64).numpy()
            self.squares += (away * away).sum(0, dtype=torch.float64).numpy()
            self.errors += (error * error).sum(0, dtype=torch.float64).numpy()
            np.maximum(self.range_before, away.abs().amax(0).numpy(), out=self.range_before)
            moved = (new - first_after).abs().amax(0).numpy()
            np.maximum(self.range_after, moved, out=self.range_after)

    def used(self) -> NDArray[np.bool_]:
        """Return which columns hold anything but zeros, (D,)."""
        if self.first is None:
            return np.zeros(len(self.sums), dtype=bool)
        found: NDArray[np.bool_] = (self.range_before > 0) | (self.first[0] != 0)
        return found

    def held(self) -> NDArray[np.float64]:
        """Return each column's variance, or the square of a constant, (D,)."""
        if self.first is None:
            return np.zeros(len(self.sums))
        variance = self.squares / self.n_rows - (self.sums / self.n_rows) ** 2
        constant = self.first[0].astype(np.float64) ** 2
        return np.where(self.range_before > 0, np.maximum(variance, 0), constant)

    def lost(self) -> NDArray[np.bool_]:
        """Return which columns lose what they held, (D,): their variation, or all of a constant."""
        if self.first is None:
            return np.zeros(len(self.sums), dtype=bool)
        rounded = self.errors / self.n_rows > TOLERATED**2 * self.held()
        # Squares of the smallest numbers are 0; these two see them too.
        constant = (self.range_before > 0) & (self.range_after == 0)
        zero = self.used() & (self.range_after == 0) & (self.first[1] == 0)
        found: NDArray[np.bool_] = rounded | constant | zero
        return found

    def grave(self) -> NDArray[np.bool_]:
        """Return which of the lost columns matter beside the others, (D,)."""
        errors = self.errors / max(1, self.n_rows)
        found: NDArray[np.bool_] = self.lost() & (errors >= GRAVE**2 * self.held().mean())
        return found

    def say(self, which: NDArray[np.bool_]) -> str:
        """Say how many columns lose what they hold, and what a value of the first one becomes."""
        if self.first is None:
            return ""
        column = int(which.argmax())
        before, after = (float(each[column]) for each in self.first)
        return (
            f"{int(which.sum())} of {len(which)} columns lose what tells rows apart "
            f"(as column {column}, where {before:.12g} becomes {after:.12g})"
        )


@dataclass
class RowKeys:
    """Counts rows that differ, before and after a cast."""

    before: list[NDArray[np.uint64]]
    after: list[NDArray[np.uint64]]

    def add(self, before: Array, after: Array) -> None:
        """Take in rows (n, D), as they were and as they are stored."""
        self.before.append(keys(before))
        self.after.append(keys(after))

    def counts(self) -> tuple[int, int]:
        """Return how many different rows there were, and how many there are."""
        one, two = (len(np.unique(np.concatenate(each))) for each in (self.before, self.after))
        return one, two


def keys(rows: Array) -> NDArray[np.uint64]:
    """Return a number for each row (n, D) that is the same for rows of the same values.

    Different rows have different numbers but for a chance of 2^-64 or so a pair.
    """
    weights = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], dtype=np.uint64) * 2 + 1
    out = np.empty(len(rows), dtype=np.uint64)
    step = max(1, PIECE // rows.shape[1])
    for start in range(0, len(rows), step):
        bits = rows[start : start + step].view(f"u{rows.dtype.itemsize}").astype(np.uint64)
        bits[bits == 1 << (8 * rows.dtype.itemsize - 1)] = 0  # -0 and 0 are one value
        bits ^= bits >> np.uint64(33)
        out[start : start + step] = (bits * weights).sum(axis=1, dtype=np.uint64)
    return out


def inexact(before: Array, after: Array) -> NDArray[np.bool_]:
    """Return which whole numbers (n, D) are not what they were, as floats."""
    with np.errstate(invalid="ignore"):
        found: NDArray[np.bool_] = after.astype(np.float64).astype(before.dtype) != before
    return found
