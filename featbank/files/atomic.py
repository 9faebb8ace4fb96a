"""Replacing of files in one step: whenever the power fails, either the old or the new is whole."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from featbank.errors import FeatbankError, OutputExistsError, StorageError

__all__ = [
    "naming",
    "open_new",
    "refuse_odd_file",
    "refuse_other_file",
    "replace_file",
    "replace_files",
    "replace_text",
    "storage_errors",
    "sync",
]


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file beside `path`, bring it to disk, and rename it to `path`.

    Raises
    ------
    OutputExistsError
        `path` is a link, a pipe, a device or a folder: it is not followed, opened or replaced.
    """
    replace_files({path: write})


def replace_files(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Make several files as `replace_file` does, and rename them when all of them are made.

    Raises
    ------
    OutputExistsError
        One of the paths is a link, a pipe, a device or a folder.
    """
    for path in files:
        refuse_odd_file(path)
        remove_leftovers(path)
    with ExitStack() as stack:
        parts = {path: stack.enter_context(part_of(path, make)) for path, make in files.items()}
        for path, part in parts.items():
            with naming(path):
                part.replace(path)
    for folder in {path.parent for path in files}:
        sync(folder)


@contextmanager
def part_of(path: Path, write: Callable[[Path], object]) -> Iterator[Path]:
    """Give the whole file beside `path`, under a name nobody can plant; it does not stay there.

    A lock on it tells other processes that its writer is alive.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    with naming(path):
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            write(part)
            sync(part)
            yield part
        finally:
            try:
                part.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name into an error of the disk, which a failing write leaves out."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def open_new(path: Path) -> int:
    """Open a file that is written from its beginning, a new one in place of an old one.

    Raises
    ------
    OutputExistsError
        `path` is a link, a pipe, a device or a folder: it is not followed, opened or replaced.
    """
    refuse_odd_file(path)
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of attempts to write `path`.

    The name has 16 random digits, which no other program gives, and a writer that is alive holds
    a lock on its file.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.partial")
    for name in os.listdir(path.parent):
        if pattern.fullmatch(name):
            with suppress(OSError):
                descriptor = os.open(
                    path.parent / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                )
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if stat.S_ISREG(os.fstat(descriptor).st_mode):
                        os.unlink(path.parent / name)
                finally:
                    os.close(descriptor)


def refuse_odd_file(path: Path) -> None:
    """Refuse to write a file where something stands that is no regular file."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISDIR, "a folder"))
        what = next((name for test, name in kinds if test(mode)), "a pipe, socket or device")
        message = f"{path} is {what}, which is not written to; choose another path"
        raise OutputExistsError(message)


def refuse_other_file(
    path: Path, *, overwrite: bool, ours: Callable[[Path], bool], option: str = "--out"
) -> None:
    """Refuse to write a file over another one, unless it is featbank's and may be replaced.

    Commands ask this before they begin, so that no work is lost at its end.

    Parameters
    ----------
    path : Path
        The file that is to be written.
    overwrite : bool
        Whether a file that featbank wrote may be replaced.
    ours : callable
        Tells whether a regular file is one that featbank wrote.
    option : str
        What named the file on the command line, for the message.

    Raises
    ------
    OutputExistsError
        The file must not be replaced; the message says why.
    """
    refuse_odd_file(path)
    if not path.exists():
        return
    if not ours(path):
        message = (
            f"{path} exists and was not written by featbank, so it is not replaced; choose another "
            f"path for {option}"
        )
        raise OutputExistsError(message)
    if not overwrite:
        message = f"{path} exists; choose another path for {option}, or add --overwrite"
        raise OutputExistsError(message)


def replace_text(path: Path, text: str) -> None:
    """Replace a text file, UTF-8."""
    replace_file(path, lambda part: part.write_bytes(text.encode()))


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(place: Path | str = "the bank") -> Iterator[None]:
    """Turn what a failing disk raises into `StorageError`, with what to do; also a decorator.

    `place` is named where the error does not tell the file.
    """
    try:
        yield
    except (FeatbankError, BrokenPipeError):  # the reader of standard output has left
        raise
    except OSError as error:
        what = f"cannot write {error.filename or place}: {error.strerror or error}"
        message = f"{what}; nothing is lost: mend that and run the same command again to continue"
        raise StorageError(message) from error
