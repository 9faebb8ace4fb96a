"""Which files featbank made: in a folder of results by the folder's own record, else by a mark.

`featbank.files.replacing` removes what these functions name and nothing else, so they name a file
only where a record of ours that parses does, and never one that a record could name by accident.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from featbank.files.plain_files import read_plain
from featbank.results.saved import BANK, COMPARISON, RECORD, read_record

__all__ = [
    "COMPARISON_MARK",
    "MISTAKES_FILES",
    "MISTAKES_RECORD",
    "PAGE",
    "PAGE_MARK",
    "PDF_MARK",
    "PNG_MARK",
    "RESULTS",
    "is_figure",
    "is_head",
    "is_markdown",
    "is_page",
    "is_result",
    "numbered",
    "own_comparison",
    "own_heads",
    "own_mistakes",
    "unnamed_heads",
]

RESULTS, PAGE = "results.json", "report.html"
# What `featbank mistakes` writes: the tables, and the record by which their folder is known.
MISTAKES_FILES = ("mistakes.csv", "classes.csv", "confusion.csv")
MISTAKES_RECORD = "mistakes.json"
# What our files carry, so that they are known again.
PAGE_MARK = '<meta name="generator" content="featbank">'
COMPARISON_MARK = "<!-- made by featbank compare -->"
PNG_MARK, PDF_MARK = "tEXtSoftware\0featbank", "/Creator (featbank)"
# A page of featbank before it had the mark.
_OLD_PAGE = ("<!doctype html>", '<p class="brand">featbank</p>', "Made by featbank ")

# Larger files are taken for a stranger's, and are not read.
MOST_BYTES = 1 << 28
# Of each kind of JSON object that a command writes: what it holds at least, besides "schema".
_MISTAKES = {"bank", "head", "split", "mistakes", "classes", "confusion"}
_KINDS = (
    {"results", "candidates"},  # fit, evaluate, demo
    {"settings", "banks", "heads", "results", "comparisons"},  # compare
    {"bank", "head", "parameter", "select", "report", "curves"},  # sweep
    {"bank", "chunks", "bytes", "sound", "findings"},  # verify
    {"bank", "digest", "dim", "dtype", "splits", "classes"},  # info, import
    {"bank", "rows", "skipped", "up_to_date"},  # extract
    {"checkpoint", "epochs", "seconds", "best"},  # train
    {"page", "bytes"},  # report
    _MISTAKES,
)
_ENTRY = {"bank", "head", "params", "split", "metrics", "fit_seconds"}

_HEAD_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\.head")
_KEY = re.compile(r"[0-9a-f]{32}")
_CELL_FILES = re.compile(r"evaluation\.npz|head\.head")
_BANK_FILES = re.compile(r"(view|curve-[a-z-]+)\.npz")
_TSNE = "tsne.npz"


def own_heads(folder: Path) -> list[Path] | None:
    """Name the files of `featbank fit` in a folder: the heads of its results.json, and that."""
    names = heads_of(read_json(folder / RESULTS))
    if names is None:
        return None
    heads = [Path(name) for name in names if is_head(folder / name)]
    return [*heads, Path(RESULTS)]


def heads_of(results: dict[str, Any] | None) -> list[str] | None:
    """Return the names of the heads' files that results of `fit` record; None for other things."""
    if results is None or not is_fit(results):
        return None
    entries = results["results"]
    names = [str(entry["file"]) for entry in entries if "file" in entry]
    names = list(dict.fromkeys(names)) or old_head_names(results)
    return names if all(_HEAD_FILE.fullmatch(name) for name in names) else None


def is_fit(results: dict[str, Any] | None) -> bool:
    """Tell whether a JSON object holds the results of `fit`."""
    if results is None or not is_kind(results, _KINDS[0]):
        return False
    entries = results["results"]
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and entry.keys() >= _ENTRY for entry in entries
    )


def old_head_names(results: dict[str, Any]) -> list[str]:
    """Return the files of results that were written before they named them, by the heads' names."""
    entries = [entry for entry in results["results"] if "file" not in entry]
    first = [str(entry["head"]) for entry in entries if entry["split"] == entries[0]["split"]]
    return list(numbered(first))


def unnamed_heads(path: Path) -> list[str] | None:
    """Return the heads' files that the results of a fit do not name, because they are older.

    None where the file is no record of a fit.
    """
    results = read_json(path)
    return None if results is None or not is_fit(results) else old_head_names(results)


def numbered(heads: Iterable[str]) -> Iterator[str]:
    """Name the file of each head by the head's name, numbered where that comes again."""
    seen: dict[str, int] = {}
    for name in heads:
        seen[name] = seen.get(name, 0) + 1
        yield f"{name}.head" if seen[name] == 1 else f"{name}-{seen[name]}.head"


def is_head(path: Path) -> bool:
    """Tell whether a file is a head by how it begins, or is empty: a disk may have lost it."""
    from heads.head_file import is_head_file

    return is_head_file(path) or (is_plain(path) and not path.stat().st_size)


