"""One writer at a time, by a lock that the kernel drops when its owner dies."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from featbank.errors import LockedError

__all__ = ["FolderLock"]


class FolderLock:
    """An exclusive lock on a folder itself, so that no lock file can be left behind.

    A process that is forked meanwhile, to decode images say, gives its copy back at once: it may
    outlive the owner for a while, and would hold the lock with it.
    """

    def __init__(self, folder: Path) -> None:
        self.descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self.descriptor)
            message = f"{folder} is being written by another process; wait for it, or stop it"
            raise LockedError(message) from error
        _held.add(self)

    def release(self) -> None:
        """Give the lock back."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget)
