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
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from featbank.errors import (
    FeatbankError,
    InputError,
    LockedError,
    OutputExistsError,
    StorageError,
)
from featbank.files.atomic import sync
from featbank.files.lock import FolderLock
from featbank.files.plain_files import read_plain

__all__ = [
    "Own",
    "Replacement",
    "discard",
    "is_marked",
    "not_ours",
    "recover",
    "refuse_alone",
    "refuse_odd_folder",
    "remove_own",
    "require_room",
    "work_path",
]

Own = Callable[[Path], Sequence[Path] | None]
"""Of a folder: the files in it that featbank made, relative to it, or None."""

# Marks a folder that is being built, so that what a kill leaves of it is known to be featbank's.
MARK = ".featbank-unfinished"
MARK_BYTES = 1 << 12
UNFINISHED, REPLACED = "unfinished", "replaced"
# The mark that the old folder gets when it has left its place. It is written into the new folder
# before and only moved then, so that a full disk cannot come between.
NEXT = ".featbank-replaced"
# The folder in which new files are built inside an `out` that holds nothing of featbank's.
WITHIN = ".featbank-new"
IN_PLACE = ", or add --replace-in-place, which removes the old one first"

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
# Errors of a kernel or a file system that cannot exchange two names in one step.
_CANNOT_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


def work_path(out: Path) -> Path:
    """Return where the folder that is to be `out` is built: beside it, hidden."""
    return _named(out, "new")


def _old_path(out: Path) -> Path:
    """Return where the old folder waits on file systems that cannot exchange two names."""
    return _named(out, "old")


def _named(out: Path, ending: str) -> Path:
    whole = Path(os.path.abspath(out))
    return whole.parent / f".{whole.name}.{ending}"


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


def in_the_way(work: Path, out: Path) -> OutputExistsError:
    """Return the error about something that stands where `out` would be built."""
    message = (
        f"{work}, in which {out} would be built until it is whole, holds something else; "
        "rename it, or choose another path for --out"
    )
    return OutputExistsError(message)


def write_mark(
    work: Path, out: Path, state: str = UNFINISHED, *, aside: bool = False, name: str = MARK
) -> None:
    """Mark a folder: it is being built, or was replaced.

    Parameters
    ----------
    work : Path
        The folder that gets the mark.
    out : Path
        The folder that it is built for.
    state : str
        `UNFINISHED` or `REPLACED`.
    aside : bool
        Whether the old folder is about to wait under a third name.
    name : str
        The mark's own file name.
    """
    text = json.dumps({"featbank": state, "becomes": out.name, "aside": aside}).encode()
    (work / name).unlink(missing_ok=True)
    descriptor = os.open(work / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    with open(descriptor, "wb", buffering=0) as handle:
        handle.write(text)


def read_mark(folder: Path) -> dict[str, Any]:
    """Return what the mark in a folder says; nothing where there is none."""
    try:
        raw = read_plain(folder, folder / MARK, MARK_BYTES)
        record = json.loads(raw) if raw else {}
    except (OSError, ValueError, RecursionError):
        return {}
    if not raw and [path.name for path in folder.iterdir()] == [MARK]:
        return {"featbank": UNFINISHED}  # killed while it wrote the mark, which comes first
    return record if isinstance(record, dict) else {}


def state_of(work: Path) -> str | None:
    """Return what a folder is marked as: `UNFINISHED`, `REPLACED`, or None."""
    state = read_mark(work).get("featbank") if is_folder(work) else None
    return state if state in (UNFINISHED, REPLACED) else None


def is_marked(work: Path) -> bool:
    """Tell whether a folder is marked as one that featbank began, or replaced."""
    return state_of(work) is not None


def is_folder(path: Path) -> bool:
    """Tell whether a path, which may be too long to be one, is a folder and no link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


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


def remove_own(folder: Path, own: Sequence[Path]) -> None:
    """Remove these files and the folders that they leave empty; the last one named goes last."""
    safe = [name for name in own if lies_in(folder, name)]
    for name in safe:
        path = folder / name
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
    parents = {parent for name in safe for parent in name.parents if parent != Path()}
    for parent in deepest_first(parents):
        remove_empty(folder / parent)


def lies_in(folder: Path, name: Path) -> bool:
    """Tell whether a relative path leads to a place below a folder, through no link.

    Names come out of a record, which anybody may have written.
    """
    if name.is_absolute() or ".." in name.parts:
        return False
    return not any((folder / parent).is_symlink() for parent in name.parents)


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


def remove_empty_folders(top: Path) -> None:
    """Remove a folder and those below it, where nothing is in them."""
    for folder in (*deepest_first(folders_in(top)), top):
        remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Remove a folder where it is there and empty."""
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST, errno.ENOTDIR}:
            raise


def deepest_first(folders: Iterable[Path]) -> list[Path]:
    """Sort folders so that each comes before the one that it lies in."""
    return sorted(folders, key=lambda folder: len(folder.parts), reverse=True)


def files_in(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder that is no folder itself; links are not followed."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (Path(parent, name) for name in (*files, *links))


def folders_in(folder: Path) -> list[Path]:
    """Return the folders below a folder; links are none."""
    return [Path(parent) for parent, _, _ in os.walk(folder)][1:]


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


def give_name(path: Path, target: Path, users: Path) -> None:
    """Give a file a second name; a copy, on a file system without hard links.

    Raises
    ------
    OutputExistsError
        Another file has that name; the message names the user's.
    """
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError as error:
        if not os.path.samestat(path.lstat(), target.lstat()):
            raise not_ours(users) from error
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        shutil.copy2(path, target, follow_symlinks=False)


def not_ours(path: Path) -> OutputExistsError:
    """Return the error about a file of the user's that has the name of a new one."""
    message = (
        f"{path} was not made by featbank and has the name of a new file; rename it, or choose "
        "another path for --out"
    )
    return OutputExistsError(message)


def make_like(old: Path, new: Path) -> None:
    """Make a folder, and those above it, with the access and times of another one."""
    if not new.is_dir():
        make_like(old.parent, new.parent)
        new.mkdir()
        copy_access(old, new)


def copy_access(old: Path, new: Path) -> None:
    """Give a folder the permissions, times and, where that is allowed, the owner of another."""
    found = old.stat()
    with suppress(PermissionError):
        os.chown(new, found.st_uid, found.st_gid)
    shutil.copystat(old, new)


def sync_folders(top: Path) -> None:
    """Bring the names in a folder, and in those below, to disk."""
    for folder in (*folders_in(top), top):
        sync(folder)


def exchange(work: Path, out: Path) -> None:
    """Let two folders change places: in one step, or where that cannot be had in three.

    A kill between the three steps may leave no `out`; `recover` puts the old one back.
    """
    try:
        _exchange_names(work, out)
    except OSError as error:
        if error.errno not in _CANNOT_EXCHANGE:
            raise
        aside = _old_path(out)
        if os.path.lexists(aside):
            raise in_the_way(aside, out) from error
        write_mark(work, out, aside=True)
        out.rename(aside)
        work.rename(out)
        aside.rename(work)


def end_exchange(out: Path) -> None:
    """Take the mark out of a folder that has come to its place, and mark the one that left it."""
    work, aside = work_path(out), _old_path(out)
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
    work, aside = work_path(out), _old_path(out)
    if is_folder(out) and read_mark(out).get("becomes") == out.name:
        with FolderLock(out):
            end_exchange(out)
    elif is_folder(aside) and not os.path.lexists(out) and read_mark(work).get("aside"):
        with FolderLock(work):
            aside.rename(out)
