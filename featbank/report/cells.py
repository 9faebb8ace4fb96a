"""One head on one bank, as the comparison's results name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featbank.errors import DamagedError
from featbank.report.folder import Results

__all__ = ["Cell", "cells_of"]


@dataclass(frozen=True)
class Cell:
    """A result: places of its bank and head in their lists, its folder's key, its entry."""

    bank: int
    head: int
    key: str
    entry: dict[str, Any]

    @property
    def best(self) -> float | None:
        """The number that was chosen, if one was."""
        found = (self.entry.get("selection") or {}).get("best")
        return float(found) if isinstance(found, int | float) else None

    @property
    def chose_on_reported(self) -> bool:
        """True where a parameter was chosen on the split that is reported."""
        chosen_on = self.entry.get("selected_on")
        return chosen_on is not None and chosen_on == self.entry.get("split")

    def shown(self) -> dict[str, Any]:
        """Return what the page shows of the entry."""
        metrics, calibration = dict(self.entry["metrics"]), self.entry.get("calibration") or {}
        if metrics.get("micro") is not None:
            metrics["error"] = 1 - metrics["micro"]
        return {
            "metrics": metrics,
            "ci95": self.entry.get("ci95", {}),
            "params": self.entry.get("params", {}),
            "selected_on": self.entry.get("selected_on"),
            "selection": self.entry.get("selection"),
            "seconds": self.entry.get("fit_seconds"),
            "calibration": calibration,
        }


def cells_of(results: Results) -> list[Cell]:
    """Return the results, bank by bank, in the order of the heads."""
    banks = {name: i for i, bank in enumerate(results.banks) for name in names_of(bank)}
    heads = {text: i for i, text in enumerate(results.compare["heads"])}
    found = [cell_of(entry, banks, heads) for entry in results.compare["results"]]
    if not found:
        message = f"{results.folder}: compare.json holds no results; run featbank compare again"
        raise DamagedError(message)
    return sorted(found, key=lambda cell: (cell.bank, cell.head))


def names_of(bank: dict[str, Any]) -> set[str]:
    """Return the names by which a result may call its bank."""
    return {str(bank[key]) for key in ("name", "path") if bank.get(key)}


def cell_of(entry: dict[str, Any], banks: dict[str, int], heads: dict[str, int]) -> Cell:
    """Place one entry."""
    bank, head = str(entry.get("bank_name", entry["bank"])), str(entry.get("spec", entry["head"]))
    if bank not in banks or head not in heads:
        message = f"compare.json: a result on {bank} by {head}, which it does not list"
        raise DamagedError(message)
    return Cell(banks[bank], heads[head], str(entry["cell"]), entry)
