"""Reading everything and checking every digest: what `featbank verify` runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from featbank._chunks import ChunkRecord, chunk_file
from featbank.bank import Bank

__all__ = ["Damage", "find_damage", "matches"]

CHECKERS = 2
PIECE = 1 << 20


@dataclass(frozen=True)
class Damage:
    """A chunk that is not what was written: its array, file and rows [start, stop)."""

    array: str
    index: int
    file: Path
    start: int
    stop: int


def find_damage(bank: Bank) -> list[Damage]:
    """Read every chunk of a bank and return those whose SHA-256 is not the manifest's."""
    with ThreadPoolExecutor(CHECKERS) as pool:
        found = pool.map(
            lambda item: None if matches(item[0].file, item[1]) else item[0], chunks(bank)
        )
        return [damage for damage in found if damage is not None]


def chunks(bank: Bank) -> Iterator[tuple[Damage, ChunkRecord]]:
    """Yield every chunk of every array, with its record."""
    for name, record in bank.manifest.arrays.items():
        for index, chunk in enumerate(record.chunks):
            file = chunk_file(bank.path / name, index, len(record.shape))
            yield Damage(name, index, file, chunk.start, chunk.stop), chunk


def matches(file: Path, record: ChunkRecord) -> bool:
    """Tell whether a file is the one that was recorded."""
    sha = hashlib.sha256()
    try:
        with file.open("rb", buffering=0) as handle:
            while piece := handle.read(PIECE):
                sha.update(piece)
    except OSError:
        return False
    return sha.hexdigest() == record.sha256
