"""Writing a bank: known rows, chunks in any order, the manifest last; a killed job goes on.

`BankWriter` is what callers hold; each step is done elsewhere:

- `featbank.bank._place`: where the files go, and how they come to their place;
- `featbank.bank._resume`: beginning, or going on with what is there;
- `featbank.bank._done`: which chunks are written;
- `featbank.bank._blocks`: rows that are handed over, checked and made into chunks;
- `featbank.store.background`: chunks written in threads, and journalled;
- `featbank.bank._commit`: what is written last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featbank.bank import _commit, _done
from featbank.bank._blocks import Block, ImageRecords
from featbank.bank._place import Place
from featbank.bank._resume import begin_or_resume, identity_at, require_same
from featbank.bank.plan import BankPlan, Span
from featbank.errors import InputError
from featbank.files.atomic import storage_errors
from featbank.files.lock import FolderLock
from featbank.store.background import BackgroundWriter, Done, RowChunk
from featbank.store.journal import Journal
from featbank.store.rounding import Columns

__all__ = ["BankWriter"]


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
        self.background = BackgroundWriter(self.journal)
        self.rounded: dict[str, Columns] = {}
        self.up_to_date = False

    @property
    def store(self) -> Path:
        """The folder that is written to."""
        return self.place.store

    @property
    def lock(self) -> FolderLock:
        """The lock on it."""
        return self.place.lock

    @property
    def done(self) -> Done:
        """The records of the chunks that are written, by split and number of the chunk."""
        return self.background.done

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
            begun = begin_or_resume(place, plan, writer.journal, update=update)
            writer.done.update(begun.done)
            writer.up_to_date = begun.up_to_date
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
        writer.done.update(_done.elsewhere(plan, todo))
        return writer

    def missing(self) -> Iterator[Span]:
        """Yield (split, start, stop) of every chunk of rows that is not there yet."""
        return _done.missing(self.plan, self.done)

    def recorded_images(
        self, split: str
    ) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield (start, stop, sizes (n,), SHA-256 (n, 32)) of the images of rows that are there."""
        return _done.recorded_images(self.store, self.plan, self.done, split)

    def drop(self, split: str, start: int) -> None:
        """Take the chunk that begins at row `start` for not written: it is made again."""
        del self.done[self.plan.chunk(split, start)]

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
        stop = min(start + self.plan.step(split), len(self.plan.rows[split]))
        rows = Block.of(Span(split, start, stop), block, images, views)
        rows.check(self.plan)
        chunks = rows.chunks(self.plan, self.rounded)
        _, index = self.plan.chunk(split, start)
        columns = {
            name: (chunk, _done.column_file(self.store, self.plan, f"{split}/{name}", index))
            for name, chunk in chunks.items()
        }
        self.background.put(RowChunk(split, index, start, stop, columns))

    def collect(self, most: int) -> None:
        """Journal finished chunks until at most `most` are under way."""
        self.background.collect(most)

    def report(self) -> list[Any]:
        """Finish what is under way; return what this process wrote, as JSON, for `take_over`."""
        self.collect(0)
        return _done.report_of(self.done)

    def take_over(self, reports: Iterable[Sequence[Any]]) -> None:
        """Count as done what the job's other processes `report`."""
        self.done.update(_done.read_report(self.plan, reports))

    @storage_errors()
    def commit(self) -> None:
        """Write labels, ids and classifier, then the manifest: only now is there a bank."""
        if self.up_to_date:
            return
        self.collect(0)
        left = next(self.missing(), None)
        if left is not None:
            message = (
                f"{self.store} still misses rows {left.start} to {left.stop - 1} of {left.split}"
            )
            raise InputError(message)
        _commit.commit_bank(self.store, self.plan, self.done)
        self.place.finish()

    def abandon(self) -> None:
        """Take back what was begun: no second try could make a bank of it."""
        self.background.stop()
        self.background.forget()
        self.place.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.background.stop()
            self.background.keep_finished()
        finally:
            self.place.release()
