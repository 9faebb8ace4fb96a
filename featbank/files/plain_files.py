"""Opening files for reading: regular ones, and nothing that could block or never end.

A file that a user names (`open_regular`) may be reached through symbolic links. A bank may come
from anybody: below its root no link is followed (`open_plain`), and a file's size is known before
memory is taken for it. A pipe, socket, device or folder is refused at once by both.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

from featbank.errors import InputError, MissingFileError

__all__ = ["open_plain", "open_regular", "plain_size", "read_plain", "require_no_links"]

# Without O_NONBLOCK, opening a pipe waits for whoever writes to it, perhaps for ever.
_FOLLOW = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_FLAGS = _FOLLOW | os.O_NOFOLLOW

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file that the user named for reading; links that lead to one are followed.

    Its kind is looked at before it is opened, because opening some devices does something, and
    again afterwards, because another file may have taken its place.

    Raises
    ------
    MissingFileError
        There is nothing at the path.
    InputError
        There is something else than a regular file, or it may not be opened. The message begins
        with the path.
    """
    try:
        require_regular(os.stat(path), path)
        descriptor = os.open(path, _FOLLOW)
    except InputError:
        raise
    except FileNotFoundError as error:
        message = f"{path} does not exist"
        raise MissingFileError(message) from error
    except NotADirectoryError as error:
        message = f"{path} does not exist: a part of its path is no folder"
        raise MissingFileError(message) from error
    except OSError as error:
        message = f"{path} cannot be opened: {error.strerror}"
        raise InputError(message) from error
    except (
        ValueError
    ) as error:  # raised for a name with a NUL, or one that the file system cannot encode
        message = f"{str(path)!r} cannot be a file's path: {error}"
        raise InputError(message) from error
    try:
        require_regular(os.fstat(descriptor), path)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_regular(found: os.stat_result, path: str | Path) -> None:
    """Refuse everything that is no regular file, by its kind."""
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
        message = f"{path} is {kind}; name a regular file"
        raise InputError(message)


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
