"""Chunks on their way to disk: written by threads in the background, journalled when written."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from featbank.files.atomic import storage_errors
from featbank.store.chunks import ChunkRecord, write_chunk
from featbank.store.journal import Journal

__all__ = ["BackgroundWriter", "Done", "Records", "RowChunk"]

Records = dict[str, ChunkRecord]
"""Of some rows, by column: the chunk that holds them."""

Done = dict[tuple[str, int], Records]
"""By split and number of the chunk: the records of rows that are written."""

# One chunk being filled, one being hashed, one being written.
IN_FLIGHT = 3


@dataclass(frozen=True)
class RowChunk:
    """Some rows of a split, on their way to disk: a chunk of each of its columns.

    Parameters
    ----------
    split : str
        The split's name.
    index : int
        Number of the chunk along the rows.
    start, stop : int
        The rows, [start, stop).
    columns : mapping
        By the column's name, the whole chunk, padded and in the stored dtype, and its file.
    """

    split: str
    index: int
    start: int
    stop: int
    columns: Mapping[str, tuple[NDArray[Any], Path]]

    def write(self) -> Records:
        """Write the files; return their records."""
        return {
            name: write_chunk(file, values, self.start, self.stop)
            for name, (values, file) in self.columns.items()
        }


class BackgroundWriter:
    """Writes chunks in two threads; the caller's thread enters them in `done` and the journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.done: Done = {}
        # Holds no rows: those of a chunk that is written are free at once.
        self.pending: list[tuple[str, int, Future[Records]]] = []
        self.pool = ThreadPoolExecutor(IN_FLIGHT - 1)

    def put(self, chunk: RowChunk) -> None:
        """Take a chunk; wait only where too many are under way."""
        self.pending.append((chunk.split, chunk.index, self.pool.submit(chunk.write)))
        self.collect(IN_FLIGHT - 1)

    def collect(self, most: int) -> None:
        """Note finished chunks until at most `most` are under way."""
        while len(self.pending) > most:
            self.note(*self.pending.pop(0))

    @storage_errors()
    def note(self, split: str, index: int, job: Future[Records]) -> None:
        """Enter a chunk in `done` and in the journal when its job has written it."""
        self.done[split, index] = job.result()
        for name, record in self.done[split, index].items():
            self.journal.record(f"{split}/{name}", index, record)

    def stop(self) -> None:
        """End the threads; a chunk that none of them has begun is not written."""
        self.pool.shutdown(wait=True, cancel_futures=True)

    def keep_finished(self) -> None:
        """Note what was written although the job ends here, so that it is not done again."""
        for split, index, job in self.pending:
            if not job.cancelled() and job.exception() is None:
                self.note(split, index, job)
        self.pending.clear()

    def forget(self) -> None:
        """Leave what is under way out of the journal."""
        self.pending.clear()
