"""The mark that tells a folder of featbank's from the user's while it takes another one's place.

A small file, ``unfinished`` while a folder is built and ``replaced`` once it has left its place for
the new one. A folder of such a name (`work_path`, `old_path`) without a mark is the user's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from featbank.errors import OutputExistsError
from featbank.files.folders import is_folder
from featbank.files.plain_files import read_plain

__all__ = [
    "MARK",
    "NEXT",
    "REPLACED",
    "UNFINISHED",
    "WITHIN",
    "in_the_way",
    "is_marked",
    "old_path",
    "read_mark",
    "state_of",
    "work_path",
    "write_mark",
]

# Marks a folder that is being built, so that what a kill leaves of it is known to be featbank's.
MARK = ".featbank-unfinished"
MARK_BYTES = 1 << 12
UNFINISHED, REPLACED = "unfinished", "replaced"
# The mark that the old folder gets when it has left its place. It is written into the new folder
# before and only moved then, so that a full disk cannot come between.
NEXT = ".featbank-replaced"
# The folder in which new files are built inside an `out` that holds nothing of featbank's.
WITHIN = ".featbank-new"


def work_path(out: Path) -> Path:
    """Return where the folder that is to be `out` is built: beside it, hidden."""
    return named(out, "new")


def old_path(out: Path) -> Path:
    """Return where the old folder waits on file systems that cannot exchange two names."""
    return named(out, "old")


def named(out: Path, ending: str) -> Path:
    whole = Path(os.path.abspath(out))
    return whole.parent / f".{whole.name}.{ending}"


def write_mark(
    work: Path, out: Path, state: str = UNFINISHED, *, aside: bool = False, name: str = MARK
) -> None:
    """Mark a folder: it is being built, or was replaced.

    Parameters
    ----------
    work : Path
        The folder that gets the mark.
    out : Path
        The folder that it is built for.
    state : str
        `UNFINISHED` or `REPLACED`.
    aside : bool
        Whether the old folder is about to wait under a third name.
    name : str
        The mark's own file name.
    """
    text = json.dumps({"featbank": state, "becomes": out.name, "aside": aside}).encode()
    (work / name).unlink(missing_ok=True)
    descriptor = os.open(work / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    with open(descriptor, "wb", buffering=0) as handle:
        handle.write(text)


def read_mark(folder: Path) -> dict[str, Any]:
    """Return what the mark in a folder says; nothing where there is none."""
    try:
        raw = read_plain(folder, folder / MARK, MARK_BYTES)
        record = json.loads(raw) if raw else {}
    except (OSError, ValueError, RecursionError):
        return {}
    if not raw and [path.name for path in folder.iterdir()] == [MARK]:
        return {"featbank": UNFINISHED}  # killed while it wrote the mark, which comes first
    return record if isinstance(record, dict) else {}


def state_of(work: Path) -> str | None:
    """Return what a folder is marked as: `UNFINISHED`, `REPLACED`, or None."""
    state = read_mark(work).get("featbank") if is_folder(work) else None
    return state if state in (UNFINISHED, REPLACED) else None


def is_marked(work: Path) -> bool:
    """Tell whether a folder is marked as one that featbank began, or replaced."""
    return state_of(work) is not None


def in_the_way(work: Path, out: Path) -> OutputExistsError:
    """Return the error about something that stands where `out` would be built."""
    message = (
        f"{work}, in which {out} would be built until it is whole, holds something else; "
        "rename it, or choose another path for --out"
    )
    return OutputExistsError(message)
