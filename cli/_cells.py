"""The folder of a comparison: what one head did on one bank, kept, checked, and found again.

A cell is a folder named by a digest of everything that makes it: the bank's digest, the head's
specification, the seed, the splits, the version of featbank. It is written beside its place and
renamed, and its record holds the digest of every file in it, so that a cell is whole or is made
again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from featbank.atomic import replace_file
from featbank.errors import OutputExistsError
from featbank.manifest import canonical

__all__ = [
    "COMPARISON",
    "arrays_bytes",
    "cell_key",
    "digest_of",
    "installed_version",
    "prepare",
    "read_cell",
    "read_record",
    "slugs",
    "write_cell",
    "write_record",
]

COMPARISON = "compare.json"
RECORD = "cell.json"
# Of a bank's or a head's name, what may stand in a file's.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def prepare(out: Path) -> None:
    """Make the folder, or refuse one that holds other things and no comparison."""
    if out.exists() and not out.is_dir():
        message = f"{out} exists and is no folder; choose another path for --out"
        raise OutputExistsError(message)
    known = {COMPARISON, "banks", "cells", "figures", "report.html"}
    if out.is_dir():
        held = {path.name for path in out.iterdir() if not path.name.startswith(".")}
        strange = held - known
        if strange and not {COMPARISON, "cells"} <= held:  # beside a comparison, notes may lie
            message = f"{out} holds {min(strange)} and is no comparison's folder; choose another"
            raise OutputExistsError(message)
    out.mkdir(parents=True, exist_ok=True)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def installed_version() -> str:
    """Return the version of featbank; of one that runs without being installed, "unknown"."""
    try:
        return version("featbank")
    except PackageNotFoundError:
        return "unknown"


def cell_key(**parts: Any) -> str:
    """Return a cell's name, of everything that makes it."""
    return digest_of(parts)[:32]


def slugs(names: Sequence[str]) -> list[str]:
    """Return names that may be a file's, one for each and no two the same."""
    taken: dict[str, str] = {}
    for name in names:
        base = _UNSAFE.sub("-", name).strip("-.")[:60] or "unnamed"
        slug, number = base, 2
        while slug.lower() in taken:
            slug, number = f"{base}-{number}", number + 1
        taken[slug.lower()] = slug
    return list(taken.values())


def arrays_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Return arrays as the bytes of an ``.npz``; the same arrays give the same bytes."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def write_cell(
    folder: Path, record: Mapping[str, Any], files: Mapping[str, Any], name: str = RECORD
) -> None:
    """Write a cell whole: `files` by name, each its bytes or a function that writes to a path."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for file, content in files.items():
            if callable(content):
                content(part / file)
            else:
                (part / file).write_bytes(content)
        digests = {file: _file_digest(part / file) for file in files}
        write_record(part / name, {**record, "files": digests})
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_cell(folder: Path, name: str = RECORD) -> tuple[dict[str, Any] | None, str | None]:
    """Return a cell's record, if it is whole; and what is wrong with one that is damaged."""
    if not folder.is_dir():
        return None, None
    record = read_record(folder / name)
    if record is None:
        return None, f"{folder / name} is damaged or missing"
    for part, digest in record["files"].items():
        file = folder / part
        if file.is_symlink() or not file.is_file() or _file_digest(file) != digest:
            return None, f"{file} is damaged or missing"
    return record, None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object with its own digest, in one step."""
    whole = {**record, "sha256": digest_of(record)}
    text = json.dumps(whole, indent=1, allow_nan=False) + "\n"
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_record(path: Path) -> dict[str, Any] | None:
    """Return what `write_record` wrote, or None where that is not there, byte for byte."""
    try:
        record = json.loads(path.read_bytes())
        digest = record.pop("sha256")
        return record if digest == digest_of(record) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _file_digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
