"""JSON that is what it should be, whoever wrote it: no key twice, nothing deeper than is due."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["MOST_DEPTH", "MOST_ROWS", "digest", "parse", "text", "whole"]

# No array has as many rows, and no record is nested as deep.
MOST_ROWS, MOST_DEPTH = 1 << 40, 32

_HEX = frozenset("0123456789abcdef")


def parse(raw: bytes) -> Any:
    """Parse JSON in which every key comes once and nothing is nested deeper than `MOST_DEPTH`.

    Anything else is a ValueError or RecursionError.
    """
    value = json.loads(raw, object_pairs_hook=once, parse_constant=refuse_constant)
    layer = [value]
    for _ in range(MOST_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in layer)
        layer = [part for parts in inner for part in parts if isinstance(part, (dict, list))]
        if not layer:
            return value
    message = f"nested deeper than {MOST_DEPTH}"
    raise ValueError(message)


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object of JSON, refusing a key that comes twice."""
    value = dict(pairs)
    if len(value) != len(pairs):
        message = "a key comes twice"
        raise ValueError(message)
    return value


def refuse_constant(name: str) -> float:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(name)


def whole(value: Any, most: int = MOST_ROWS) -> int:
    """Return a whole number from 0 to `most`, as JSON writes one."""
    if type(value) is not int or not 0 <= value <= most:
        message = f"{value!r:.40} where a whole number is due"
        raise ValueError(message)
    return value


def text(value: Any) -> str:
    """Return a string."""
    if not isinstance(value, str):
        message = f"{value!r:.40} where a text is due"
        raise ValueError(message)
    return value


def digest(value: Any) -> str:
    """Return a SHA-256 in hexadecimal."""
    if not isinstance(value, str) or len(value) != 64 or not _HEX.issuperset(value):
        message = f"{value!r:.40} where a SHA-256 is due"
        raise ValueError(message)
    return value
