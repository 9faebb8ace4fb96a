"""Rows that are handed over to be banked: checked, and made into whole chunks."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featbank.bank.plan import BankPlan, Span
from featbank.errors import InputError
from featbank.store.rounding import Columns
from featbank.store.schema import FEATURES
from featbank.store.values import check_rounding, check_values, copy_rows
from featbank.store.zarr_arrays import fill_value

__all__ = ["Block", "ImageRecords"]

ImageRecords = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""SHA-256 (n, 32) and size (n,) of the images that n rows were made from."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a split, as many as a chunk holds.

    Parameters
    ----------
    span : Span
        Which rows they are.
    features : ndarray of shape (n, D)
        Of any float dtype.
    images : ImageRecords or None
        There where the plan has images.
    views : sequence of ndarray of shape (n, D)
        As many as the plan has views of the split.
    """

    span: Span
    features: NDArray[Any]
    images: ImageRecords | None
    views: Sequence[NDArray[Any]]

    @classmethod
    def of(
        cls,
        span: Span,
        features: NDArray[Any],
        images: ImageRecords | None,
        views: Sequence[NDArray[Any]],
    ) -> Self:
        """Build a block; features and views are copied only where torch cannot share them.

        Parameters
        ----------
        span, features, images, views
            As `Block` has them; features and views in any memory layout.
        """
        # Writable and in C order is what torch, which checks and converts, shares without a copy.
        features, *views = (
            np.require(each, requirements=["C", "W"]) for each in (features, *views)
        )
        return cls(span, features, images, views)

    def check(self, plan: BankPlan) -> None:
        """Refuse rows of another shape, in another place, or of values that cannot be stored."""
        split, start, stop = self.span
        for each in (self.features, *self.views):
            if start % plan.step(split) or each.shape != (stop - start, plan.dim):
                message = (
                    f"split {split!r}: a block of shape {each.shape} at row {start}, where "
                    f"({stop - start}, {plan.dim}) is due"
                )
                raise InputError(message)
            check_values(each, plan.dtype, split, plan.rows[split].ids[start:stop])
        if len(self.views) != plan.n_views(split):
            message = (
                f"split {split!r}: {len(self.views)} views where {plan.n_views(split)} are due"
            )
            raise InputError(message)

    def chunks(
        self, plan: BankPlan, rounded: MutableMapping[str, Columns]
    ) -> dict[str, NDArray[Any]]:
        """Return the whole chunk of every column, by its name.

        What the stored dtype loses of the features is added to `rounded`, by split.
        """
        split, columns = self.span.split, plan.columns(self.span.split)
        values = (self.features, *(self.images or ()), *self.views)
        chunks = {
            name: pad(rows, plan.step(split), *columns[name])
            for name, rows in zip(columns, values, strict=True)
        }
        check_rounding(self.features, chunks[FEATURES][: len(self.features)], split, rounded)
        return chunks


def pad(rows: NDArray[Any], step: int, row_shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return a whole chunk: these rows in the stored dtype, then fill.

    Parameters
    ----------
    rows : ndarray of shape (n, ...)
        Returned as they are where they fill the chunk already.
    step : int
        Rows of a whole chunk, at least n.
    row_shape : tuple of int
        Shape of one row.
    dtype : str
        The stored dtype.
    """
    if len(rows) == step and rows.dtype == dtype and rows.flags.c_contiguous:
        return rows
    chunk = np.empty((step, *row_shape), dtype=dtype)
    copy_rows(rows, chunk[: len(rows)])
    chunk[len(rows) :] = fill_value(dtype)
    return chunk
