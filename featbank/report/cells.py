"""One head on one bank, as the comparison's results name it."""

from __future__ import annotations

from dataclasses import dataclass

from featbank.errors import DamagedError
from featbank.report.folder import Results
from featbank.results.cell import BankRecord
from featbank.results.compared import ComparedResult
from featbank.results.records import Metrics

__all__ = ["Cell", "cells_of"]


@dataclass(frozen=True)
class Cell:
    """A result of the comparison, and where it belongs.

    Attributes
    ----------
    bank, head : int
        The places of its bank and its head in the comparison's lists.
    key : str
        The name of its folder.
    entry : ComparedResult
        The result.
    """

    bank: int
    head: int
    key: str
    entry: ComparedResult

    @property
    def best(self) -> float | None:
        """The number that was chosen, if one was."""
        found = None if self.entry.selection is None else self.entry.selection.best
        return float(found) if isinstance(found, int | float) else None

    @property
    def chose_on_reported(self) -> bool:
        """True where a parameter was chosen on the split that is reported."""
        return self.entry.chose_on_reported

    @property
    def metrics(self) -> Metrics:
        """The metrics of the result, and the error where top-1 accuracy is known."""
        micro = self.entry.metrics.get("micro")
        return {**self.entry.metrics, **({} if micro is None else {"error": 1 - micro})}


def cells_of(results: Results) -> list[Cell]:
    """Return the results, bank by bank, in the order of the heads."""
    banks = {name: i for i, bank in enumerate(results.banks) for name in names_of(bank)}
    heads = {text: i for i, text in enumerate(results.compare.heads)}
    found = [cell_of(entry, banks, heads) for entry in results.compare.results]
    if not found:
        message = f"{results.folder}: compare.json holds no results; run featbank compare again"
        raise DamagedError(message)
    return sorted(found, key=lambda cell: (cell.bank, cell.head))


def names_of(bank: BankRecord) -> set[str]:
    """Return the names by which a result may call its bank."""
    return {str(name) for name in (bank.name, bank.path) if name}


def cell_of(entry: ComparedResult, banks: dict[str, int], heads: dict[str, int]) -> Cell:
    """Place one entry."""
    bank, head = entry.bank_name, entry.spec
    if bank not in banks or head not in heads:
        message = f"compare.json: a result on {bank} by {head}, which it does not list"
        raise DamagedError(message)
    return Cell(banks[bank], heads[head], entry.cell, entry)
