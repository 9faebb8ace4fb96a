"""How much of large results goes into a page, so that it opens at once; and what it says of that.

The limits are measured on 20 checkpoints of 8,142 classes: docs/how-to/report.md has the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featbank.report import classes
from featbank.report.cells import Cell
from featbank.results.cell import BankRecord

__all__ = ["Limits"]

# Numbers by class that a page holds, over all cells: 1.5 MB of base64 at a byte each.
MOST_BY_CLASS = 1_100_000
# Points of all banks' views together, and the least that is left to one.
MOST_POINTS, LEAST_POINTS = 12_000, 300
# Rows in a view as the comparison saves it.
VIEW_POINTS = 2_000
# Grid points of all heads' planes together.
MOST_GRID = 500_000
# More classes than this cannot be told apart by colour and shape; groups are coloured instead.
MOST_COLOURS = 24


@dataclass(frozen=True)
class Limits:
    """How much of large results goes into a page.

    Attributes
    ----------
    n_classes : int
        The number of classes of the bank that has most.
    n_cells : int
        The number of results.
    points : int
        The rows of each bank's view that are shown at most.
    stride : int
        Along each axis of a head's plane, one of this many grid points is shown.
    kept : frozenset of pairs
        Bank and head of the results whose accuracies of single classes are in the page.
    """

    n_classes: int
    n_cells: int
    points: int
    stride: int
    kept: frozenset[tuple[int, int]]

    @classmethod
    def of(cls, banks: Sequence[BankRecord], cells: Sequence[Cell]) -> Limits:
        """Divide the room among banks and heads."""
        n_classes = max(len(bank.class_counts) for bank in banks)
        side = math.sqrt(MOST_GRID / len(cells))
        return cls(
            n_classes=n_classes,
            n_cells=len(cells),
            points=max(MOST_POINTS // len(banks), LEAST_POINTS),
            stride=max(1, math.ceil(64 / side)),
            kept=kept_by_class(cells, MOST_BY_CLASS // n_classes),
        )

    @property
    def by_group(self) -> bool:
        """True where classes are coloured by their group."""
        return self.n_classes > MOST_COLOURS

    def by_class(self, cell: Cell) -> bool:
        """Tell whether a cell's accuracies of single classes are in the page."""
        return (cell.bank, cell.head) in self.kept

    def sampled(self, n_rows: int) -> NDArray[np.int64]:
        """Return which rows of a view are in the page: evenly spaced, all where they fit."""
        kept = min(n_rows, self.points)
        return np.arange(kept) * n_rows // max(kept, 1)

    def notes(self) -> list[str]:
        """Say what is not all there."""
        said = []
        if self.n_classes > classes.BINS:
            said.append(
                f"{self.n_classes:,} classes: curves over classes are drawn through means of "
                f"{classes.BINS} runs of neighbours by size."
            )
        if self.by_group:
            said.append("Points and regions of the feature view are coloured by shot group.")
        if len(self.kept) < self.n_cells:
            said.append(
                f"Accuracies of single classes are in the page for {len(self.kept)} of "
                f"{self.n_cells} results, the best heads of each bank."
            )
        if self.points < VIEW_POINTS:
            said.append(f"The feature view shows at most {self.points:,} rows of each bank.")
        return said


def kept_by_class(cells: Sequence[Cell], most: int) -> frozenset[tuple[int, int]]:
    """Return the cells whose single classes are kept: rank by rank, the best head of each bank."""
    ranked: list[tuple[int, int, int]] = []
    for bank in {cell.bank for cell in cells}:
        own = [cell for cell in cells if cell.bank == bank]
        own.sort(key=lambda cell: -(cell.entry.metrics.get("all") or 0.0))
        ranked += [(rank, bank, cell.head) for rank, cell in enumerate(own)]
    return frozenset((bank, head) for _, bank, head in sorted(ranked)[: max(most, 2)])
