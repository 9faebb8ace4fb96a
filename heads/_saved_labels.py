"""Labels and feature names of a head as JSON, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.errors import HeadInputError

__all__ = ["labels_from_json", "labels_to_json"]

# Labels and feature names: numbers, truth values, strings of a fixed length, or Python strings.
_LABEL_DTYPE = re.compile(r"int(8|16|32|64)|uint(8|16|32|64)|float(16|32|64)|bool|<U\d{1,6}|object")
# A numpy array of text has its longest entry's room for each. A file must not ask for more than so
# many bytes and so many times its labels' own characters.
_LABEL_BYTES, _LABEL_FACTOR = 64 << 20, 64


def labels_to_json(labels: NDArray[Any]) -> dict[str, Any]:
    """Return labels (k,) as their dtype and a list of values."""
    dtype = "object" if labels.dtype.kind == "O" else labels.dtype.newbyteorder("=").name
    dtype = f"<U{labels.dtype.itemsize // 4}" if labels.dtype.kind == "U" else dtype
    values = labels.tolist()
    strings = dtype != "object" or all(isinstance(value, str) for value in values)
    if not (_LABEL_DTYPE.fullmatch(dtype) and strings):
        message = f"labels of dtype {labels.dtype} cannot be saved; use numbers or strings"
        raise HeadInputError(message)
    if not _has_room(dtype, values):
        message = f"labels of dtype {labels.dtype} are mostly empty room; use labels.astype(object)"
        raise HeadInputError(message)
    return {"dtype": dtype, "values": values}


def labels_from_json(coded: Mapping[str, Any]) -> NDArray[Any]:
    """Return the labels (k,) that `labels_to_json` wrote."""
    dtype = coded["dtype"]
    if not _LABEL_DTYPE.fullmatch(dtype):
        message = f"labels of unknown dtype {dtype!r}"
        raise ValueError(message)
    if not _has_room(dtype, coded["values"]):
        message = f"labels of dtype {dtype} are mostly empty room"
        raise ValueError(message)
    return np.array(coded["values"], dtype=dtype)


def _has_room(dtype: str, values: list[Any]) -> bool:
    """Tell whether labels take no more memory than their characters account for."""
    if not dtype.startswith("<U"):
        return True
    characters = sum(map(len, values))
    return np.dtype(dtype).itemsize * len(values) <= _LABEL_BYTES + _LABEL_FACTOR * characters
