"""The folder that a bank is to be in: which files there are featbank's, and whether there is room.

Nothing but these files is ever removed. Of a complete bank its manifest names them; of an
unfinished one the journal names the plan, and with it the arrays whose files they are. A folder
that has neither, or has files of such names that say something else, is no bank.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from featbank.bank.bank import Bank
from featbank.bank.plan import BankPlan, identity_of
from featbank.errors import InputError, OutputExistsError, StorageError
from featbank.files.folders import not_ours, remove_empty_folders, remove_own
from featbank.files.plain_files import require_no_links
from featbank.files.replacing import refuse_odd_folder
from featbank.store.journal import Journal, begun_plan, rank_journals
from featbank.store.manifest import Manifest
from featbank.store.schema import (
    FEATURES,
    IDS,
    IMAGE_BYTES,
    IMAGE_SHA256,
    JOURNAL,
    LABELS,
    MANIFEST,
    VIEWS,
)

__all__ = [
    "check_room",
    "clear",
    "clear_small",
    "n_bytes_of",
    "own_bank",
    "refuse_foreign",
    "refuse_links",
    "refuse_taken_names",
]

# Files in the making: ours at the root, and zarr's beside the file that it writes.
_OUR_PARTIAL = rf"\.({re.escape(MANIFEST)}|{re.escape(JOURNAL)})\.[0-9a-f]{{16}}\.partial"
_NUMBER, _PARTIAL = r"(0|[1-9][0-9]*)", r"(\.[0-9a-f]{32}\.partial)"
_METADATA = rf"zarr(\.json|{_PARTIAL})"
_CHUNKS = {
    FEATURES: f"c/{_NUMBER}/0",
    IMAGE_SHA256: f"c/{_NUMBER}/0",
    IMAGE_BYTES: f"c/{_NUMBER}",
    VIEWS: f"c/{_NUMBER}/{_NUMBER}/0",
    LABELS: f"c/{_NUMBER}",
    IDS: f"c/{_NUMBER}",
}


def own_bank(store: Path) -> list[Path] | None:
    """Return featbank's own files in a bank's folder, its record last; None where it is no bank."""
    manifest, plan = Manifest.recognise(store), begun_plan(store)
    if manifest is None and plan is None:
        return None
    names = {name for name in map(Path, os.listdir(store)) if re.fullmatch(_OUR_PARTIAL, name.name)}
    if manifest is not None:
        names |= set(manifest.files())
    if plan is not None:
        names |= set(planned_files(store, plan))
    journals = [path.relative_to(store) for path in rank_journals(store)]
    records = [Path(JOURNAL)] if plan is not None else []
    records += [Path(MANIFEST)] if manifest is not None else []
    return [*sorted(names), *journals, *records]


def planned_files(store: Path, plan: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the files there that belong to the arrays of a plan, written or in the making."""
    pattern = planned_names(plan)
    for top in (*plan["rows"], "classifier"):
        if (store / top).is_symlink():
            continue
        for folder, _, files in os.walk(store / top):
            for name in files:
                file = Path(folder, name).relative_to(store)
                if pattern.fullmatch(file.as_posix()):
                    yield file


def planned_names(plan: Mapping[str, Any]) -> re.Pattern[str]:
    """Return what the names of all files below the root match that a bank of a plan can have."""
    splits = "|".join(map(re.escape, plan["rows"]))
    left_out = set() if plan.get("images") else {IMAGE_SHA256, IMAGE_BYTES}
    left_out |= set() if plan.get("views") else {VIEWS}
    chunks = {name: chunk for name, chunk in _CHUNKS.items() if name not in left_out}
    arrays = "|".join(f"{name}/({_METADATA}|{file}{_PARTIAL}?)" for name, file in chunks.items())
    head = f"weight/({_METADATA}|c/{_NUMBER}/0)|bias/({_METADATA}|c/{_NUMBER})"
    return re.compile(f"({splits})/({_METADATA}|{arrays})|classifier/({_METADATA}|{head})")


def n_bytes_of(store: Path, names: Sequence[Path]) -> int:
    """Return how many bytes some files of a folder take."""
    there = (store / name for name in names)
    return sum(path.lstat().st_size for path in there if os.path.lexists(path))


def refuse_foreign(store: Path) -> None:
    """Refuse a path that holds something else than a bank: nothing there is ever replaced."""
    refuse_odd_folder(store)
    if not store.is_dir() or own_bank(store) is not None:
        return
    # All that a writer killed in its first moment leaves is a journal in the making.
    if all(re.fullmatch(_OUR_PARTIAL, name) for name in os.listdir(store)):
        return
    message = f"{store} exists and is not a bank; choose another path for --out"
    if os.path.lexists(store / MANIFEST) or os.path.lexists(store / JOURNAL):
        message = (
            f"{store} exists and is not a bank, or too damaged to be known for one (its {MANIFEST} "
            f"or {JOURNAL} says nothing of one); move it away, or choose another path for --out"
        )
    raise OutputExistsError(message)


def refuse_taken_names(store: Path, names: Sequence[Path], plan: BankPlan) -> None:
    """Refuse to begin where the user's own files have names that a bank of this plan needs.

    `names` are featbank's files in the folder.
    """
    made, pattern = set(names), planned_names(plan.identity())
    if os.path.lexists(store / MANIFEST) and Path(MANIFEST) not in made:
        raise not_ours(store / MANIFEST)
    for folder, _, files in os.walk(store):
        for path in (Path(folder, name) for name in files):
            name = path.relative_to(store)
            if name not in made and pattern.fullmatch(name.as_posix()):
                raise not_ours(path)


def refuse_links(store: Path) -> None:
    """Refuse to go on in a folder with symbolic links: a chunk could land anywhere."""
    try:
        require_no_links(store)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}; take it out of the bank"
        raise InputError(message) from error


def clear(store: Path, names: Sequence[Path]) -> None:
    """Remove featbank's own files, `names`, from a bank's folder, but for its record.

    A complete bank first becomes an unfinished one, so that at no moment a part of it looks whole.
    """
    manifest = Manifest.recognise(store)
    if os.path.lexists(store / JOURNAL) and Path(JOURNAL) not in names:
        raise not_ours(store / JOURNAL)
    if manifest is not None:
        with suppress(OSError):  # a full disk must not keep its bank from being removed
            Journal(store).begin(identity_of(Bank(store, manifest)), {})
            (store / MANIFEST).unlink()
    records = (Path(MANIFEST), Path(JOURNAL))
    remove_own(store, [name for name in names if name not in records])
    for top in {name.parts[0] for name in names if len(name.parts) > 1}:
        if (store / top).is_dir():
            remove_empty_folders(store / top)


def clear_small(store: Path, plan: BankPlan) -> None:
    """Take out labels, ids, classifier and metadata that a killed commit may have left."""
    names = planned_files(store, plan.identity())
    remove_own(store, [name for name in names if not is_column(name, plan)])


def is_column(name: Path, plan: BankPlan) -> bool:
    """Tell whether a planned file is a chunk of what is written chunk by chunk."""
    top, array = name.parts[:2]
    columns = {column.split("/")[0] for column in plan.columns(top)} if top in plan.rows else ()
    return array in columns and name.parts[2] == "c" and name.suffix != ".partial"


def check_room(store: Path, n_bytes: int, freed: int = 0) -> None:
    """Refuse before any work where the disk cannot hold the features, once `freed` are removed."""
    free = shutil.disk_usage(store).free + freed
    if n_bytes > free:
        message = (
            f"{store} needs {n_bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free; "
            "make room, or choose another disk for --out"
        )
        raise StorageError(message)
