"""The folder of a comparison: what one head did on one bank, kept, checked, and found again.

A cell is a folder named by a digest of everything that makes it: the bank's digest, the head's
specification, the seed, the splits, the version of featbank. It is written beside its place and
renamed, and its record holds the digest of every file in it, so that a cell is whole or is made
again. Its files are never changed, so that the next comparison takes them over by a second name.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from featbank.errors import InputError
from featbank.files.atomic import naming, sync
from featbank.files.plain_files import open_regular
from featbank.results.saved import RECORD, digest_of, read_record, write_record

__all__ = ["cell_key", "clear_partial", "installed_version", "read_cell", "slugs", "write_cell"]

# Of a bank's or a head's name, what may stand in a file's.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
# A file's name in a cell; none may lead elsewhere.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._=+-]*")


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


def write_cell(
    folder: Path, record: Mapping[str, Any], files: Mapping[str, Any], name: str = RECORD
) -> None:
    """Write a cell whole: beside its place first, then renamed.

    Parameters
    ----------
    folder : Path
        The cell's place; what is there is replaced.
    record : mapping
        The cell's record, without the digests of its files, which are added here.
    files : mapping
        From a file's name to its bytes, or to a function that writes it to a path.
    name : str
        The file of the record.
    """
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.partial")
    part.mkdir(parents=True)
    try:
        for file, content in files.items():
            with naming(folder / file):
                _write_new(part / file, content)
        digests = {file: _file_digest(part / file) for file in files}
        write_record(part / name, {**record, "files": digests})
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_new(path: Path, content: Any) -> None:
    """Write a file of a cell, and bring it to disk."""
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    sync(path)


def clear_partial(folder: Path) -> None:
    """Remove what a killed process left of cells and records that it was writing in a folder."""
    for part in folder.glob("*/.*.partial"):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)


def read_cell(folder: Path, name: str = RECORD) -> tuple[dict[str, Any] | None, str | None]:
    """Return a cell's record, if it is whole; and what is wrong with one that is damaged."""
    if not folder.is_dir():
        return None, None
    record = read_record(folder / name)
    if record is None:
        return None, f"{folder / name} is damaged or missing"
    files = record.get("files")
    if not isinstance(files, dict) or not all(map(_PLAIN.fullmatch, files)):
        return None, f"{folder / name} is no record of a comparison"
    for part, digest in files.items():
        file = folder / part
        if file.is_symlink() or _file_digest(file) != digest:
            return None, f"{file} is damaged or missing"
    return record, None


def _file_digest(file: Path) -> str | None:
    """Return a file's SHA-256, or None where no regular file is."""
    try:
        with open_regular(file) as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except (InputError, OSError):
        return None
