"""A value as JSON in one form, so that its digest says whether it is the same."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["canonical"]


def canonical(value: Any) -> bytes:
    """Return a value as JSON text in ASCII, with sorted keys and no spaces.

    Raises
    ------
    ValueError, TypeError
        JSON cannot hold the value; NaN and infinity are refused.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
