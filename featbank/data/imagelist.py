"""Image lists: text files of ``relative/path label`` lines, as ImageNet-LT's and iNaturalist's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featbank.data.decode import decode_rgb, read_file
from featbank.data.params import Params, choice, shots_from
from featbank.data.published import PUBLISHED, check_published
from featbank.data.types import ImageData, ImageSplit
from featbank.errors import InputError, MissingFileError
from featbank.shots import Shots

__all__ = ["SPLITS", "ImageFiles", "ImageList", "open_imagelist", "read_imagelist"]

SPLITS = ("train", "val", "test")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class ImageList:
    """One list file: paths as written (N), labels (N,) int64, line numbers (N,) from 1."""

    file: Path
    paths: Sequence[str]
    labels: NDArray[np.int64]
    lines: NDArray[np.int64]

    def at(self, row: int) -> str:
        """Return where a row stands, for a message."""
        return f"{self.file}, line {self.lines[row]}"


@dataclass(frozen=True)
class ImageFiles:
    """Image files below a folder."""

    root: Path
    paths: Sequence[str]

    def raw(self, i: int) -> bytes:
        """Return the bytes of file i."""
        return read_file(self.root / self.paths[i])

    def decode(self, i: int, raw: bytes) -> Image.Image:
        """Return the image that they are, RGB."""
        return decode_rgb(raw, self.root / self.paths[i])

    def n_bytes(self, i: int) -> int:
        """Return the file's size, or -1 where it is gone."""
        try:
            return (self.root / self.paths[i]).stat().st_size
        except OSError:
            return -1


def open_imagelist(params: Params) -> ImageData:
    """Return the images under `root` that the lists `train`, `val` and `test` name.

    A list (and the `classes` file, one name per line) is looked up from the working directory,
    then from `root`. The ids are the lists' paths, verbatim. Classes are 0 to the largest
    training label unless `classes` names them. With `name` of a published data set the lists
    must have its sizes.

    Raises
    ------
    InputError
        A list, an image or a line is missing or wrong; the message names the file and the line.
    """
    name = choice(params, "name", "", tuple(PUBLISHED)) if "name" in params else ""
    where = f" (get them: {PUBLISHED[name].source})" if name else ""
    root = Path(str(params["root"]))
    if not root.is_dir():
        message = (
            f"root {str(root)!r} is not a folder; paths in the lists are looked up from it{where}"
        )
        raise MissingFileError(message)
    lists = {
        split: read_imagelist(_find(str(params[split]), root, f"{split} list", where))
        for split in SPLITS
        if split in params
    }
    names = _class_names(params, root, lists["train"])
    if name:
        sizes = {split: len(each.paths) for split, each in lists.items()}
        check_published(name, len(names), sizes)
    for each in lists.values():
        _check_labels(each, len(names))
        _check_files(each, root)
    return ImageData(
        name=name or "imagelist",
        class_names=names,
        splits={
            split: ImageSplit(each.paths, each.labels, ImageFiles(root, each.paths))
            for split, each in lists.items()
        },
        shots=shots_from(params, Shots()),
    )


def read_imagelist(file: Path) -> ImageList:
    """Read a list; the label is the last field of a line, so paths may hold spaces.

    Raises
    ------
    InputError
        The list is empty, or a line is not UTF-8, has no label, or one that is no integer.
    """
    paths, labels, lines = [], [], []
    for line, text in _numbered_lines(file):
        path, label = [*text.rsplit(maxsplit=1), ""][:2]
        if not _INTEGER.fullmatch(label):
            message = f"{file}, line {line}: {text!r} is not 'relative/path label'"
            raise InputError(message)
        paths.append(path)
        labels.append(int(label))
        lines.append(line)
    if not paths:
        message = f"{file} names no image; leave the split out, or fill the list"
        raise InputError(message)
    return ImageList(file, paths, np.array(labels, np.int64), np.array(lines, np.int64))


def _numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    for line, raw in enumerate(file.read_bytes().split(b"\n"), start=1):
        try:
            text = raw.decode().strip()
        except UnicodeDecodeError:
            message = f"{file}, line {line}: {raw[:80]!r} is not UTF-8"
            raise InputError(message) from None
        if text:
            yield line, text


def _find(name: str, root: Path, what: str, where: str = "") -> Path:
    for candidate in (Path(name), root / name):
        if candidate.is_file():
            return candidate
    message = f"{what} {name!r} is neither in the working directory nor in root {str(root)!r}"
    raise MissingFileError(message + where)


def _class_names(params: Params, root: Path, train: ImageList) -> list[str]:
    """Return the names in the classes file, or "0", "1", … up to the largest training label."""
    if "classes" in params:
        file = _find(str(params["classes"]), root, "classes file")
        return [name for _, name in _numbered_lines(file)]
    largest = int(train.labels.argmax())
    n_classes = int(train.labels[largest]) + 1
    if n_classes > len(train.paths):  # also keeps a mistyped label from making 10^9 names
        message = (
            f"{train.at(largest)}: label {n_classes - 1} means {n_classes} classes, more than the "
            f"{len(train.paths)} training images; labels count from 0 without gaps"
        )
        raise InputError(message)
    return [str(c) for c in range(n_classes)]


def _check_labels(rows: ImageList, n_classes: int) -> None:
    outside = np.flatnonzero((rows.labels < 0) | (rows.labels >= n_classes))
    if outside.size:
        row = int(outside[0])
        message = (
            f"{rows.at(row)}: label {rows.labels[row]} is outside 0..{n_classes - 1} "
            f"({outside.size} such lines)"
        )
        raise InputError(message)


def _check_files(rows: ImageList, root: Path) -> None:
    """Find missing images now, not hours into an epoch."""
    missing = [row for row, path in enumerate(rows.paths) if not (root / path).exists()]
    if missing:
        message = (
            f"{rows.at(missing[0])}: no image {rows.paths[missing[0]]!r} in root {str(root)!r} "
            f"({len(missing)} such lines)"
        )
        raise MissingFileError(message)
