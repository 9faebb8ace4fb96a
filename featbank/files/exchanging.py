"""How a new folder and an old one change places, and what is done about attempts that ended.

`exchange` and `end_exchange` are the two steps, `recover` completes or undoes what a kill left
between them, and `discard` removes what an attempt left, the user's files excepted.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from featbank.files.atomic import sync
from featbank.files.folders import (
    deepest_first,
    files_in,
    folders_in,
    give_name,
    is_folder,
    make_like,
    not_ours,
    remove_empty_folders,
    remove_own,
)
from featbank.files.lock import FolderLock
from featbank.files.marks import (
    MARK,
    NEXT,
    REPLACED,
    UNFINISHED,
    in_the_way,
    old_path,
    read_mark,
    state_of,
    work_path,
    write_mark,
)

__all__ = [
    "Own",
    "carry",
    "discard",
    "drop_carried",
    "end_exchange",
    "exchange",
    "in_order",
    "move_in",
    "recover",
    "remove_old",
]

Own = Callable[[Path], Sequence[Path] | None]
"""Of a folder: the files in it that featbank made, relative to it, or None."""

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
# Errors of a kernel or a file system that cannot exchange two names in one step.
_CANNOT_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def carry(old: Path, new: Path, own: Sequence[Path]) -> None:
    """Give `new` what `old` holds beside featbank's `own` files, as second names of them.

    Raises
    ------
    OutputExistsError
        A file of the user's has the name of a new one.
    """
    made = {*own, Path(MARK)}
    for path in list(files_in(old)):
        name = path.relative_to(old)
        if name not in made:
            make_like(path.parent, (new / name).parent)
            give_name(path, new / name, path)
    for folder in folders_in(old):
        if not any(folder.iterdir()):
            make_like(folder, new / folder.relative_to(old))


def in_order(work: Path, own: Sequence[Path]) -> list[Path]:
    """Return the names of all files in a finished folder, those that its record names last."""
    named = {*own, Path(MARK)}
    rest = (path.relative_to(work) for path in files_in(work))
    return [*(name for name in rest if name not in named), *own]


def move_in(work: Path, out: Path, names: Sequence[Path]) -> None:
    """Give the files of `work` their names in `out`, the last one last, and take `work` away.

    Until the last one has its name, `work` and its mark tell that the others are featbank's.
    """
    for name in names:
        if os.path.lexists(out / name):
            raise not_ours(out / name)
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        give_name(work / name, out / name, out / name)
    for folder in deepest_first({out / parent for name in names for parent in name.parents}):
        sync(folder)
    remove_own(work, [*names, Path(MARK)])
    remove_empty_folders(work)


def exchange(work: Path, out: Path) -> None:
    """Let two folders change places: in one step, or where that cannot be had in three.

    A kill between the three steps may leave no `out`; `recover` puts the old one back.
    """
    try:
        _exchange_names(work, out)
    except OSError as error:
        if error.errno not in _CANNOT_EXCHANGE:
            raise
        aside = old_path(out)
        if os.path.lexists(aside):
            raise in_the_way(aside, out) from error
        write_mark(work, out, aside=True)
        out.rename(aside)
        work.rename(out)
        aside.rename(work)


def end_exchange(out: Path) -> None:
    """Take the mark out of a folder that has come to its place, and mark the one that left it."""
    work, aside = work_path(out), old_path(out)
    sync(out.parent)
    if read_mark(out).get("aside") and is_folder(aside) and not os.path.lexists(work):
        aside.rename(work)
    if is_folder(work) and (out / NEXT).is_file():
        (out / NEXT).replace(work / MARK)
    (out / MARK).unlink(missing_ok=True)
    sync(out)


def _exchange_names(first: Path, second: Path) -> None:
    """Exchange two names by Linux's renameat2; OSError with ENOSYS where there is none."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(second))
    names = os.fsencode(first), os.fsencode(second)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(second))


def recover(out: Path) -> None:
    """Complete or undo an exchange that was interrupted by a kill.

    Raises
    ------
    LockedError
        The exchange is another process's, which is at it.
    """
    out = Path(os.path.abspath(out))
    work, aside = work_path(out), old_path(out)
    if is_folder(out) and read_mark(out).get("becomes") == out.name:
        with FolderLock(out):
            end_exchange(out)
    elif is_folder(aside) and not os.path.lexists(out) and read_mark(work).get("aside"):
        with FolderLock(work):
            aside.rename(out)


def discard(work: Path, out: Path, own: Own) -> None:
    """Remove what is left of an earlier replacement of `out`; the user's files stay.

    `work` may be a folder that was never finished, or the old one that had just left its place.

    Raises
    ------
    OutputExistsError
        It is neither.
    """
    if not os.path.lexists(work):
        return
    state = state_of(work)
    if state == UNFINISHED:
        remove_unfinished(work, out, own)
    elif state == REPLACED:
        remove_old(work, out, own(work) or ())
    elif not is_folder(work) or any(True for _ in files_in(work)):
        raise in_the_way(work, out)
    remove_empty_folders(work)


def drop_carried(work: Path, out: Path, own: Own) -> None:
    """Take out of a folder what `carry` had brought there before the attempt ended.

    The user may have changed it in `out` since.
    """
    new, old = set(own(work) or ()), set(own(out) or ()) if out.is_dir() else set()
    for path in list(files_in(work)):
        name = path.relative_to(work)
        if name not in {*new, *old, Path(MARK)} and os.path.lexists(out / name):
            path.unlink()


def remove_unfinished(work: Path, out: Path, own: Own) -> None:
    """Empty a folder that was being built; the mark goes last.

    All in it is featbank's, or a second name of a file of the user's that stays in `out`. Where
    files had begun to get their names in `out`, and the record had not, these names go too.
    """
    half_moved = work.parent == out and own(out) is None
    for path in files_in(work):
        if path == work / MARK:
            continue
        home = out / path.relative_to(work)
        if half_moved and home.exists() and path.samefile(home):
            home.unlink()
        path.unlink()
    (work / MARK).unlink()


def remove_old(work: Path, out: Path, own: Sequence[Path]) -> None:
    """Remove a folder that `out` took the place of; its record and its mark last.

    The user's files have a second name in `out` by now; one that came at the last moment moves
    there.
    """
    made = {*own, Path(MARK)}
    for path in list(files_in(work)):
        name = path.relative_to(work)
        if name in made:
            continue
        if os.path.lexists(out / name):
            path.unlink()
        else:
            make_like(path.parent, (out / name).parent)
            path.rename(out / name)
    remove_own(work, [*own, Path(MARK)])
    remove_empty_folders(work)
