"""Files that are either the old ones or the new ones, whenever the power fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from featbank.errors import FeatbankError, StorageError

__all__ = ["replace_file", "replace_text", "storage_errors", "sync"]


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file beside `path`, bring it to disk, and rename it to `path`."""
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(part)
        sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)


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
def storage_errors() -> Iterator[None]:
    """Turn what a failing disk raises into `StorageError`, with what to do; also a decorator."""
    try:
        yield
    except FeatbankError:
        raise
    except OSError as error:
        what = f"cannot write {error.filename or 'the bank'}: {error.strerror or error}"
        message = f"{what}; nothing is lost: mend that and run the same command again to continue"
        raise StorageError(message) from error
