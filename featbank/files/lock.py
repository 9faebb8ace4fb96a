"""A lock for one writer at a time, which the kernel releases when its owner ends."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from typing import Self

from featbank.errors import LockedError

__all__ = ["FolderLock"]


class FolderLock:
    """A lock on a folder itself, so that no lock file can be left behind.

    Exclusive: one writer. The processes of one job hold it `shared`, after its first process had
    it alone; so no other job begins while any of them lives.

    A process that is forked meanwhile, to decode images say, gives its copy back at once: it may
    outlive the owner for a while, and would hold the lock with it.
    """

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self.folder = folder
        self.descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        _held.add(self)
        self.take(fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    def take(self, kind: int) -> None:
        """Take the lock, or raise `LockedError` at once."""
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            message = f"{self.folder} is being written by another process; wait for it, or stop it"
            raise LockedError(message) from error

    def share(self) -> None:
        """Let the other processes of the job in.

        The kernel gives an exclusive lock up before it gives a shared one: should another job be
        faster, this one raises `LockedError` before anything is written.
        """
        self.take(fcntl.LOCK_SH)

    def release(self) -> None:
        """Give the lock back."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget)
