"""What a comparison takes over from the one that it replaces, and what must be true before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from featbank.comparing.bank_run import Entry
from featbank.comparing.cells import clear_partial
from featbank.errors import OutputExistsError
from featbank.files.exchanging import recover
from featbank.files.folders import give_name
from featbank.files.placing import Placing, placing, refuse_strangers, strangers
from featbank.files.replacing import refuse_odd_folder, require_room
from featbank.results.owned import PAGE, is_page, own_comparison
from featbank.results.saved import COMPARISON

__all__ = ["adopt", "comparing", "keep_page"]

# Of a cell, besides its head and the rows: the plane's grid and the records.
_CELL_BYTES = 1 << 15
# Of a reported row in a cell: label, prediction, confidence, NLL.
_ROW_BYTES = 16


@contextmanager
def comparing(
    out: Path, entries: Sequence[Entry], n_new: int, *, overwrite: bool
) -> Iterator[Placing]:
    """Give the folder in which a comparison is made, to be put in the place of `out`.

    Parameters
    ----------
    entries
        The banks that are compared.
    n_new
        How many cells are to be made, for the room that they need.
    overwrite
        Take over nothing that an interrupted attempt left.

    Raises
    ------
    OutputExistsError
        `out` holds other things and no comparison, or something in it has the name of a new file.
    StorageError
        The disk cannot hold the new cells beside the old ones.
    """
    refuse_others(out)
    if own_comparison(out) is not None:
        require_room(out, n_new * max(map(cell_bytes, entries), default=0), remedy="")
    with placing(out, own_comparison, keep=True, anew=overwrite) as new:
        clear_partial(new.work)
        yield new


def refuse_others(out: Path) -> None:
    """Refuse a folder that holds other things and no comparison, or our names in another kind."""
    recover(out)
    refuse_odd_folder(out)
    if not out.is_dir():
        return
    own = own_comparison(out)
    others = (name for name in strangers(out, ()) if not name.parts[0].startswith("."))
    other = next(others, None) if own is None else None
    if other is not None:
        message = f"{out} holds {other} and is no comparison's folder; choose another"
        raise OutputExistsError(message)
    refuse_strangers(out, own_comparison, (COMPARISON, PAGE))
    for name in ("banks", "cells"):
        refuse_odd_folder(out / name)


def cell_bytes(entry: Entry) -> int:
    """Estimate how many bytes a cell of a bank takes: a linear head, and what it says of rows."""
    n_classes, dim = len(entry.bank.class_counts), entry.bank.dim
    return 4 * n_classes * (dim + 2) + _ROW_BYTES * len(entry.bank[entry.split]) + _CELL_BYTES


def adopt(old: Path | None, work: Path) -> None:
    """Give the cells and the banks' records of `old` second names in `work`.

    Those that the new comparison has made itself are left, and those that it does not use are
    taken too: another comparison may.
    """
    names = [name for name in own_comparison(old) or () if len(name.parts) == 3] if old else []
    made = {name.parent for name in names if (work / name.parent).exists()}
    for name in names:
        if old is not None and name.parent not in made:
            (work / name.parent).mkdir(parents=True, exist_ok=True)
            give_name(old / name, work / name, old / name)


def keep_page(folder: Path) -> None:
    """Write the page of a comparison, where it is not there as it should be."""
    from featbank.files.atomic import replace_text
    from featbank.report.build import page_of

    text, path = page_of(folder), folder / PAGE
    if not (is_page(path) and path.read_bytes() == text.encode()):
        replace_text(path, text)
