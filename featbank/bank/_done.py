"""The chunks of a planned bank that are written: found, counted, read back and told of.

What is written stands in one table, `Done`, which these functions read or make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.bank.plan import BankPlan, Span
from featbank.store.background import Done
from featbank.store.chunks import ChunkRecord, chunk_file, read_chunk
from featbank.store.journal import Claims, claim
from featbank.store.schema import FEATURES, IMAGE_BYTES, IMAGE_SHA256

__all__ = [
    "claims_of",
    "column_file",
    "elsewhere",
    "missing",
    "read_report",
    "recorded_images",
    "report_of",
    "whole_rows",
]


def whole_rows(plan: BankPlan, claims: Claims) -> Done:
    """Return, by split and chunk, the records of those rows of which every array is there."""
    done: Done = {}
    for split, start, stop in plan.spans():
        _, index = key = plan.chunk(split, start)
        found = {name: claims.get((f"{split}/{name}", index)) for name in plan.columns(split)}
        whole = {name: record for name, record in found.items() if record is not None}
        if len(whole) == len(found) and all(
            (record.start, record.stop) == (start, stop) for record in whole.values()
        ):
            done[key] = whole
    return done


def elsewhere(plan: BankPlan, todo: Iterable[Sequence[Any]]) -> Done:
    """Return the chunks that are not among `todo`, as written, without their records.

    Another process of the job has the records; this one only needs to know what is left.
    """
    left = {plan.chunk(split, start) for split, start, _ in todo}
    chunks = (plan.chunk(span.split, span.start) for span in plan.spans())
    return {chunk: {} for chunk in chunks if chunk not in left}


def missing(plan: BankPlan, done: Done) -> Iterator[Span]:
    """Yield the rows of every chunk that is not written yet."""
    for span in plan.spans():
        if plan.chunk(span.split, span.start) not in done:
            yield span


def claims_of(done: Done) -> Claims:
    """Return what the journal says of the rows that are there."""
    return {
        (f"{split}/{name}", index): record
        for (split, index), records in done.items()
        for name, record in records.items()
    }


def report_of(done: Done) -> list[Any]:
    """Return the chunks that this process has written, as JSON, for another process to read."""
    return [[array, index, *astuple(record)] for (array, index), record in claims_of(done).items()]


def read_report(plan: BankPlan, reports: Iterable[Sequence[Any]]) -> Done:
    """Return the chunks that processes of the job have told of by `report_of`."""
    return whole_rows(plan, dict(claim(values) for report in reports for values in report))


def column_file(store: Path, plan: BankPlan, array: str, index: int) -> Path:
    """Return the path of one chunk of an array that is written chunk by chunk.

    Parameters
    ----------
    store : Path
        The bank's folder.
    plan : BankPlan
        The plan that has the array.
    array : str
        Split and column, as ``train/features`` or ``train/views/0``.
    index : int
        Number of the chunk along the rows.
    """
    split, name, *view = array.split("/")
    shape, _ = plan.columns(split).get(array.partition("/")[2], ((), ""))
    place = int(view[0]) if view else None
    return chunk_file(store / split / name, index, 1 + len(shape), place)


def recorded_images(
    store: Path, plan: BankPlan, done: Done, split: str
) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield (start, stop, sizes (n,), SHA-256 (n, 32)) of the images of rows that are there.

    Parameters
    ----------
    store : Path
        The bank's folder.
    plan : BankPlan
        One with images.
    done : Done
        What is written; a chunk may be taken out of it meanwhile.
    split : str
        The split whose rows are meant.

    Raises
    ------
    DamagedError
        A chunk of sizes or digests is not what was written.
    """
    for (name, index), records in sorted(done.items()):
        if name == split:
            sizes, hashes = (
                read_back(store, plan, f"{split}/{column}", index, records[column])
                for column in (IMAGE_BYTES, IMAGE_SHA256)
            )
            yield records[FEATURES].start, records[FEATURES].stop, sizes, hashes


def read_back(
    store: Path, plan: BankPlan, array: str, index: int, record: ChunkRecord
) -> NDArray[Any]:
    """Read the rows of one chunk that is written, (n, ...).

    Parameters
    ----------
    store, plan, array, index
        As `column_file` takes them.
    record : ChunkRecord
        What is known of the chunk, checked against the file.
    """
    split, _, column = array.partition("/")
    shape, dtype = plan.columns(split)[column]
    n_rows = record.stop - record.start
    chunk = np.empty((plan.step(split), *shape), dtype=dtype)
    read_chunk(column_file(store, plan, array, index), record, chunk[:n_rows], chunk[n_rows:])
    return chunk[:n_rows]
