"""Files of a bank: regular ones within its folder, of a bounded size, and nothing else.

A bank may come from anybody. No symbolic link below its root is followed, nothing but a regular
file is opened, and a file's size is known before memory is taken for it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["open_plain", "plain_size", "read_plain", "require_no_links"]

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def plain_size(root: Path, file: Path) -> int:
    """Return the size of a regular file that is reached from `root` without a symbolic link.

    Raises
    ------
    FileNotFoundError
        It is not there.
    OSError
        It, or a folder on the way, is a link or something else; `strerror` says so.
    """
    place = str(root)
    parts = file.relative_to(root).parts
    for part in parts[:-1]:
        place = os.path.join(place, part)
        refuse_link(os.lstat(place), place)
    found = os.lstat(file)
    refuse_link(found, str(file))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(file))
    return found.st_size


def refuse_link(found: os.stat_result, place: str) -> None:
    """Refuse a symbolic link."""
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "a symbolic link is not followed", place)


def read_plain(root: Path, file: Path, most: int) -> bytes:
    """Return the bytes of a file as `plain_size` wants it, of at most `most` bytes."""
    size = plain_size(root, file)
    if size > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(file))
    with open(open_plain(file), "rb") as handle:
        return handle.read(size)


def open_plain(file: Path) -> int:
    """Open a regular file for reading and return its descriptor; a link is not followed."""
    descriptor = os.open(file, _FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(file))
    return descriptor


def require_no_links(root: Path) -> None:
    """Refuse a folder with a symbolic link anywhere below: nothing is written through one."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            place = os.path.join(folder, name)
            refuse_link(os.lstat(place), place)
