"""Images that are extracted: those of a data set, without the ones that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from featbank.bank.rows import SplitRows
from featbank.data.types import ImageData

__all__ = ["KeptImages", "Rows"]

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class KeptImages:
    """A data set, and by split the rows of it that are extracted, in order."""

    data: ImageData
    rows: Mapping[str, Rows]

    @classmethod
    def without(cls, data: ImageData, bad: Mapping[str, Rows]) -> Self:
        """Keep all images but the rows `bad` of each split."""
        rows = {
            name: np.setdiff1d(np.arange(len(split)), bad.get(name, ()), assume_unique=True)
            for name, split in data.splits.items()
        }
        return cls(data, rows)

    def split_rows(self) -> dict[str, SplitRows]:
        """Return ids and labels of the kept rows of every split."""
        return {
            name: SplitRows(self.ids(name)[self.rows[name]].tolist(), split.labels[self.rows[name]])
            for name, split in self.data.splits.items()
        }

    def skipped(self) -> dict[str, list[str]]:
        """Return the ids of the rows of every split that are left out."""
        return {
            name: np.delete(self.ids(name), self.rows[name]).tolist() for name in self.data.splits
        }

    def ids(self, name: str) -> NDArray[np.object_]:
        """Return the ids of all rows of a split."""
        return np.asarray(self.data.splits[name].ids, dtype=object)
