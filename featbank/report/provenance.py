"""Where banks come from, field by field, and in which fields they differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featbank.bank.provenance_diff import flattened
from featbank.results.cell import BankRecord
from featbank.runtime.names import printable

__all__ = ["ProvenanceRow", "provenance_rows"]

# A longer value is cut; the bank has it whole.
_LONGEST = 400


@dataclass(frozen=True)
class ProvenanceRow:
    """One field of the banks' provenance: its value in each bank, and whether they differ."""

    field: str
    values: tuple[str, ...]
    differs: bool


def provenance_rows(banks: Sequence[BankRecord]) -> list[ProvenanceRow]:
    """Return one row for each field: name, value in each bank, and whether they differ."""
    records = [facts(bank) for bank in banks]
    fields = list(dict.fromkeys(field for record in records for field in record))
    return [row(field, [record.get(field, "") for record in records]) for field in fields]


def facts(bank: BankRecord) -> dict[str, str]:
    """Return a bank's record with dotted names, as text."""
    record = {
        "digest": bank.digest,
        "rows": bank.splits,
        "classes": len(bank.class_counts),
        "training rows": sum(bank.class_counts),
        "shots": bank.shots.to_json(),
        **bank.provenance,
    }
    return {printable(name): text(value) for name, value in flattened(record).items()}


def row(field: str, values: Sequence[str]) -> ProvenanceRow:
    """Return one line of the table."""
    return ProvenanceRow(field, tuple(values), differs=len(set(values)) > 1)


def text(value: Any) -> str:
    """Return a value as a reader wants it."""
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(shown if len(shown) <= _LONGEST else shown[:_LONGEST] + " …")
