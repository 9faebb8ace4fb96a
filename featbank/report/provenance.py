"""Where banks come from, field by field, and in which fields they differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from featbank.bank.provenance_diff import flattened
from featbank.runtime.names import printable

__all__ = ["provenance_rows"]

# A longer value is cut; the bank has it whole.
_LONGEST = 400


def provenance_rows(banks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each field: name, value in each bank, and whether they differ."""
    records = [facts(bank) for bank in banks]
    fields = list(dict.fromkeys(field for record in records for field in record))
    return [row(field, [record.get(field, "") for record in records]) for field in fields]


def facts(bank: dict[str, Any]) -> dict[str, str]:
    """Return a bank's record with dotted names, as text."""
    record = {
        "digest": bank.get("digest"),
        "rows": bank.get("splits", {}),
        "classes": len(bank["class_counts"]),
        "training rows": sum(bank["class_counts"]),
        "shots": bank["shots"],
        **bank.get("provenance", {}),
    }
    return {printable(name): text(value) for name, value in flattened(record).items()}


def row(field: str, values: list[str]) -> dict[str, Any]:
    """Return one line of the table."""
    return {
        "field": field,
        "values": values,
        "differs": len(set(values)) > 1,
    }


def text(value: Any) -> str:
    """Return a value as a reader wants it."""
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(shown if len(shown) <= _LONGEST else shown[:_LONGEST] + " …")
