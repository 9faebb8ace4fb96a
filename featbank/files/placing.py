"""Folders of results that take the place of older ones: what `fit`, `compare` and `demo` ask for.

`featbank.files.replacing` builds such a folder beside the old one. Here stands what a command
decides before: whether anything may be there, and whether the old one is removed first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from featbank.errors import LockedError, OutputExistsError
from featbank.files.atomic import storage_errors
from featbank.files.exchanging import Own, recover
from featbank.files.folders import files_in, not_ours, remove_own
from featbank.files.lock import FolderLock
from featbank.files.marks import MARK, NEXT, WITHIN
from featbank.files.replacing import Replacement

__all__ = ["Placing", "held", "placing", "refuse_strangers", "strangers", "used_bytes"]


class Placing(Replacement):
    """A replacement with the choices of a command; a context manager.

    Parameters
    ----------
    out, own, keep
        As `Replacement` takes them.
    anew : bool
        Take over nothing of what an interrupted attempt left, whatever `keep` says.
    overwrite : bool
        Whether anything may be in `out`. It is asked while `out` is locked, so that what another
        process puts there at this moment is not replaced either.
    in_place : bool
        Remove what featbank made in `out` first: a failure then leaves neither the old nor the new.

    Attributes
    ----------
    old : Path or None
        The folder that is to be replaced; None where `out` holds nothing of featbank's.

    Raises
    ------
    OutputExistsError
        `out` holds something and `overwrite` is not set.
    """

    def __init__(
        self,
        out: Path,
        own: Own,
        *,
        keep: bool = False,
        anew: bool = False,
        overwrite: bool = True,
        in_place: bool = False,
    ) -> None:
        super().__init__(out, own, keep=keep)
        self.anew, self.overwrite, self.in_place = anew, overwrite, in_place
        self.old: Path | None = None

    def __enter__(self) -> Self:
        if self.in_place and self.out.is_dir():
            with held(self.out):
                remove_own(self.out, self.own(self.out) or ())
        super().__enter__()
        try:
            if not self.overwrite and self.out.is_dir() and next(strangers(self.out, ()), None):
                raise is_used(self.out)
            self.old = None if self.own(self.out) is None else self.out
            if self.anew:
                self.clear()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        begun = (path for path in files_in(self.work) if path.name != MARK)
        self.keep = self.keep and next(begun, None) is not None
        super().__exit__(kind, error, trace)

    def finish(self) -> None:
        """Put the folder in its place; another process may have made `out` meanwhile."""
        is_new = self.old is None and self.work.parent != self.out
        if is_new and not self.overwrite and os.path.lexists(self.out):
            raise is_used(self.out)
        super().finish()


@contextmanager
def placing(
    out: Path,
    own: Own,
    *,
    keep: bool = False,
    anew: bool = False,
    overwrite: bool = True,
    in_place: bool = False,
) -> Iterator[Placing]:
    """Give a folder to build in, as `Placing` does; what the disk refuses is a `StorageError`.

    Parameters
    ----------
    out, own, keep, anew, overwrite, in_place
        As `Placing` takes them.
    """
    with storage_errors(out):
        new = Placing(out, own, keep=keep, anew=anew, overwrite=overwrite, in_place=in_place)
        with new:
            yield new


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a folder of results against other writers.

    Raises
    ------
    LockedError
        Another process is writing there, or has just put another folder in its place.
    """
    recover(folder)
    lock = FolderLock(folder)
    try:
        if not os.path.samestat(os.fstat(lock.descriptor), folder.stat()):
            message = f"{folder} was replaced by another process at this moment; run again"
            raise LockedError(message)
        yield
    finally:
        lock.release()


def is_used(out: Path) -> OutputExistsError:
    """Return the error about a folder that holds something."""
    message = f"{out} exists and is not empty; choose another path for --out, or add --overwrite"
    return OutputExistsError(message)


def strangers(out: Path, own: Sequence[Path]) -> Iterator[Path]:
    """Yield the files in a folder that are neither `own` nor left by an interrupted attempt."""
    made = set(own)
    for path in files_in(out):
        name = path.relative_to(out)
        if (
            name.parts[0] not in (WITHIN, MARK, NEXT)
            and name not in made
            and not is_twin(out, name)
        ):
            yield name


def refuse_strangers(out: Path, own: Own, names: Iterable[str]) -> None:
    """Refuse, before any work, new names that something of the user's has already.

    Raises
    ------
    OutputExistsError
        Something in `out` has one of the names, and no record of featbank's names it.
    """
    made = set(own(out) or ()) if out.is_dir() else set()
    for name in map(Path, names):
        if os.path.lexists(out / name) and name not in made and not is_twin(out, name):
            raise not_ours(out / name)


def is_twin(out: Path, name: Path) -> bool:
    """Tell whether a file in `out` is a name that an attempt was giving when it was killed."""
    twin = out / WITHIN / name
    return os.path.lexists(twin) and os.path.samestat(twin.lstat(), (out / name).lstat())


def used_bytes(out: Path, own: Own) -> int | None:
    """Return how many bytes featbank's files take in a folder; None where it has none there."""
    names = own(out) if out.is_dir() else None
    return None if names is None else sum((out / name).lstat().st_size for name in names)
