"""The folder that a bank is to be in: what may be cleared there, and whether there is room."""

from __future__ import annotations

import shutil
from pathlib import Path

from featbank._plain import require_no_links
from featbank.errors import InputError, OutputExistsError, StorageError
from featbank.plan import BankPlan
from featbank.schema import IDS, JOURNAL, LABELS, MANIFEST

__all__ = ["check_room", "clear", "clear_small", "refuse_foreign", "refuse_links"]


def refuse_foreign(store: Path) -> None:
    """Refuse a path that holds something else than a bank: it is never cleared."""
    if store.is_symlink() or (store.exists() and not store.is_dir()):
        message = f"{store} exists and is no folder; choose another path for --out"
        raise OutputExistsError(message)
    begun = f".{JOURNAL}.partial"  # all that a writer killed in its first moment leaves
    if not store.is_dir() or all(path.name == begun for path in store.iterdir()):
        return
    if (store / JOURNAL).is_file():
        return
    if not (store / MANIFEST).is_file() or b'"featbank"' not in (store / MANIFEST).read_bytes():
        message = f"{store} exists and is not a bank; choose another path for --out"
        raise OutputExistsError(message)


def refuse_links(store: Path) -> None:
    """Refuse to go on in a folder with symbolic links: a chunk could land anywhere."""
    try:
        require_no_links(store)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}; take it out of the bank"
        raise InputError(message) from error


def clear(store: Path) -> None:
    """Empty a bank's folder.

    The manifest goes first, so that at no moment a part looks whole; the journal goes last, so
    that what a kill leaves is still known for an unfinished bank, and may be cleared again.
    """
    (store / JOURNAL).touch()
    (store / MANIFEST).unlink(missing_ok=True)
    for path in store.iterdir():
        if path.name != JOURNAL:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (store / JOURNAL).unlink()


def clear_small(store: Path, plan: BankPlan) -> None:
    """Take out labels, ids, classifier and metadata that a killed commit may have left."""
    for split in plan.rows:
        for name in (LABELS, IDS):
            shutil.rmtree(store / split / name, ignore_errors=True)
        arrays = {name.split("/")[0] for name in plan.columns(split)}
        for folder in (store / split, *(store / split / name for name in sorted(arrays))):
            for metadata in (folder / "zarr.json", *folder.glob("*.partial")):
                metadata.unlink(missing_ok=True)
    shutil.rmtree(store / "classifier", ignore_errors=True)
    for part in store.glob(".*.partial"):
        part.unlink()


def check_room(store: Path, n_bytes: int) -> None:
    """Refuse before any work where the disk cannot hold the features."""
    free = shutil.disk_usage(store).free
    if n_bytes > free:
        message = (
            f"{store} needs {n_bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free; "
            "make room, or choose another disk for --out"
        )
        raise StorageError(message)
