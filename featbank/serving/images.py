"""Images to label: single files, folders of any depth, lists of paths, pictures in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image

from featbank.data.decode import to_rgb
from featbank.data.formats.files import ImageFiles, find_files
from featbank.data.formats.imagefolder import SUFFIXES
from featbank.data.types import ImageSplit
from featbank.errors import InputError, MissingFileError
from featbank.files.plain_files import open_regular
from featbank.runtime.names import printable

__all__ = [
    "as_split",
    "LISTS",
    "gathered",
    "in_memory",
    "paths_listed",
    "on_disk",
    "paths_below",
    "read_list",
]

# Files that hold paths, one a line.
LISTS = frozenset({".txt", ".lst", ".list"})
_LABELLED = re.compile(r"(.+?)[\t ]+[+-]?[0-9]{1,18}")


# The last axis of RGB pixels (H, W, 3), and of those with alpha.
_CHANNELS = ((3,), (4,))


@dataclass(frozen=True)
class _Pictures:
    """Images in memory: PIL images, or uint8 pixels (H, W, 3) or (H, W)."""

    given: Sequence[Any]

    def raw(self, i: int) -> bytes:
        """Return the pixels of image i, of which its digest is taken."""
        return np.ascontiguousarray(np.asarray(self.decode(i, b""))).tobytes()

    def decode(self, i: int, raw: bytes) -> Image.Image:
        """Return image i, RGB."""
        picture = self.given[i]
        try:
            if not isinstance(picture, Image.Image):
                array = np.asarray(picture)
                if array.dtype != np.uint8 or not (array.ndim == 2 or array.shape[2:] in _CHANNELS):
                    message = f"{array.dtype} of shape {array.shape} is not uint8 (H, W, 3)"
                    raise ValueError(message)
                picture = Image.fromarray(array)
            return to_rgb(picture)
        except (ValueError, TypeError, OSError) as error:
            message = f"cannot use image {i}: {' '.join(str(error).split())}"
            raise InputError(message) from error

    def n_bytes(self, i: int) -> int:
        """Return the number of bytes of image i."""
        return len(self.raw(i))


def in_memory(pictures: Sequence[Any]) -> ImageSplit:
    """Return pictures in memory as a split without labels."""
    ids = [str(i) for i in range(len(pictures))]
    return ImageSplit(ids, np.zeros(len(pictures), np.int64), _Pictures(pictures))


def on_disk(paths: Sequence[str]) -> ImageSplit:
    """Return image files as a split without labels; a path is its id."""
    files = ImageFiles(Path(), paths, find_files(Path(), paths))
    return ImageSplit(paths, np.zeros(len(paths), np.int64), files)


def paths_below(folder: Path) -> list[str]:
    """Return the image files of a folder and the folders in it, sorted; hidden ones are left out.

    Raises
    ------
    InputError
        There is none, or a folder cannot be read.
    """
    found = sorted(_walk(folder))
    if not found:
        known = ", ".join(sorted(SUFFIXES))
        message = f"{folder} holds no images (files that end in {known})"
        raise InputError(printable(message))
    return found


def _walk(folder: Path) -> Iterator[str]:
    """Yield image files; links to folders are followed once, so that circles end."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        message = f"cannot read folder {error.filename}: {error.strerror}"
        raise InputError(printable(message)) from error

    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        at = os.stat(root)
        if (at.st_dev, at.st_ino) in seen:
            folders.clear()
            continue
        seen.add((at.st_dev, at.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if PurePath(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield os.path.join(root, name)


def paths_listed(content: bytes, source: str, folder: Path) -> tuple[list[str], str]:
    """Return the paths that a list names, and a note for the reader where there is one.

    The list is UTF-8, where a path may hold any other bytes too. Blank lines and lines that begin
    with ``# `` are passed over. A path is looked up from the working directory, then from the
    list's `folder`. Where every line ends in a whole number and no line as a whole is a file, the
    list is one of ``path label`` lines, as those of data sets.

    Raises
    ------
    InputError
        The list is no text, or names nothing.
    """
    if b"\0" in content:
        message = f"{source} is no list of paths: it is UTF-16, or no text"
        raise InputError(printable(message))
    lines = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")
    texts = [line.rstrip("\r") for line in lines]
    texts = [text for text in texts if text.strip() and not text.startswith("# ")]
    if not texts:
        message = f"{source} names no image"
        raise InputError(printable(message))
    labelled = [_LABELLED.fullmatch(text) for text in texts]
    note = ""
    if all(labelled) and not any(os.path.exists(_placed(text, folder)) for text in texts[:100]):
        texts = [match.group(1) for match in labelled if match]
        note = f"{printable(source)}: lines are taken for 'path label'; the labels are not used"
    return [_placed(text, folder) for text in texts], note


def _placed(path: str, folder: Path) -> str:
    """Return a path from the working directory, or from the list's folder where it is there."""
    if os.path.isabs(path) or os.path.lexists(path):
        return path
    beside = os.path.join(folder, path)
    return beside if os.path.lexists(beside) else path


def read_list(path: Path) -> tuple[list[str], str]:
    """Return the paths in a list file, and a note for the reader where there is one.

    Raises
    ------
    MissingFileError, InputError
        The file is missing, no text, or names nothing.
    """
    with open_regular(path) as file:
        return paths_listed(file.read(), str(path), path.parent)


def gathered(sources: Sequence[str | Path]) -> tuple[list[str], list[str]]:
    """Return the image files that files, folders and lists name, in order, and notes.

    Raises
    ------
    MissingFileError
        One of them does not exist.
    InputError
        A folder or a list holds no images.
    """
    paths, notes = [], []
    for source in map(Path, sources):
        if os.path.isdir(source):
            paths += paths_below(source)
        elif source.suffix.lower() in LISTS:
            found, note = read_list(source)
            paths += found
            notes += [note] if note else []
        elif not os.path.lexists(source):
            message = f"{source} does not exist"
            raise MissingFileError(printable(message))
        else:
            paths.append(str(source))
    return paths, notes


def as_split(images: Any) -> tuple[ImageSplit, list[str]]:
    """Return images as a split, and notes for the reader.

    Raises
    ------
    InputError
        There are none, or they are of several kinds.
    """
    one = isinstance(images, str | Path | Image.Image) or getattr(images, "ndim", 0) in (2, 3)
    given = [images] if one else list(images)
    if not given:
        message = "there are no images to label"
        raise InputError(message)
    kinds = {isinstance(each, str | Path) for each in given}
    if kinds == {False}:
        return in_memory([each.numpy() if torch.is_tensor(each) else each for each in given]), []
    if len(kinds) == 2:
        message = "give paths or pictures, not both"
        raise InputError(message)
    paths, notes = gathered([each for each in given if isinstance(each, str | Path)])
    return on_disk(paths), notes
