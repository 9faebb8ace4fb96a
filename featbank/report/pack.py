"""Arrays as short text in JSON, and JSON that no parser of HTML can be led out of."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.runtime.names import printable

__all__ = ["smallest", "to_json", "to_units"]

# Positions in a view are kept in steps of 1/65535 of its width.
UNITS = 65_535
_CODES = {"uint8": "u1", "uint16": "u2", "uint32": "u4", "float32": "f4"}


def smallest(values: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers from 0 in the smallest unsigned type that holds them."""
    top = int(values.max(initial=0))
    return values.astype(np.min_scalar_type(top))


def to_units(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint16]:
    """Return values in [low, high] in whole steps of 1/`UNITS` of the range."""
    share = (values - low) / (high - low if high > low else 1.0)
    return np.rint(np.clip(np.nan_to_num(share), 0, 1) * UNITS).astype(np.uint16)


def to_json(value: Any) -> str:
    """Return JSON for a script element: arrays packed, nothing in it that HTML knows.

    ``<``, ``>`` and ``&`` are escaped, so neither ``</script>`` nor ``<!--`` can end or change the
    element, and all that is not ASCII, so neither U+2028 nor half a surrogate pair is in it.
    """
    text = json.dumps(cleaned(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def cleaned(value: Any) -> Any:
    """Return a value that JSON has: arrays packed, strings printable, NaN and infinity null.

    The fields of a record come in the order in which its class names them.
    """
    if isinstance(value, np.ndarray):
        return packed(value)
    if hasattr(value, "to_json"):
        return cleaned(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: cleaned(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {printable(str(key)): cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(inner) for inner in value]
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, np.generic):
        return cleaned(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def packed(array: NDArray[Any]) -> dict[str, str]:
    """Return an array, flat, as base64 of its little-endian bytes and the code of its type."""
    code = _CODES[array.dtype.name]
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    return {"t": code, "b": base64.b64encode(data).decode("ascii")}
