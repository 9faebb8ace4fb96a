"""Which rows are evaluated, whatever their order: rows are known by their ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featbank.results.cell import RowsRecord

__all__ = ["are_names", "row_order", "rows_record"]


def row_order(ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the rows in the order of their ids, short ids first, (n,).

    Numbers are thereby in the order of their values, and rows whose ids are their own numbers stay
    as they are. So do rows of which two have the same id: that id does not say which is which.
    """
    order = np.arange(len(ids))
    if len(set(ids)) < len(ids):
        return order
    return np.array(sorted(order.tolist(), key=lambda row: (len(ids[row]), ids[row])), np.int64)


def are_names(ids: Sequence[str]) -> bool:
    """Tell whether ids say more than the number of their row, which stands in for a missing id."""
    return any(name != str(row) for row, name in enumerate(ids))


def repeated(ids: Sequence[str]) -> str | None:
    """Return the first id that comes twice."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            return name
        seen.add(name)
    return None


def rows_record(ids: Sequence[str], labels: NDArray[np.int64]) -> RowsRecord:
    """Return what tells whether two banks have the same rows.

    Parameters
    ----------
    ids : sequence of n strings
    labels : array of shape (n,)

    Returns
    -------
    RowsRecord
        Its digests are of the rows in the order of `row_order`.
    """
    order = row_order(ids)
    names = hashlib.sha256()
    for row in order.tolist():
        raw = ids[row].encode("utf-8", "surrogatepass")
        names.update(len(raw).to_bytes(8, "little") + raw)
    whole = names.copy()
    whole.update(np.asarray(labels)[order].astype("<i8").tobytes())
    return RowsRecord(whole.hexdigest(), names.hexdigest(), are_names(ids), repeated(ids))
