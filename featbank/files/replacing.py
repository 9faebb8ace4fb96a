"""A folder of results that takes the place of an older one when it is whole, and not before.

The new folder is built beside the old one, under the name that `work_path` gives. When it is whole
the two change places in one step, and only then is the old one removed. Whatever ends the work
before that (an error, a full disk, a kill) leaves the old folder as it was.

A small file in it, the mark, tells that the folder beside is featbank's: ``unfinished`` while it is
built, ``replaced`` once the two have changed places. A folder of that name without a mark is the
user's, and stops the work. A kill between the two steps leaves the mark in `out`, and `recover`,
which everything here begins with, takes up there.

Only files that featbank made are ever removed. A kind of folder (a bank, a training, a set of
heads, a comparison) tells them apart by a function ``own(folder)``, which reads the folder's own
record and returns the paths that it names, the record itself last, or None where the folder has no
such record. Everything else in the folder belongs to the user and goes along into the new one.

Here stand the work as a whole and what is refused before it. The marks stand in
`featbank.files.marks`, changing places and clearing up in `featbank.files.exchanging`, and what is
done with trees of files in `featbank.files.folders`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from featbank.errors import (
    FeatbankError,
    InputError,
    LockedError,
    OutputExistsError,
    StorageError,
)
from featbank.files.exchanging import (
    Own,
    carry,
    discard,
    drop_carried,
    end_exchange,
    exchange,
    in_order,
    move_in,
    recover,
    remove_old,
)
from featbank.files.folders import (
    copy_access,
    deepest_first,
    files_in,
    folders_in,
    is_folder,
    remove_empty,
    sync_folders,
)
from featbank.files.lock import FolderLock
from featbank.files.marks import (
    MARK,
    NEXT,
    REPLACED,
    UNFINISHED,
    WITHIN,
    in_the_way,
    is_marked,
    state_of,
    work_path,
    write_mark,
)

__all__ = ["Replacement", "refuse_alone", "refuse_odd_folder", "require_room"]

IN_PLACE = ", or add --replace-in-place, which removes the old one first"


class Replacement:
    """A folder that is built in `work` and becomes `out` by `finish`; a context manager.

    While it is entered, both folders are locked against other writers. Leaving it without `finish`
    leaves `out` as it was; what was built stays in `work` only where `keep` was asked for.

    An `out` that holds nothing of featbank's has nothing that could be lost. It may be the folder
    that the caller stands in or a mounted file system, which cannot be renamed, so the new files
    are then built in a hidden folder within it and get their names there, the record last.

    Parameters
    ----------
    out : Path
        The folder that is asked for.
    own : callable
        Tells featbank's own files in such a folder (see above).
    keep : bool
        Take over what an interrupted attempt left in `work`, and leave it there again when this
        one fails: for work that can be continued.

    Raises
    ------
    OutputExistsError
        `out` is a link or no folder, or something that is not featbank's stands in `work`.
    InputError
        The process stands in `out`, which would be removed under its feet.
    LockedError
        Another process is writing there.
    StorageError
        The folder `work` cannot be made.
    """

    def __init__(self, out: Path, own: Own, *, keep: bool = False) -> None:
        self.out, self.own, self.keep = Path(os.path.abspath(out)), own, keep
        self.work = work_path(self.out)
        self._locks: list[FolderLock] = []

    def __enter__(self) -> Self:
        try:
            self._enter()
        except OSError as error:
            self._release()
            if isinstance(error, FeatbankError):
                raise
            message = (
                f"cannot make {self.work}, in which {self.out} is built until it is whole: "
                f"{error.strerror}; choose another path for --out"
            )
            raise StorageError(message) from error
        except BaseException:
            self._release()
            raise
        return self

    def _enter(self) -> None:
        recover(self.out)
        refuse_odd_folder(self.out)
        if self.out.is_dir():
            self._lock(self.out)
            if self.own(self.out) is None:
                self.work = self.out / WITHIN
            else:
                discard(self.out / WITHIN, self.out, self.own)
                refuse_unmovable(self.out)
        if os.path.lexists(self.work):
            self._take_over()
        self.work.mkdir(parents=True, exist_ok=True)
        self._lock(self.work)
        if not is_marked(self.work):
            if any(self.work.iterdir()):
                raise in_the_way(self.work, self.out)
            write_mark(self.work, self.out)

    def _take_over(self) -> None:
        """Remove what stands in `work`, or with `keep` all but what can be continued of it."""
        if not is_folder(self.work):
            raise in_the_way(self.work, self.out)
        with FolderLock(self.work):  # another process may be at work there
            if self.keep and state_of(self.work) == UNFINISHED:
                drop_carried(self.work, self.out, self.own)
            else:
                discard(self.work, self.out, self.own)

    @property
    def lock(self) -> FolderLock:
        """The lock on `work`, which other processes of the same job may share."""
        return self._locks[-1]

    def clear(self) -> None:
        """Begin anew: remove everything that is in `work`."""
        for path in list(files_in(self.work)):
            if path != self.work / MARK:
                path.unlink()
        for folder in deepest_first(folders_in(self.work)):
            remove_empty(folder)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            if not self.keep and is_marked(self.work):
                discard(self.work, self.out, self.own)
        finally:
            self._release()

    def finish(self) -> None:
        """Put the folder in its place.

        Raises
        ------
        OutputExistsError
            A file of the user's in `out` has the name of one of the new files.
        """
        if self.work.parent == self.out:
            move_in(self.work, self.out, in_order(self.work, self.own(self.work) or ()))
            return
        if self.out.is_dir():
            self._exchange(self.own(self.out) or ())
            return
        sync_folders(self.work)
        self.work.rename(self.out)
        end_exchange(self.out)

    def _exchange(self, old: Sequence[Path]) -> None:
        """Let the new folder and the old one, with its own files `old`, change places."""
        carry(self.out, self.work, old)
        copy_access(self.out, self.work)
        write_mark(self.work, self.out, REPLACED, name=NEXT)
        sync_folders(self.work)
        exchange(self.work, self.out)
        end_exchange(self.out)
        remove_old(self.work, self.out, old)

    def _lock(self, folder: Path) -> None:
        """Lock a folder, which must still be the one of that name when the lock is held."""
        lock = FolderLock(folder)
        self._locks.append(lock)
        if not folder.exists() or not os.path.samestat(os.fstat(lock.descriptor), folder.stat()):
            message = f"{folder} was replaced by another process at this moment; run again"
            raise LockedError(message)

    def _release(self) -> None:
        for lock in self._locks:
            lock.release()


def refuse_odd_folder(out: Path, option: str = "--out") -> None:
    """Refuse an output folder that is a link or no folder: nothing is written through it."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        what = "a symbolic link" if out.is_symlink() else "no folder"
        message = f"{out} exists and is {what}; choose another path for {option}"
        raise OutputExistsError(message)


