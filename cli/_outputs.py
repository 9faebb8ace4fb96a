"""Files that a command writes beside its result: ``--json``, ``--markdown``.

They are checked before any work begins, so that none of it is lost at the end. They obey
``--overwrite`` as --out does: only a file that featbank wrote is ever replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from featbank.errors import StorageError
from featbank.files.atomic import refuse_other_file, replace_text
from featbank.results.owned import is_markdown, is_result
from featbank.runtime.names import printable

__all__ = [
    "BANK_FILES",
    "COMPARISON_FILES",
    "DEMO_FILES",
    "HEAD_FILES",
    "MISTAKES_FILES",
    "OURS",
    "RUN_FILES",
    "refuse_outputs",
    "write_output",
]

# What the commands themselves write into --out, as regular expressions of paths relative to it.
BANK_FILES = r"zarr\.json|journal.*|.*/.*"
RUN_FILES = r"run\.(json|yaml)|metrics\.csv|(best|last)\.safetensors|events\..*"
HEAD_FILES = r"results\.json|.*\.head"
MISTAKES_FILES = r"(mistakes|classes|confusion)\.csv|mistakes\.json"
COMPARISON_FILES = r"compare\.json|report\.html|(banks|cells)(/.*)?"
DEMO_FILES = r"results\.json|(run-.*|.*\.zarr|heads|comparison)(/.*)?"

# What a folder carries while it is built and replaced, see featbank.files.replacing.
_MARKS = r"\.featbank-(unfinished|replaced|new)"

OURS: dict[str, Callable[[Path], bool]] = {"--json": is_result, "--markdown": is_markdown}


def refuse_outputs(
    targets: Mapping[str, Path | None],
    *,
    overwrite: bool,
    out: Path | None = None,
    taken: str = r"(?!)",
) -> None:
    """Refuse, before any work, files that could not be written at its end.

    Parameters
    ----------
    targets : mapping
        From the option to what it names: None where it is not given, ``-`` for standard output.
    overwrite : bool
        Whether files that featbank wrote may be replaced.
    out : Path, optional
        What the command's --out names.
    taken : str
        Regular expression of the paths in `out`, relative to it, that the command itself writes.

    Raises
    ------
    UsageError
        Two outputs of the command are the same file.
    OutputExistsError
        A file is there that may not be replaced.
    StorageError
        The folder of a file cannot be written to.
    """
    files = {o: path for o, path in targets.items() if path is not None and str(path) != "-"}
    refuse_same(files, out, taken)
    for option, path in files.items():
        refuse_other_file(path, overwrite=overwrite, ours=OURS[option], option=option)
        refuse_closed(path, option)


def refuse_same(files: Mapping[str, Path], out: Path | None, taken: str) -> None:
    """Refuse two names for one file."""
    seen: dict[str, str] = {}
    if out is not None:
        seen[real(out)] = "--out"
    for option, path in files.items():
        name = real(path)
        other = seen.get(name)
        if out is not None and name.startswith(f"{real(out)}{os.sep}"):
            inside = os.path.relpath(name, real(out))
            other = "--out" if re.fullmatch(f"{taken}|{_MARKS}", inside, re.DOTALL) else other
        if out is not None and real(out).startswith(f"{name}{os.sep}"):
            other = "--out"
        if other is not None:
            message = f"{option} {path} names what {other} writes; choose another path for it"
            raise click.UsageError(printable(message))
        seen[name] = option


def real(path: Path) -> str:
    """Return a path whose folders are no links; the file itself may be one."""
    whole = os.path.abspath(path)
    return os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))


def refuse_closed(path: Path, option: str) -> None:
    """Refuse a file whose folder, or what is there of it, cannot be written to."""
    parents = Path(os.path.abspath(path)).parents
    folder = next(parent for parent in parents if os.path.lexists(parent))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "cannot be written to" if folder.is_dir() else "is no folder"
        message = f"cannot write {path}: {folder} {why}; choose another path for {option}"
        raise StorageError(message)


def write_output(option: str, path: Path, text: str, *, overwrite: bool) -> None:
    """Write a file whole or not at all, and the folders that it lies in.

    Parameters
    ----------
    option : str
        The option that names the file, for messages: a key of `OURS`.
    path : Path
        The file.
    text : str
        What it gets.
    overwrite : bool
        Whether a file that featbank wrote may be replaced.

    Raises
    ------
    OutputExistsError
        Another file came there since `refuse_outputs`.
    StorageError
        The disk is full, read-only or failing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_other_file(path, overwrite=overwrite, ours=OURS[option], option=option)
        replace_text(path, text)
    except OSError as error:
        if error.errno is None:
            raise
        message = f"cannot write {path}: {error.strerror}; choose another path for {option}"
        raise StorageError(message) from error
