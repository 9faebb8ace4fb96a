"""Writing a bank: known rows, chunks in any order, the manifest last; a killed job goes on.

Where the files go, and how they come to their place, is `featbank.bank._place`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featbank.bank._place import Place
from featbank.bank._resume import (
    Records,
    claimed_file,
    identity_at,
    of_complete,
    of_unfinished,
    require_same,
    spans,
    whole_rows,
)
from featbank.bank.folder import clear_small
from featbank.bank.plan import BankPlan
from featbank.errors import DamagedError, InputError, OutputExistsError, StaleError
from featbank.files.atomic import storage_errors
from featbank.files.lock import FolderLock
from featbank.files.replacing import not_ours
from featbank.store import zarr_arrays as _zarr
from featbank.store.chunks import ChunkRecord, read_chunk, write_chunk
from featbank.store.journal import Claims, Journal, begun_plan, claim, rank_journals
from featbank.store.manifest import ArrayRecord, Manifest, commit
from featbank.store.rounding import Columns
from featbank.store.schema import (
    CLASSIFIER_BIAS,
    CLASSIFIER_WEIGHT,
    FEATURES,
    IDS,
    IMAGE_BYTES,
    IMAGE_SHA256,
    JOURNAL,
    LABELS,
    MANIFEST,
    VIEWS,
)
from featbank.store.values import check_rounding, check_values, copy_rows
from featbank.store.whole_arrays import sha256_of, write_array, write_ids

__all__ = ["BankWriter", "Span"]

ImageRecords = tuple[NDArray[np.uint8], NDArray[np.int64]]
Span = tuple[str, int, int]

# One chunk being filled, one being hashed, one being written.
IN_FLIGHT = 3


class BankWriter:
    """Fills a bank, chunk by chunk, in any order.

    Leaving the ``with`` block without `commit` leaves an unfinished bank, which nothing opens and
    which the same plan continues.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from featbank import Bank, BankPlan, BankWriter
    >>> from featbank.bank.rows import SplitRows
    >>> rows = {"train": SplitRows(["a", "b"], np.array([0, 1]))}
    >>> path = tempfile.mkdtemp() + "/tiny.zarr"
    >>> with BankWriter.begin(path, BankPlan(3, rows, ["cat", "dog"])) as writer:
    ...     for split, start, stop in writer.missing():
    ...         writer.put(split, start, np.eye(2, 3)[start:stop])
    ...     writer.commit()
    >>> Bank.open(path)["train"].read(dtype="float32").tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    def __init__(self, place: Place, plan: BankPlan, rank: int = 0) -> None:
        self.place, self.plan = place, plan
        self.journal = Journal(place.store, rank)
        self.up_to_date = False
        self.done: dict[tuple[str, int], Records] = {}
        self.pending: list[tuple[str, int, Future[Records]]] = []
        self.pool = ThreadPoolExecutor(IN_FLIGHT - 1)
        self.rounded: dict[str, Columns] = {}

    @property
    def store(self) -> Path:
        """The folder that is written to."""
        return self.place.store

    @property
    def lock(self) -> FolderLock:
        """The lock on it."""
        return self.place.lock

    @classmethod
    def begin(
        cls,
        path: str | Path,
        plan: BankPlan,
        *,
        overwrite: bool = False,
        replace_in_place: bool = False,
        update: bool = False,
    ) -> BankWriter:
        """Begin a bank at `path`, or continue the unfinished one that is there.

        Parameters
        ----------
        overwrite : bool
            Make a complete or unfinished bank anew. It stays until `commit`: the new one is built
            beside it, where an interrupted attempt is continued. What is no bank is never
            replaced, and what lies in the bank's folder beside featbank's files stays there.
        replace_in_place : bool
            With `overwrite`, remove the old bank first, for disks that cannot hold both.
        update : bool
            Take a complete bank of the same plan as it is, every byte checked: nothing is missing
            then but the rows that are damaged.

        Raises
        ------
        OutputExistsError
            A complete bank is there and neither is set, or something that is no bank.
        StaleError
            The bank there was made from something else; the message names the fields.
        StorageError
            The disk has too little room, or cannot be written.
        LockedError
            Another process is writing there.
        """
        place = Place.open(Path(path), plan, overwrite=overwrite, in_place=replace_in_place)
        with place.released_on_error():
            writer = cls(place, plan)
            writer.settle(update=update)
        return writer

    @classmethod
    def join(
        cls,
        path: str | Path,
        plan: BankPlan,
        rank: int,
        todo: Sequence[Span],
        *,
        beside: bool = False,
    ) -> BankWriter:
        """Help, as another process of the job, with a bank that its first process has begun.

        Parameters
        ----------
        rank : int
            This process's number, from 1.
        todo : sequence of (split, start, stop)
            What was missing when the job began; the first process tells.
        beside : bool
            Whether the first process builds the bank beside the one that it replaces.

        Raises
        ------
        StaleError
            The bank there is to be made from something else than `plan`: this process was
            started with other settings, or sees other images.
        """
        place = Place.join(Path(path), beside=beside)
        with place.released_on_error():
            writer = cls(place, plan, rank)
            require_same(place.store, identity_at(place.store), plan)
        missing = {(split, start) for split, start, _ in todo}
        writer.done = {
            (split, start // plan.step(split)): {}
            for split, start, _ in spans(plan)
            if (split, start) not in missing
        }
        return writer

    @storage_errors()
    def settle(self, *, update: bool) -> None:
        """Take over what the records in the folder claim and its files confirm, or begin."""
        if self.place.is_beside:
            self.settle_beside()
        elif Manifest.recognise(self.store) is not None:
            if not update:
                message = f"{self.store} exists; choose another path for --out, or add --overwrite"
                raise OutputExistsError(message)
            self.adopt()
        elif begun_plan(self.store) is not None:
            self.resume()
        else:
            self.place.require_room(self.plan)
            self.journal.begin(self.plan.identity(), {})

    def settle_beside(self) -> None:
        """Go on with the replacement that an interrupted attempt left, or begin it.

        Where that was to become another bank, or is damaged, it is made anew: nobody misses it.
        """
        try:
            if Manifest.recognise(self.store) is not None:
                self.done = whole_rows(self.plan, of_complete(self.store, self.plan)[0])
            elif begun_plan(self.store) is not None:
                self.done = whole_rows(self.plan, of_unfinished(self.store, self.plan))
        except (StaleError, DamagedError, InputError):
            self.done = {}
        if not self.done:
            self.place.clear()
        self.place.require_room(self.plan)
        self.journal.begin(self.plan.identity(), self.claims())
        (self.store / MANIFEST).unlink(missing_ok=True)

    def adopt(self) -> None:
        """Keep a complete bank of the same plan; where it is damaged, reopen it without that."""
        claims, self.up_to_date = of_complete(self.store, self.plan)
        self.done = whole_rows(self.plan, claims)
        if not self.up_to_date:
            if os.path.lexists(self.store / JOURNAL) and begun_plan(self.store) is None:
                raise not_ours(self.store / JOURNAL)
            self.journal.begin(self.plan.identity(), self.claims())
            (self.store / MANIFEST).unlink()

    def resume(self) -> None:
        """Keep the chunks whose files match what the journals claim; leave one journal."""
        if os.path.lexists(self.store / MANIFEST):
            raise not_ours(self.store / MANIFEST)
        self.done = whole_rows(self.plan, of_unfinished(self.store, self.plan))
        if rank_journals(self.store):
            self.journal.begin(self.plan.identity(), self.claims())

    def claims(self) -> Claims:
        """Return what the journal says of the rows that are there."""
        return {
            (f"{split}/{name}", index): record
            for (split, index), records in self.done.items()
            for name, record in records.items()
        }

    def file(self, array: str, index: int) -> Path:
        """Return the path of one chunk of an array, as ``train/features``."""
        return claimed_file(self.store, self.plan, array, index)

    def recorded_images(
        self, split: str
    ) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield (start, stop, sizes (n,), SHA-256 (n, 32)) of the images of rows that are there."""
        for (name, index), records in sorted(self.done.items()):
            if name == split:
                sizes, hashes = (
                    self.read_back(f"{split}/{column}", index, records[column])
                    for column in (IMAGE_BYTES, IMAGE_SHA256)
                )
                start, stop = records[FEATURES].start, records[FEATURES].stop
                yield start, stop, sizes, hashes

    def read_back(self, array: str, index: int, record: ChunkRecord) -> NDArray[Any]:
        """Read one chunk that is written."""
        split, _, column = array.partition("/")
        shape, dtype = self.plan.columns(split)[column]
        n_rows = record.stop - record.start
        chunk = np.empty((self.plan.step(split), *shape), dtype=dtype)
        read_chunk(self.file(array, index), record, chunk[:n_rows], chunk[n_rows:])
        return chunk[:n_rows]

    def drop(self, split: str, start: int) -> None:
        """Take the chunk that begins at row `start` for not written: it is made again."""
        del self.done[split, start // self.plan.step(split)]

    def missing(self) -> Iterator[tuple[str, int, int]]:
        """Yield (split, start, stop) of every chunk of rows that is not there yet."""
        for split, start, stop in spans(self.plan):
            if (split, start // self.plan.step(split)) not in self.done:
                yield split, start, stop

    def put(
        self,
        split: str,
        start: int,
        block: NDArray[Any],
        images: ImageRecords | None = None,
        views: Sequence[NDArray[Any]] = (),
    ) -> None:
        """Hand over one chunk of rows: features (stop - start, D) of any float dtype.

        Returns at once; a few chunks are hashed and written in the background, from the block
        itself where it has the stored dtype, so it must not be changed afterwards.

        Parameters
        ----------
        images : pair of arrays, where the plan has images
            SHA-256 (stop - start, 32) uint8 and size (stop - start,) int64 of each row's image.
        views : sequence of arrays, where the plan has views of this split
            Features (stop - start, D) of each view of the rows.

        Raises
        ------
        InputError
            A value is not finite, or does not fit the stored dtype; the message names the rows.
        StorageError
            An earlier chunk could not be written.
        """
        step, rows = self.plan.step(split), self.plan.rows[split]
        stop = min(start + step, len(rows))
        # Writable and in C order is what torch, which checks and converts, shares without a copy.
        block, *views = (np.require(each, requirements=["C", "W"]) for each in (block, *views))
        for each in (block, *views):
            if start % step or each.shape != (stop - start, self.plan.dim):
                message = (
                    f"split {split!r}: a block of shape {each.shape} at row {start}, where "
                    f"({stop - start}, {self.plan.dim}) is due"
                )
                raise InputError(message)
            check_values(each, self.plan.dtype, split, rows.ids[start:stop])
        if len(views) != self.plan.n_views(split):
            message = (
                f"split {split!r}: {len(views)} views where {self.plan.n_views(split)} are due"
            )
            raise InputError(message)
        index, columns = start // step, self.plan.columns(split)
        values = dict(zip(columns, (block, *(images or ()), *views), strict=True))
        chunks = {name: pad(rows, step, *columns[name]) for name, rows in values.items()}
        check_rounding(block, chunks[FEATURES][: len(block)], split, self.rounded)
        job = self.pool.submit(self.write, split, index, chunks, start, stop)
        self.pending.append((split, index, job))
        self.collect(IN_FLIGHT - 1)

    def write(
        self, split: str, index: int, chunks: Mapping[str, NDArray[Any]], start: int, stop: int
    ) -> Records:
        """Write the chunks of some rows; return their records."""
        return {
            name: write_chunk(self.file(f"{split}/{name}", index), chunk, start, stop)
            for name, chunk in chunks.items()
        }

    @storage_errors()
    def note(self, split: str, index: int) -> None:
        """Journal that some rows are written."""
        for name, record in self.done[split, index].items():
            self.journal.record(f"{split}/{name}", index, record)

    def collect(self, most: int) -> None:
        """Journal finished chunks until at most `most` are under way."""
        while len(self.pending) > most:
            split, index, job = self.pending.pop(0)
            self.done[split, index] = job.result()
            self.note(split, index)

    def report(self) -> list[Any]:
        """Finish what is under way; return what this process wrote, as JSON, for `take_over`."""
        self.collect(0)
        return [
            [array, index, *astuple(record)] for (array, index), record in self.claims().items()
        ]

    def take_over(self, reports: Iterable[Sequence[Any]]) -> None:
        """Count as done what the job's other processes `report`."""
        found = dict(claim(values) for report in reports for values in report)
        self.done |= whole_rows(self.plan, found)

    @storage_errors()
    def commit(self) -> None:
        """Write labels, ids and classifier, then the manifest: only now is there a bank."""
        if self.up_to_date:
            return
        self.collect(0)
        left = next(self.missing(), None)
        if left is not None:
            message = f"{self.store} still misses rows {left[1]} to {left[2] - 1} of {left[0]}"
            raise InputError(message)
        clear_small(self.store, self.plan)
        arrays: dict[str, ArrayRecord] = {}
        for split in self.plan.rows:
            arrays |= self.split_records(split)
        groups = [*self.plan.rows]
        if self.plan.classifier is not None:
            groups.append("classifier")
            for name, values in zip(
                (CLASSIFIER_WEIGHT, CLASSIFIER_BIAS), self.plan.classifier, strict=True
            ):
                values = np.ascontiguousarray(values, dtype=np.float32)
                arrays[name] = write_array(self.store, name, values)
        for name in groups:
            _zarr.create_group(self.store, name)
        commit(self.store, self.manifest(arrays, groups))
        self.place.finish()

    def manifest(self, arrays: Mapping[str, ArrayRecord], groups: Sequence[str]) -> Manifest:
        """Return the manifest of what was written."""
        return Manifest(
            arrays=arrays,
            class_names=self.plan.class_names,
            class_counts=self.plan.counts.tolist(),
            shots=self.plan.shots,
            provenance=self.plan.provenance,
            skipped={name: ids for name, ids in self.plan.skipped.items() if ids},
            groups={name: sha256_of(self.store / name / "zarr.json") for name in groups},
            rows=self.plan.digests,
            batch=self.plan.batch,
        )

    def split_records(self, split: str) -> dict[str, ArrayRecord]:
        """Write a split's labels, ids and metadata; return its records."""
        rows, step = self.plan.rows[split], self.plan.step(split)
        done = [self.done[split, index] for index in range(-(-len(rows) // step))]
        records = {}
        for name in dict.fromkeys(column.split("/")[0] for column in self.plan.columns(split)):
            parts = [each for each in self.plan.columns(split) if each.split("/")[0] == name]
            row_shape, dtype = self.plan.columns(split)[parts[0]]
            stacked = (len(parts),) if name == VIEWS else ()
            shape = (*stacked, len(rows), *row_shape)
            _zarr.create_array(self.store, f"{split}/{name}", shape, dtype, step)
            metadata = sha256_of(self.store / split / name / "zarr.json")
            chunks = tuple(each[column] for column in parts for each in done)
            records[f"{split}/{name}"] = ArrayRecord(shape, dtype, step, metadata, chunks)
        return {
            **records,
            f"{split}/{LABELS}": write_array(self.store, f"{split}/{LABELS}", rows.labels),
            f"{split}/{IDS}": write_ids(self.store, f"{split}/{IDS}", rows.ids),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.pool.shutdown(wait=True, cancel_futures=True)
            self.keep_finished()
        finally:
            self.place.release()

    def abandon(self) -> None:
        """Take back what was begun: no second try could make a bank of it."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.pending.clear()
        self.place.remove()

    def keep_finished(self) -> None:
        """Journal what was written although the job ends here, so that it is not done again."""
        for split, index, job in self.pending:
            if not job.cancelled() and job.exception() is None:
                self.done[split, index] = job.result()
                self.note(split, index)
        self.pending.clear()


def pad(rows: NDArray[Any], step: int, row_shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return a whole chunk of `step` rows: these in the stored dtype, then fill."""
    if len(rows) == step and rows.dtype == dtype and rows.flags.c_contiguous:
        return rows
    chunk = np.empty((step, *row_shape), dtype=dtype)
    copy_rows(rows, chunk[: len(rows)])
    chunk[len(rows) :] = _zarr.fill_value(dtype)
    return chunk
