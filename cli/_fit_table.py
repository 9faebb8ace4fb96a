"""The table of heads that were fitted on one bank."""

from __future__ import annotations

from featbank.results.fit import Fits, brief
from featbank.results.numbers import GROUPS, percent
from featbank.results.records import Result

__all__ = ["results_table"]


def results_table(fits: Fits) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the rows of the table that `fit` prints."""
    columns = ["head", *GROUPS, "95% of all", "parameters", "chosen on", "seconds"]
    rows = [row_of(result) for result in fits.results]
    if len(fits.splits) > 1:
        columns.insert(1, "split")
        for row, result in zip(rows, fits.results, strict=True):
            row.insert(1, result.split)
    return columns, rows


def row_of(result: Result) -> list[str]:
    """Return the row of one head on one split."""
    low, high = result.ci95["all"] or (None, None)
    grid = () if result.selection is None else result.selection.grid or ()
    seen = " (REPORTED)" if result.chose_on_reported else ""
    return [
        result.head,
        *(percent(result.metrics[group]) for group in GROUPS),
        f"{percent(low)}-{percent(high)}",
        brief(result.params, grid),
        f"{result.selected_on or '-'}{seen}",
        f"{result.fit_seconds:.2f}",
    ]
