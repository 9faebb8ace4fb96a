"""Where a bank is written: in its own folder, or beside an older one until it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featbank.bank.folder import (
    check_room,
    clear,
    n_bytes_of,
    own_bank,
    refuse_foreign,
    refuse_taken_names,
)
from featbank.bank.plan import BankPlan
from featbank.errors import LockedError, StorageError
from featbank.files.atomic import storage_errors
from featbank.files.exchanging import discard, recover
from featbank.files.folders import remove_empty_folders, remove_own
from featbank.files.lock import FolderLock
from featbank.files.marks import is_marked, work_path
from featbank.files.replacing import Replacement, refuse_alone, require_room
from featbank.store.journal import Journal
from featbank.store.schema import MANIFEST

__all__ = ["Place"]


class Place:
    """A folder for a bank, locked against other writers.

    `store` is where the files are written, `out` where the bank is to be. They differ where a bank
    at `out` is replaced: then the new one is built in `store`, beside it, and `finish` lets the two
    change places.

    Parameters
    ----------
    out : Path
        Where the bank is to be.
    lock : FolderLock
        The lock on `store`.
    replacement : Replacement, optional
        What builds the bank beside an older one; entered.
    made : bool
        Whether the folder was made for this bank, so that `remove` takes it away again.
    """

    def __init__(
        self,
        out: Path,
        lock: FolderLock,
        *,
        replacement: Replacement | None = None,
        made: bool = False,
    ) -> None:
        self.out, self.lock, self.made, self.replacement = out, lock, made, replacement
        self.store = out if replacement is None else replacement.work

    @classmethod
    def open(cls, out: Path, plan: BankPlan, *, overwrite: bool, in_place: bool) -> Place:
        """Lock the place for a bank of this plan.

        An unfinished replacement whose `out` is no longer there is gone on with, too.

        Parameters
        ----------
        out : Path
            Where the bank is to be.
        plan : BankPlan
            What it is to become.
        overwrite : bool
            Whether a bank that is there is replaced.
        in_place : bool
            Whether that one is removed first, instead of last.

        Raises
        ------
        OutputExistsError
            Something that is no bank is there, or a file of the user's has a name that is needed.
        """
        refuse_alone(overwrite=overwrite, replace_in_place=in_place)
        recover(out)
        refuse_foreign(out)
        there = os.path.lexists(out)
        is_bank = there and own_bank(out) is not None
        if (overwrite and is_bank and not in_place) or (not there and is_marked(work_path(out))):
            return cls.beside(out, plan)
        place = cls.within(out)
        if overwrite and is_bank:
            with place.released_on_error():
                place.empty(plan)
        return place

    @classmethod
    def within(cls, out: Path) -> Place:
        """Lock the folder that the bank is to be in, which is made where there is none."""
        made = not out.exists()
        try:
            out.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(out)
        except OSError as error:
            message = f"cannot write {out}: {error.strerror}"
            raise StorageError(message) from error
        return cls(out, lock, made=made)

    @classmethod
    def beside(cls, out: Path, plan: BankPlan) -> Place:
        """Lock the bank that is there, and the folder in which its successor is built."""
        if out.is_dir():
            refuse_taken_names(out, own_bank(out) or (), plan)
        replacement = Replacement(out, own_bank, keep=True)
        replacement.__enter__()
        place = cls(out, replacement.lock, replacement=replacement)
        with place.released_on_error():
            if place.store.parent == replacement.out:
                replacement.keep = False
                message = f"{out} was changed by another process at this moment; run again"
                raise LockedError(message)
        return place

    @classmethod
    def join(cls, out: Path, *, beside: bool) -> Place:
        """Share the place that the job's first process has opened."""
        store = work_path(out) if beside else out
        try:
            place = cls(out, FolderLock(store, shared=True))
        except OSError as error:
            message = f"cannot write {store}, which the job's first process began: {error.strerror}"
            raise StorageError(message) from error
        place.store = store
        return place

    @property
    def is_beside(self) -> bool:
        """Whether the bank is built beside the one that it replaces."""
        return self.store != self.out

    @storage_errors()
    def empty(self, plan: BankPlan) -> None:
        """Remove the bank that is there, featbank's files and no others, and begin that of a plan.

        At every moment a record tells that the folder is a bank's, so that a kill can be gone on
        from.
        """
        if is_marked(work_path(self.out)):
            with FolderLock(work_path(self.out)):
                discard(work_path(self.out), self.out, own_bank)
        names = own_bank(self.out) or ()
        refuse_taken_names(self.out, names, plan)
        check_room(self.out, plan.n_bytes(), n_bytes_of(self.out, names))
        clear(self.out, names)
        Journal(self.out).begin(plan.identity(), {})
        (self.out / MANIFEST).unlink(missing_ok=True)

    def require_room(self, plan: BankPlan) -> None:
        """Refuse to begin, or to go on, where the disk cannot hold what is missing."""
        if self.replacement is None:
            check_room(self.store, plan.n_bytes())
            return
        there = n_bytes_of(self.store, own_bank(self.store) or ())
        self.replacement.keep = there > 0
        require_room(self.replacement.out, plan.n_bytes() - there)
        self.replacement.keep = True

    def clear(self) -> None:
        """Begin anew beside the old bank."""
        if self.replacement is not None:
            self.replacement.clear()

    def finish(self) -> None:
        """Put the bank, which is whole, in its place."""
        if self.replacement is not None:
            self.replacement.finish()
            self.store = self.out

    def remove(self) -> None:
        """Take back what was begun here."""
        if self.replacement is not None:
            self.replacement.keep = False
            return
        names = own_bank(self.store) or ()
        clear(self.store, names)
        remove_own(self.store, names)
        if self.made:
            remove_empty_folders(self.store)

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Give the locks back where what is done here fails."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the locks back."""
        if self.replacement is not None:
            self.replacement.__exit__(None, None, None)
        self.lock.release()