def refuse_unmovable(out: Path) -> None:
    """Refuse to replace a folder whose name cannot be given to another one."""
    here, place = Path.cwd(), out.resolve()
    if here == place or place in here.parents:
        message = (
            f"{out} cannot be replaced by a process that stands in it; run the command from "
            "another folder, choose another path for --out, or add --replace-in-place"
        )
        raise InputError(message)
    if out.stat().st_dev != out.parent.stat().st_dev:
        message = (
            f"{out} is a mounted file system, which cannot be replaced as a whole; choose a "
            "folder in it for --out, or add --replace-in-place"
        )
        raise OutputExistsError(message)


def refuse_alone(*, overwrite: bool, replace_in_place: bool) -> None:
    """Refuse `replace_in_place` without `overwrite`."""
    if replace_in_place and not overwrite:
        message = "--replace-in-place says how to overwrite: add --overwrite"
        raise InputError(message)


def require_room(out: Path, n_bytes: int, remedy: str = IN_PLACE) -> None:
    """Refuse to begin where the disk cannot hold the new folder beside the old one.

    `remedy` ends the message: what can be done besides making room.

    Raises
    ------
    StorageError
        Less than `n_bytes` are free.
    """
    there = next(parent for parent in Path(os.path.abspath(out)).parents if parent.is_dir())
    free = shutil.disk_usage(there).free
    if n_bytes > free:
        message = (
            f"{out} stays until the new one is whole, which needs {n_bytes / 1e9:.3f} GB beside "
            f"it, and the disk has {free / 1e9:.3f} GB free; make room, choose another disk for "
            f"--out{remedy}"
        )
        raise StorageError(message)
