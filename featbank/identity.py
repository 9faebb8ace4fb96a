"""Where two records of what something was made from differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["INFORMATIVE", "differences"]

# Recorded for a reader; a difference here does not make a bank another one.
INFORMATIVE = frozenset({"versions", "device"})


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of the fields in which two records differ, sorted.

    Fields below an `INFORMATIVE` name are left out.
    """
    left, right = flat(one), flat(other)
    return sorted(
        name
        for name in left | right
        if left.get(name) != right.get(name) and INFORMATIVE.isdisjoint(name.split("."))
    )


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, its keys joined by dots."""
    out: dict[str, Any] = {}
    for key, value in record.items():
        nested = isinstance(value, Mapping)
        out |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return out