def own_comparison(folder: Path) -> list[Path] | None:
    """Name the files of `featbank compare` in a folder, those of earlier comparisons too.

    The folder is known by any whole record: compare.json, a cell's or a bank's. In it the files
    are ours that a record names; where one is damaged, those of the names that it would have.
    """
    cells = [*records(folder / "cells", RECORD, _CELL_FILES, _KEY)]
    banks = [*records(folder / "banks", BANK, _BANK_FILES)]
    compared = is_kind(read_record(folder / COMPARISON), _KINDS[1])
    if not (compared or any(whole for whole, _ in (*cells, *banks))):
        return None
    files = [name for _, names in (*cells, *banks) for name in names]
    files += [Path("banks", name.parts[1], _TSNE) for name in files if name.name == BANK]
    own = [name for name in files if is_plain(folder / name)]
    own += [Path(PAGE)] if is_page(folder / PAGE) else []
    return [*own, *([Path(COMPARISON)] if is_plain(folder / COMPARISON) else [])]


def own_mistakes(folder: Path) -> list[Path] | None:
    """Name the files of `featbank mistakes` in a folder, which is known by its whole record."""
    record = folder / MISTAKES_RECORD
    if not (is_plain(record) and is_kind(read_record(record), _MISTAKES)):
        return None
    there = [Path(name) for name in MISTAKES_FILES if is_plain(folder / name)]
    return [*there, Path(MISTAKES_RECORD)]


def records(
    top: Path, record: str, files: re.Pattern[str], key: re.Pattern[str] | None = None
) -> Iterator[tuple[bool, list[Path]]]:
    """Yield of every folder in `top` whether its record is whole, and the paths of our files in it.

    Parameters
    ----------
    top : Path
        The folder of the cells, or that of the banks.
    record : str
        The name of the record's file.
    files : pattern
        What the names of the other files look like.
    key : pattern, optional
        What the names of the folders look like; folders of other names are passed over.

    Yields
    ------
    bool
        Whether the record is whole.
    list of Path
        Relative to the folder in which `top` lies. Where the record is whole, the files that it
        names; otherwise those that are there. The record itself is among them.
    """
    if top.is_symlink() or not top.is_dir():
        return
    for folder in sorted(top.iterdir()):
        if folder.is_symlink() or not folder.is_dir() or (key and not key.fullmatch(folder.name)):
            continue
        found = read_record(folder / record) if is_plain(folder / record) else None
        held = found.get("files") if found else None
        named = list(held) if isinstance(held, dict) else [path.name for path in folder.iterdir()]
        place = Path(top.name, folder.name)
        names = [place / name for name in named if files.fullmatch(str(name))]
        yield isinstance(held, dict), [*names, place / record]


def is_plain(path: Path) -> bool:
    """Tell whether a path is a regular file, and no link."""
    return path.is_file() and not path.is_symlink()


def is_result(path: Path) -> bool:
    """Tell whether a file is a JSON object that a command wrote by itself.

    The record of a folder of results is none: it would leave the folder's files without it.
    """
    found = read_json(path)
    if found is None or "sha256" in found or not any(is_kind(found, kind) for kind in _KINDS):
        return False
    if path.name != RESULTS and own_heads(path.parent) is not None:
        return True  # a copy: the folder has its own record
    return not any(is_plain(path.parent / name) for name in beside(found))


def beside(found: Mapping[str, Any]) -> list[str]:
    """Return the files that results record as lying beside them."""
    entries = found.get("results")
    fitted = [
        entry
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and "fit_seconds" in entry
    ]
    return [str(entry.get("file", f"{entry.get('head')}.head")) for entry in fitted]


def is_kind(found: Mapping[str, Any] | None, keys: set[str]) -> bool:
    """Tell whether a JSON object is of schema 1 and has these keys."""
    return found is not None and found.get("schema") == 1 and found.keys() >= keys


def is_markdown(path: Path) -> bool:
    """Tell whether a Markdown file was written by `featbank compare`."""
    return read_text(path).rstrip().endswith(COMPARISON_MARK)


def is_page(path: Path) -> bool:
    """Tell whether a page was written by featbank."""
    text = read_text(path)
    return PAGE_MARK in text or (
        text.startswith(_OLD_PAGE[0]) and all(mark in text for mark in _OLD_PAGE)
    )


def is_figure(path: Path) -> bool:
    """Tell whether a PDF or PNG was drawn by featbank."""
    text = read_text(path)
    return (text.startswith("%PDF") and PDF_MARK in text) or (
        text[1:4] == "PNG" and PNG_MARK in text[:1000]
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a regular file, or None where there is none."""
    try:
        found = json.loads(read_plain(path.parent, path, MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_text(path: Path) -> str:
    """Return what is in a regular file, byte by byte as Latin-1; nothing where it is none."""
    try:
        return read_plain(path.parent, path, MOST_BYTES).decode("latin-1")
    except OSError:
        return ""
