"""Saving and loading a fitted head as one file."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from heads._head_record import packed, unpacked
from heads.errors import HeadFileError
from heads.estimators._base import Head
from heads.head_file import (
    ODD,
    canonical,
    head_bytes,
    read_head,
    refuse_other_file,
    sync_folder,
    write_new,
)

__all__ = ["load", "read_metadata", "save"]


def save(head: Head, path: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a fitted head to one file, replacing a head that is there in one step.

    Parameters
    ----------
    head : Head
        Fitted. Where its arrays live (numpy, CPU, GPU) is not kept: they load as numpy arrays.
    path : path
    metadata : mapping, optional
        Anything JSON can hold, such as the digest of the bank it was fitted on.

    Raises
    ------
    HeadInputError
        A parameter, label or entry of `metadata` that JSON cannot hold; or `path` is something
        else than a head: a link, a pipe, a folder, a file with other contents.
    HeadFileError
        What was written does not read back as it was.
    OSError
        The disk is full, read-only or failing; it names the file.
    """
    check_is_fitted(head)
    refuse_other_file(Path(path))
    tensors, record = packed(head, dict(metadata or {}))
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(16)}.partial")
    try:
        write_new(part, head_bytes(tensors, record))
        if canonical(read_head(part)[1]) != canonical(record):
            message = f"{path}: what was written does not read back as it was; is the disk sound?"
            raise HeadFileError(message)
        refuse_other_file(path)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)  # a failing write does not say which file it is about
        raise
    finally:
        part.unlink(missing_ok=True)


def load(path: str | Path) -> Head:
    """Read a head that `save` wrote.

    Raises
    ------
    MissingHeadError
        There is no such file.
    HeadFileError
        The file is no head, is of a later format, or is damaged.
    """
    tensors, record = read_head(Path(path))
    try:
        return unpacked(tensors, record)
    except ODD as error:
        message = f"{path}: not a head this version can build ({type(error).__name__}: {error})"
        raise HeadFileError(" ".join(message.split())) from error


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata that a head was saved with, once the whole file has proved sound."""
    _, record = read_head(Path(path))
    metadata = record.get("metadata")
    if not isinstance(metadata, dict):
        message = f"{path}: not a head file, or a damaged one (its metadata is no object)"
        raise HeadFileError(message)
    return metadata
