"""Reading everything and checking every digest: what `featbank verify` runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featbank.bank.bank import Bank, Split
from featbank.errors import DamagedError
from featbank.files.plain_files import open_plain, plain_size
from featbank.runtime.progress import SILENT, Reporter
from featbank.store.chunks import ChunkRecord
from featbank.store.schema import MANIFEST

__all__ = ["Damage", "Report", "matches", "verify"]

CHECKERS = 2
PIECE = 1 << 20


@dataclass(frozen=True)
class Damage:
    """A chunk that is not what was written.

    Parameters
    ----------
    array : str
        The array's name, as ``train/features``.
    index : int
        Number of the chunk among the array's.
    file : Path
        Its file.
    start, stop : int
        Its rows, [start, stop).
    """

    array: str
    index: int
    file: Path
    start: int
    stop: int

    def __str__(self) -> str:
        what = "is missing" if not os.path.lexists(self.file) else "is not what was written"
        return f"{self.file} {what}: {self.array}, rows {self.start} to {self.stop - 1}"


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes
    ----------
    bank : str
        The bank's path.
    n_chunks, n_bytes : int
        Chunks that were checked, and their bytes.
    damage : tuple of Damage
        Chunks that are missing or are not what was written.
    findings : tuple of str
        What else is wrong: values that no bank should hold. Looked for where nothing is damaged.
    notes : tuple of str
        Files in the store that are no part of the bank; they are never read.
    """

    bank: str
    n_chunks: int
    n_bytes: int
    damage: tuple[Damage, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """True where nothing was found."""
        return not self.damage and not self.findings

    @property
    def wrong(self) -> list[str]:
        """Everything that was found, a line for each place."""
        return [*map(str, self.damage), *self.findings]

    def to_json(self) -> dict[str, Any]:
        """Return the object of schema 1 that `featbank verify` writes."""
        return {
            "schema": 1,
            "bank": self.bank,
            "chunks": self.n_chunks,
            "bytes": self.n_bytes,
            "sound": self.sound,
            "findings": self.wrong,
            "notes": list(self.notes),
        }

    def require_sound(self) -> None:
        """Raise `DamagedError` unless everything is what was written."""
        if not self.sound:
            message = (
                f"{self.bank} is damaged in {len(self.wrong)} places; "
                "run the extraction or import that made it again"
            )
            raise DamagedError(message)


def verify(bank: Bank, reporter: Reporter = SILENT) -> Report:
    """Read every byte of a bank and compare it with the manifest.

    Checks the SHA-256 of every chunk, that features are finite, that labels count up to the class
    counts, and that nothing lies in the store that the manifest does not know. The reporter is
    told of every chunk.

    Raises
    ------
    StaleError
        The bank was replaced meanwhile.
    """
    places = list(chunks(bank))
    with (
        reporter.track("verify", len(places), "chunks") as advance,
        ThreadPoolExecutor(CHECKERS) as pool,
    ):

        def check(item: tuple[Damage, ChunkRecord]) -> Damage | None:
            place, record = item
            sound = reachable(bank.path, place.file) and matches(place.file, record)
            advance(1)
            return None if sound else place

        damage = tuple(place for place in pool.map(check, places) if place is not None)
    if damage:
        bank.refuse_replaced()
    n_bytes = sum(place.file.stat().st_size for place, _ in places if place.file.is_file())
    findings = () if damage else tuple(content_findings(bank))
    notes = tuple(foreign_files(bank))
    return Report(str(bank.path), len(places), n_bytes, damage, findings, notes)


def content_findings(bank: Bank) -> Iterator[str]:
    """Say what intact files hold that no bank should."""
    counts = np.bincount(bank["train"].labels, minlength=len(bank.class_names))
    if counts.tolist() != bank.class_counts.tolist():
        yield "train/labels do not count up to the class counts of the manifest"
    if not all(np.isfinite(part).all() for part in bank.classifier or ()):
        yield "classifier/weight or classifier/bias has values that are not finite"
    for name in bank.splits:
        labels = bank[name].labels
        if labels.min() < 0 or labels.max() >= len(bank.class_names):
            yield f"{name}/labels has labels outside 0..{len(bank.class_names) - 1}"
        views = [(f"view {k} of {name}", bank[name].view(k)) for k in range(bank[name].n_views)]
        for what, split in [(f"{name}/features", bank[name]), *views]:
            bad = first_not_finite(split)
            if bad is not None:
                yield f"{what} has values that are not finite, first in row {bad}"


def first_not_finite(split: Split) -> int | None:
    """Return the first row with a value that is not finite."""
    for start, rows in split.blocks():
        if not np.isfinite(rows).all():
            return start + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
    return None


def foreign_files(bank: Bank) -> Iterator[str]:
    """Name files that are no part of the bank; they are never read."""
    known = {bank.path / name for name in (*bank.manifest.files(), Path(MANIFEST))}
    for file in sorted(bank.path.rglob("*")):
        if file.is_symlink() or (file.is_file() and file not in known):
            yield f"{file} is no part of the bank; it is ignored"


def chunks(bank: Bank) -> Iterator[tuple[Damage, ChunkRecord]]:
    """Yield every chunk of every array, with its record."""
    for name, record in bank.manifest.arrays.items():
        for index, chunk in enumerate(record.chunks):
            file = record.file(bank.path / name, index)
            yield Damage(name, index, file, chunk.start, chunk.stop), chunk


def reachable(store: Path, file: Path) -> bool:
    """Tell whether a regular file is there, and no symbolic link on the way to it."""
    try:
        plain_size(store, file)
    except OSError:
        return False
    return True


def matches(file: Path, record: ChunkRecord) -> bool:
    """Tell whether a file is the one that was recorded."""
    sha = hashlib.sha256()
    try:
        with open(open_plain(file), "rb", buffering=0) as handle:
            while piece := handle.read(PIECE):
                sha.update(piece)
    except OSError:
        return False
    return sha.hexdigest() == record.sha256
