"""JSON objects and arrays of results as files: written with their own digest, and checked."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featbank.errors import DamagedError, FeatbankError, InputError, MissingFileError
from featbank.files.atomic import replace_file
from featbank.files.plain_files import open_regular
from heads.canonical import canonical

__all__ = [
    "AGAIN",
    "BANK",
    "COMPARISON",
    "RECORD",
    "arrays_bytes",
    "believed",
    "digest_of",
    "read_object",
    "read_record",
    "require",
    "write_record",
]

# The names of the records in the folder of a comparison: its own, each cell's and each bank's.
COMPARISON, RECORD, BANK = "compare.json", "cell.json", "bank.json"
AGAIN = "run featbank compare again, which makes damaged results anew"
# Parsed, JSON takes up to twenty times its bytes.
JSON_BYTES = 256 << 20


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def arrays_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Return arrays as the bytes of an ``.npz``; the same arrays give the same bytes."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def read_whole(path: Path) -> bytes:
    """Return the bytes of a JSON file of results, which must be regular and of a bounded size.

    Raises
    ------
    MissingFileError, InputError
        It is missing, no regular file, or too large to be such a file.
    """
    with open_regular(path) as handle:
        raw = handle.read(JSON_BYTES + 1)
    if len(raw) > JSON_BYTES:
        message = f"{path} is larger than {JSON_BYTES >> 20} MiB, which no comparison writes"
        raise InputError(message)
    return raw


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object with its own digest, in one step."""
    whole = {**record, "sha256": digest_of(record)}
    text = json.dumps(whole, indent=1, allow_nan=False) + "\n"
    replace_file(path, lambda part: part.write_bytes(text.encode()))


def read_record(path: Path) -> dict[str, Any] | None:
    """Return what `write_record` wrote, or None where that is not there, byte for byte."""
    try:
        record = json.loads(read_whole(path))
        digest = record.pop("sha256")
        return record if digest == digest_of(record) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object, which must have the digest that it names."""
    try:
        found = json.loads(read_whole(path))
    except MissingFileError as error:
        message = f"{path} is missing; {AGAIN}"
        raise DamagedError(message) from error
    except (ValueError, RecursionError) as error:
        message = f"{path} is no JSON ({' '.join(str(error).split())}); {AGAIN}"
        raise DamagedError(message) from error
    if not isinstance(found, dict):
        message = f"{path} is no JSON object; {AGAIN}"
        raise DamagedError(message)
    digest = found.pop("sha256", None)
    if digest is not None and digest != digest_of(found):
        message = f"{path} does not hold what was written; {AGAIN}"
        raise DamagedError(message)
    return found


def require(found: dict[str, Any], path: Path, *names: str) -> None:
    """Refuse an object that lacks one of `names`."""
    lacking = [name for name in names if name not in found]
    if lacking:
        message = f"{path} lacks {', '.join(lacking)}; {AGAIN}"
        raise DamagedError(message)


# What results that nobody's `featbank compare` wrote can make of the operations on them.
ODD = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
    MemoryError,
)  # fmt: skip


@contextmanager
def believed(folder: Path) -> Iterator[None]:
    """Say of what goes wrong with saved results that they are not what `compare` writes.

    Every part of a folder is checked when it is read. What stands in its objects and arrays could
    still be of any kind, and is looked at in many places.
    """
    try:
        yield
    except FeatbankError:
        raise
    except ODD as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        message = f"{folder} does not hold what featbank compare writes ({reason:.200}); {AGAIN}"
        raise DamagedError(message) from error
