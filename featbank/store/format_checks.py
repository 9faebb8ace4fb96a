"""What a manifest and an array's metadata must say to be of format 1, whoever wrote them.

A digest shows damage, not malice: it can be computed again. What decides how much memory is taken,
which files are opened and which codecs run is therefore checked by itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featbank.store.schema import (
    CLASSIFIER_BIAS,
    CLASSIFIER_WEIGHT,
    CRC_BYTES,
    FEATURE_DTYPES,
    FEATURES,
    IDS,
    IMAGE_BYTES,
    IMAGE_SHA256,
    LABELS,
    VIEWS,
    dimension_names,
)
from featbank.store.zarr_arrays import fill_value

if TYPE_CHECKING:
    from featbank.store.manifest import ArrayRecord, Manifest

__all__ = [
    "MOST_DEPTH",
    "check_layout",
    "check_metadata",
    "chunk_bytes",
    "digest",
    "parse",
    "whole",
]

# No feature is as wide as this, no array has as many rows, and no record is nested as deep.
MOST_COLUMNS, MOST_ROWS, MOST_DIMS, MOST_DEPTH = 1 << 24, 1 << 40, 3, 32

# Plain numbers, and text: nothing whose items are objects or of a size of their own.
DTYPES = frozenset(
    {"float16", "float32", "float64", "string"}
    | {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
)

# Metadata that must be empty where it is there, and what is checked apart.
EMPTY: dict[str, Any] = {"attributes": {}, "storage_transformers": []}
FREE = frozenset({"fill_value", "codecs", "dimension_names", *EMPTY})

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


def check_layout(manifest: Manifest) -> None:
    """Refuse arrays that do not belong together, or whose shape or dtype no bank has.

    Raises
    ------
    ValueError
        The first of them.
    """
    arrays, n_classes = manifest.arrays, len(manifest.class_names)
    for name, record in arrays.items():
        check_record(name, record)
    if set(manifest.groups) != {name.split("/")[0] for name in arrays}:
        message = f"groups {sorted(manifest.groups)!r:.80}"
        raise ValueError(message)
    if "train" not in manifest.splits or set(manifest.rows) != set(manifest.splits):
        message = f"splits {manifest.splits} with row digests of {sorted(manifest.rows)!r:.80}"
        raise ValueError(message)
    dim, dtype = arrays[f"train/{FEATURES}"].shape[1], arrays[f"train/{FEATURES}"].dtype
    for split in manifest.splits:
        n_rows = arrays[f"{split}/{FEATURES}"].shape[0]
        expect(arrays, f"{split}/{FEATURES}", (n_rows, dim), dtype)
        expect(arrays, f"{split}/{LABELS}", (n_rows,), "int64")
        expect(arrays, f"{split}/{IDS}", (n_rows,), "string")
        if f"{split}/{VIEWS}" in arrays:
            n_views = arrays[f"{split}/{VIEWS}"].shape[0]
            expect(arrays, f"{split}/{VIEWS}", (n_views, n_rows, dim), dtype)
        if f"{split}/{IMAGE_SHA256}" in arrays or f"{split}/{IMAGE_BYTES}" in arrays:
            expect(arrays, f"{split}/{IMAGE_SHA256}", (n_rows, 32), "uint8")
            expect(arrays, f"{split}/{IMAGE_BYTES}", (n_rows,), "int64")
    if dtype not in FEATURE_DTYPES or len(manifest.class_counts) != n_classes:
        message = f"features of {dtype}, {len(manifest.class_counts)} counts of {n_classes} classes"
        raise ValueError(message)
    if CLASSIFIER_WEIGHT in arrays or CLASSIFIER_BIAS in arrays:
        expect(arrays, CLASSIFIER_WEIGHT, (n_classes, dim), "float32")
        expect(arrays, CLASSIFIER_BIAS, (n_classes,), "float32")


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
    """Refuse an array that is missing, or of another shape or dtype."""
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
