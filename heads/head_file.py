"""A head file as bytes: safetensors, with everything that is no tensor as JSON in its header.

The header holds one entry, `featbank.head`: {"sha256", "head": {"format", "class", "params",
"fitted", "labels", "metadata"}}. The digest covers that inner object and every tensor's name,
dtype, shape and bytes, so that a changed bit anywhere is refused; safetensors itself has no
checksum. Reading executes nothing from the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from heads.canonical import canonical
from heads.errors import HeadFileError, HeadInputError, MissingHeadError

__all__ = [
    "FORMAT",
    "ODD",
    "head_bytes",
    "is_head_file",
    "read_head",
    "refuse_no_head",
    "sync_folder",
    "write_new",
]

FORMAT = 1

# What Python's own operations raise on a file that is no head, or that somebody made up.
ODD = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
    MemoryError, RuntimeError,
)  # fmt: skip

KEY = "featbank.head"
# Flags that neither follow a link nor wait for a pipe's other end, where the system has them.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# How every head's header begins, after the eight bytes of its length.
_BEGINNING = b'{"__metadata__":{"featbank.head":'


def is_head_file(path: str | Path) -> bool:
    """Tell whether a regular file begins as those that `save` writes, whole or damaged.

    A link is not followed, and nothing but a file is read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW)
    except OSError:
        return False
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return regular and os.read(descriptor, 8 + len(_BEGINNING))[8:] == _BEGINNING
    finally:
        os.close(descriptor)


def refuse_no_head(path: Path) -> None:
    """Refuse to replace anything but a head, or an empty file, which somebody made for it."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    empty = stat.S_ISREG(found.st_mode) and not found.st_size
    if not empty and not is_head_file(path):
        message = f"{path} exists and is no head, so it is not replaced; choose another path"
        raise HeadInputError(message)


def read_head(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and record, or say what is wrong with the file in one line."""
    _require_file(path)
    try:
        raw = path.read_bytes()
        tensors = dict(sorted(from_bytes(raw).items()))
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][KEY])
        record, sha256 = header["head"], header["sha256"]
        sound = digest(tensors, record) == sha256
        version = record["format"]
    except (SafetensorError, OSError, *ODD) as error:
        message = f"{path}: not a head file, or a damaged one ({type(error).__name__}: {error})"
        raise HeadFileError(" ".join(message.split())) from error
    if not sound:
        message = f"{path}: damaged: its contents do not match its own SHA-256; fit and save again"
        raise HeadFileError(message)
    if version != FORMAT:
        message = f"{path}: head format {version}, but this version reads format {FORMAT}"
        raise HeadFileError(message)
    return tensors, record


def _require_file(path: Path) -> None:
    """Refuse a path at which no regular file lies: opening a pipe could wait for ever."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        message = f"{path}: no such file"
        raise MissingHeadError(message) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"{path}: not a head file ({reason})"
        raise HeadFileError(message) from error
    if not stat.S_ISREG(kind):
        message = f"{path}: not a head file: it is a folder, a pipe or a device"
        raise HeadFileError(message)


def digest(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record and of every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(canonical(record))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def head_bytes(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> bytes:
    """Return the whole file of a head: its tensors, and its record with the digest of both."""
    header = json.dumps({"sha256": digest(tensors, record), "head": record}, sort_keys=True)
    return to_bytes(dict(tensors), metadata={KEY: header})


def write_new(path: Path, data: bytes) -> None:
    """Write a new file; nothing may have its name, so that no link is followed."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system lets a folder be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
