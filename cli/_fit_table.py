"""The table of heads that were fitted on one bank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featbank.results.fit import brief
from featbank.results.numbers import GROUPS, percent
from featbank.study.splits import Roles

__all__ = ["results_table"]


def results_table(results: Mapping[str, Any], roles: Roles) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the table that `fit` prints."""
    columns = ["head", *GROUPS, "95% of all", "parameters", "chosen on", "seconds"]
    if len(roles.report) > 1:
        columns.insert(1, "split")
    rows = []
    for entry in results["results"]:
        low, high = entry["ci95"]["all"]
        row = [
            entry["head"],
            *(percent(entry["metrics"][group]) for group in GROUPS),
            f"{percent(low)}-{percent(high)}",
            brief(entry["params"], (entry["selection"] or {}).get("grid", ())),
            roles.label(entry["selected_on"]),
            f"{entry['fit_seconds']:.2f}",
        ]
        if len(roles.report) > 1:
            row.insert(1, entry["split"])
        rows.append(row)
    return columns, rows
