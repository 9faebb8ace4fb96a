"""The table of heads that were fitted on one bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featbank.results.numbers import GROUPS, percent
from featbank.study.splits import Roles

__all__ = ["results_table"]

# What a reader of the table wants to know of a head; the rest stands in the JSON.
SHOWN = ("tau", "transform", "metric", "weight_decay", "anchor")


def brief(params: dict[str, Any], grid: Sequence[str] = ()) -> str:
    """Name the parameters that tell one head of a kind from another; `grid` was chosen from."""
    keys = [*(("solver",) if params.get("solver") == "sgd" else SHOWN), "views"]
    shown = {key: params[key] for key in dict.fromkeys((*keys, *grid)) if key in params}
    if shown.get("anchor") == "zero" and "anchor" not in grid:
        del shown["anchor"]
    return (
        ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in shown.items()
        )
        or "-"
    )


def results_table(results: dict[str, Any], roles: Roles) -> tuple[list[str], list[list[str]]]:
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
