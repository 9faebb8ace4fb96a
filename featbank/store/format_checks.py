"""What a manifest and an array's metadata must say to be of format 1, whoever wrote them.

A digest shows damage, not malice: it can be computed again. What decides how much memory is taken,
which files are opened and which codecs run is therefore checked by itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from featbank.store.array_record import ArrayRecord
from featbank.store.schema import (
    CRC_BYTES,
    VIEWS,
    dimension_names,
)
from featbank.store.strict_json import MOST_ROWS, parse
from featbank.store.zarr_arrays import fill_value

__all__ = [
    "check_metadata",
    "chunk_bytes",
    "check_record",
    "expect",
]

# No feature is as wide as this, and no array has more dimensions.
MOST_COLUMNS, MOST_DIMS = 1 << 24, 3

# Plain numbers, and text: nothing whose items are objects or of a size of their own.
DTYPES = frozenset(
    {"float16", "float32", "float64", "string"}
    | {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
)

# Metadata that must be empty where it is there, and what is checked apart.
EMPTY: dict[str, Any] = {"attributes": {}, "storage_transformers": []}
FREE = frozenset({"fill_value", "codecs", "dimension_names", *EMPTY})


def check_record(name: str, record: ArrayRecord) -> None:
    """Refuse sizes and dtypes that no array of a bank has."""
    n_rows, columns = record.n_rows, math.prod(record.row_shape)
    sound = (
        record.n_views * n_rows <= MOST_ROWS
        and columns <= MOST_COLUMNS
        and record.chunk_rows <= n_rows
    )
    if len(record.shape) == MOST_DIMS and not name.endswith(f"/{VIEWS}"):
        sound = False
    if not sound or len(record.shape) > MOST_DIMS or record.dtype not in DTYPES:
        shown = f"{record.dtype!r:.20} {record.shape!r:.80} in chunks of {record.chunk_rows} rows"
        message = f"{name} is {shown}"
        raise ValueError(message)


def expect(
    arrays: Mapping[str, ArrayRecord], name: str, shape: tuple[int, ...], dtype: str
) -> None:
    """Refuse an array that is missing, or of another shape or dtype.

    Parameters
    ----------
    arrays : mapping
        The records of a manifest, by name.
    name : str
        The array that is due.
    shape : tuple of int
        Its shape.
    dtype : str
        Its dtype.

    Raises
    ------
    ValueError
        It is another one.
    """
    record = arrays.get(name)
    if record is None or record.shape != shape or record.dtype != dtype:
        found = "nothing" if record is None else f"{record.dtype} {record.shape}"
        message = f"{name} is {found} where {dtype} {shape} is due"
        raise ValueError(message)


def check_metadata(raw: bytes, name: str, record: ArrayRecord) -> None:
    """Refuse an array's metadata that is not what format 1 has: another codec, shape or dtype.

    Names of the axes are optional, because the banks of early versions have none.

    Raises
    ------
    ValueError, RecursionError
        What differs.
    """
    found = parse(raw)
    if not isinstance(found, dict):
        message = "no JSON object"
        raise ValueError(message)
    expected = expected_metadata(record)
    wrong = [key for key in expected if text_of(found.get(key)) != text_of(expected[key])]
    wrong += [
        key for key, value in EMPTY.items() if text_of(found.get(key, value)) != text_of(value)
    ]
    wrong += sorted(found.keys() - expected.keys() - FREE)
    if text_of(found.get("fill_value")) != text_of(fill_of(record.dtype)):
        wrong.append("fill_value")
    if not right_codecs(found.get("codecs"), record.dtype):
        wrong.append("codecs")
    if found.get("dimension_names") not in (None, dimension_names(name)):
        wrong.append("dimension_names")
    if wrong:
        message = f"{', '.join(wrong):.80} not of format 1"
        raise ValueError(message)


def text_of(value: Any) -> str:
    """Return a value as text that tells 1 from 1.0 and from true."""
    return json.dumps(value, sort_keys=True)


def expected_metadata(record: ArrayRecord) -> dict[str, Any]:
    """Return what must stand in the metadata of an array, word for word."""
    views = [1] if len(record.shape) == 3 else []
    step = [*views, record.chunk_rows, *record.row_shape]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(record.shape),
        "data_type": record.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": step}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    }


def fill_of(dtype: str) -> str | int:
    """Return what stands for a row that is not there, as zarr spells it."""
    if dtype == "string":
        return ""
    value = fill_value(dtype)
    return "NaN" if value != value else int(value)


def right_codecs(codecs: Any, dtype: str) -> bool:
    """Tell whether codecs are the plain bytes, or strings, and the checksum, and no other."""
    names = ["vlen-utf8" if dtype == "string" else "bytes", "crc32c"]
    listed = isinstance(codecs, list) and all(isinstance(each, dict) for each in codecs)
    if not listed or [each.get("name") for each in codecs] != names:
        return False
    one_byte = dtype != "string" and np.dtype(dtype).itemsize == 1
    settings = {} if dtype == "string" or one_byte else {"endian": "little"}
    allowed = [settings, {"endian": "little"}] if one_byte else [settings]
    given = [each.get("configuration", {}) for each in codecs]
    return given[0] in allowed and given[1] == {}


def chunk_bytes(record: ArrayRecord) -> int | None:
    """Return the size of a chunk's file; None for text, which has none of its own."""
    if record.dtype == "string":
        return None
    row = math.prod(record.row_shape) * np.dtype(record.dtype).itemsize
    return record.chunk_rows * row + CRC_BYTES
