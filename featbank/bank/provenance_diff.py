"""Where two records of what something was made from differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["INFORMATIVE", "differences", "feature_identity", "flattened"]

# Recorded for a reader; a difference here does not make a bank another one.
INFORMATIVE = frozenset({"versions", "device", "files", "n_chunks", "recipe"})


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of the fields in which two records differ, sorted.

    Fields below an `INFORMATIVE` name are left out.
    """
    left, right = flattened(one), flattened(other)
    return sorted(
        name
        for name in left | right
        if left.get(name) != right.get(name) and INFORMATIVE.isdisjoint(name.split("."))
    )


def flattened(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested record with dotted names: ``{"a": {"b": 1}}`` gives ``{"a.b": 1}``."""
    out: dict[str, Any] = {}
    for key, value in record.items():
        nested = isinstance(value, Mapping)
        out |= flattened(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return out


def feature_identity(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two banks must share for a head of one to make sense on the other.

    The network, its layer and the images' transform, or the files that were imported; not the
    list of images, nor views banked beside the plain features, nor how those are rounded.
    """
    left_out = INFORMATIVE | {"data", "dtype", "views"}
    return {key: value for key, value in provenance.items() if key not in left_out}
