"""Paths for libraries that take them in UTF-8 alone, while Linux allows any bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["open_tensors", "utf8_path"]


@contextmanager
def utf8_path(path: str | Path) -> Iterator[str]:
    """Give a path of a file or folder that exists, by which a library can open it.

    Where the path is not UTF-8, it is opened here and named by the number of its descriptor, which
    is good as long as the block runs.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield f"/dev/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield str(path)


@contextmanager
def open_tensors(path: str | Path) -> Iterator[Any]:
    """Open a safetensors file as `safetensors.safe_open` does for torch, at any path.

    Raises
    ------
    SafetensorError
        It is no such file, or its header is damaged.
    OSError
        It cannot be opened.
    """
    from safetensors import safe_open

    with utf8_path(path) as name, safe_open(name, framework="pt") as file:
        yield file
