"""Trees of files: what is in a folder, taking out what is named, second names, copies of access.

Nothing here follows a symbolic link.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from featbank.errors import OutputExistsError
from featbank.files.atomic import sync

__all__ = [
    "copy_access",
    "deepest_first",
    "files_in",
    "folders_in",
    "give_name",
    "is_folder",
    "make_like",
    "not_ours",
    "remove_empty",
    "remove_empty_folders",
    "remove_own",
    "sync_folders",
]

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


def files_in(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder that is no folder itself; links are not followed."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (Path(parent, name) for name in (*files, *links))


def folders_in(folder: Path) -> list[Path]:
    """Return the folders below a folder; links are none."""
    return [Path(parent) for parent, _, _ in os.walk(folder)][1:]


def is_folder(path: Path) -> bool:
    """Tell whether a path, which may be too long to be one, is a folder and no link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def deepest_first(folders: Iterable[Path]) -> list[Path]:
    """Sort folders so that each comes before the one that it lies in."""
    return sorted(folders, key=lambda folder: len(folder.parts), reverse=True)


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
