"""Image files below a folder: reading them, and what can be known of them without reading."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featbank.bank.leakage import Leak, find_leaks, refuse_leaks
from featbank.data.decode import MOST_BYTES, decode_rgb, read_file
from featbank.data.types import ImageData
from featbank.errors import InputError

__all__ = [
    "GONE",
    "NO_FILE",
    "ListedFiles",
    "ImageFiles",
    "find_files",
    "listed_leaks",
    "look_over",
    "require_readable",
]

# These stand in the place of a size where nothing could be opened, and where it is no file.
GONE, NO_FILE = -1, -2


@dataclass(frozen=True)
class ListedFiles:
    """What the file system said of N files when they were listed.

    `sizes` (N,) int64 are in bytes, or `GONE` or `NO_FILE`; `places` (N, 2) int64 are device and
    inode, which are equal where two paths lead to one file.
    """

    sizes: NDArray[np.int64]
    places: NDArray[np.int64]


def find_files(root: Path, paths: Sequence[str]) -> ListedFiles:
    """Ask the file system for every file; links are followed, and nothing is opened."""
    sizes = np.full(len(paths), GONE, np.int64)
    places = np.zeros((len(paths), 2), np.uint64)
    for row, path in enumerate(paths):
        try:
            found = os.stat(os.path.join(root, path))
        except (OSError, ValueError):  # a path with a NUL raises ValueError
            continue
        sizes[row] = found.st_size if stat.S_ISREG(found.st_mode) else NO_FILE
        places[row] = found.st_dev, found.st_ino
    return ListedFiles(sizes, places.view(np.int64))


@dataclass(frozen=True)
class ImageFiles:
    """Image files below a folder.

    Attributes
    ----------
    root : Path
        The folder.
    paths : sequence of str
        The N files, relative to it.
    found : ListedFiles
        What `find_files` said of them when they were listed.
    grey_bits : int, optional
        How many bits the values of grey images deeper than 8 bits have, see `decode_rgb`; None
        where the user does not say.
    """

    root: Path
    paths: Sequence[str]
    found: ListedFiles
    grey_bits: int | None = None

    def raw(self, i: int) -> bytes:
        """Return the bytes of file i."""
        return read_file(self.root / self.paths[i])

    def decode(self, i: int, raw: bytes) -> Image.Image:
        """Return the RGB image in the bytes of file i."""
        return decode_rgb(raw, self.root / self.paths[i], self.grey_bits)

    def n_bytes(self, i: int) -> int:
        """Return the file's size, or -1 where it is gone."""
        try:
            return (self.root / self.paths[i]).stat().st_size
        except OSError:
            return -1

    def fault(self, i: int) -> str:
        """Return why file i cannot be an image, as far as that is known without reading it."""
        size = int(self.found.sizes[i])
        known = {GONE: "there is no such file", NO_FILE: "not a regular file", 0: "it is empty"}
        too_large = f"larger than {MOST_BYTES >> 20} MiB" if size > MOST_BYTES else ""
        return known.get(size, too_large)


def require_readable(images: ImageData, remedy: str) -> None:
    """Refuse files that cannot be read before anything is computed from the others.

    Only what costs nothing is looked at: that each is there, a regular file and not empty.

    Raises
    ------
    InputError
        The first such file, how many there are, and the remedy.
    """
    for name, split in images.splits.items():
        files = split.images
        if not isinstance(files, ImageFiles):
            continue
        sizes = files.found.sizes[: len(split)]
        bad = np.flatnonzero((sizes <= 0) | (sizes > MOST_BYTES))
        if bad.size:
            first = int(bad[0])
            message = (
                f"cannot read image {str(files.root / files.paths[first])!r}: "
                f"{files.fault(first)} ({bad.size} such in {name}); {remedy}"
            )
            raise InputError(message)


def listed_leaks(images: ImageData) -> list[Leak]:
    """Return the images that stand in two splits or under two labels, by their ids and files."""
    places = {
        name: split.images.found.places[: len(split)].view(np.uint8)
        for name, split in images.splits.items()
        if isinstance(split.images, ImageFiles)
    }
    return find_leaks(images.splits, places)


def look_over(images: ImageData, remedy: str, *, strict: bool) -> list[str]:
    """Return what a person should know of the images before a training, or refuse them.

    Raises
    ------
    InputError
        A file cannot be read (`require_readable`); or with `strict` the same image is in two
        splits, or has two labels.
    """
    require_readable(images, remedy)
    leaks = listed_leaks(images)
    if strict:
        refuse_leaks(leaks)
    return [*images.notes, *map(str, leaks)]
