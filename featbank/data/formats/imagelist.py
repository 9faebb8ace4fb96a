"""Image lists: text files of ``relative/path label`` lines, as ImageNet-LT's and iNaturalist's."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featbank.data.formats.files import GONE, NO_FILE, ImageFiles, ListedFiles, find_files
from featbank.data.formats.published import PUBLISHED, check_published
from featbank.data.params import Params, choice, grey_bits_from, shots_from
from featbank.data.types import ImageData, ImageSplit
from featbank.errors import InputError, MissingFileError
from featbank.files.plain_files import open_regular
from featbank.runtime.names import printable
from heads.metrics.shots import Shots

__all__ = ["SPLITS", "ImageList", "open_imagelist", "read_imagelist"]

SPLITS = ("train", "val", "test")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Characters of an unreadable line that a message shows.
_SHOWN = 80


@dataclass(frozen=True)
class ImageList:
    """What one list file names.

    Attributes
    ----------
    file : Path
        The list.
    paths : sequence of str
        The N images, as they are written in it.
    labels : ndarray of shape (N,), int64
        Their labels.
    lines : ndarray of shape (N,), int64
        The line that names each, counted from 1.
    comments : sequence of int
        Lines that were passed over as comments.
    """

    file: Path
    paths: Sequence[str]
    labels: NDArray[np.int64]
    lines: NDArray[np.int64]
    comments: Sequence[int] = ()

    def at(self, row: int) -> str:
        """Return where a row stands, for a message."""
        return f"{self.file}, line {self.lines[row]}"


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
    grey_bits = grey_bits_from(params)
    splits = {}
    for split, each in lists.items():
        _check_labels(each, len(names))
        found = _checked_files(each, root)
        files = ImageFiles(root, each.paths, found, grey_bits)
        splits[split] = ImageSplit(each.paths, each.labels, files)
    return ImageData(
        name=name or "imagelist",
        class_names=names,
        splits=splits,
        shots=shots_from(params, Shots()),
        settings={} if grey_bits is None else {"grey_bits": grey_bits},
        passed_over=[_comments(each) for each in lists.values() if each.comments],
    )


def _comments(rows: ImageList) -> str:
    """Say which lines of a list were passed over."""
    return (
        f"{printable(str(rows.file))}: {len(rows.comments)} lines that begin with '# ' are "
        f"comments, and passed over (first: line {rows.comments[0]})"
    )


def read_imagelist(file: Path) -> ImageList:
    """Read a list; the label is the last field of a line, so paths may hold spaces.

    Blank lines, and lines that begin with ``# ``, are passed over.

    Raises
    ------
    InputError
        The list is empty, or a line is not UTF-8, has no label, or one that is no integer.
    """
    paths, labels, lines, comments = [], [], [], []
    for line, text in _numbered_lines(file):
        path, label = [*text.rsplit(maxsplit=1), ""][:2]
        if text == "#" or text.startswith("# "):
            comments.append(line)
            continue
        if not _INTEGER.fullmatch(label):
            message = f"{file}, line {line}: {text[:_SHOWN]!r} is not 'relative/path label'"
            raise InputError(message)
        paths.append(path)
        labels.append(int(label))
        lines.append(line)
    if not paths:
        message = f"{file} names no image; leave the split out, or fill the list"
        raise InputError(message)
    numbers = np.array(labels, np.int64), np.array(lines, np.int64)
    return ImageList(file, paths, *numbers, comments)


def _numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1.

    A byte order mark that an editor put before the first line is no part of it.
    """
    with open_regular(file) as opened:
        content = opened.read()
    if content.startswith(_UTF16) or b"\0" in content:
        message = f"{file} is UTF-16, or no text; save it as UTF-8"
        raise InputError(message)
    for line, raw in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        try:
            text = raw.decode().strip()
        except UnicodeDecodeError:
            message = f"{file}, line {line}: {raw[:_SHOWN]!r} is not UTF-8"
            raise InputError(message) from None
        if text:
            yield line, text


def _find(name: str, root: Path, what: str, where: str = "") -> Path:
    """Return the list that is meant: from the working directory, then from `root`."""
    for candidate in (Path(name), root / name):
        if candidate.exists():
            open_regular(candidate).close()  # a pipe or a folder is refused here
            return candidate
    message = f"{what} {name!r} is neither in the working directory nor in root {str(root)!r}"
    raise MissingFileError(message + where)


def _class_names(params: Params, root: Path, train: ImageList) -> list[str]:
    """Return the names in the classes file, or "0", "1", … up to the largest training label."""
    if "classes" in params:
        file = _find(str(params["classes"]), root, "classes file")
        return _names_in(file)
    largest = int(train.labels.argmax())
    n_classes = int(train.labels[largest]) + 1
    if n_classes > len(train.paths):  # a mistyped label would otherwise make 10^9 names
        message = (
            f"{train.at(largest)}: label {n_classes - 1} means {n_classes} classes, more than the "
            f"{len(train.paths)} training images; labels count from 0 without gaps"
        )
        raise InputError(message)
    return [str(c) for c in range(n_classes)]


def _names_in(file: Path) -> list[str]:
    """Return the names in a file, one a line; a blank line between them would move the others.

    Raises
    ------
    InputError
        There is such a line.
    """
    numbered = list(_numbered_lines(file))
    for expected, (line, _) in enumerate(numbered, start=1):
        if line != expected:
            message = (
                f"{file}, line {expected} is blank, and names after it would be those of other "
                "labels; fill it, or take it out"
            )
            raise InputError(message)
    return [name for _, name in numbered]


def _check_labels(rows: ImageList, n_classes: int) -> None:
    outside = np.flatnonzero((rows.labels < 0) | (rows.labels >= n_classes))
    if outside.size:
        row = int(outside[0])
        message = (
            f"{rows.at(row)}: label {rows.labels[row]} is outside 0..{n_classes - 1} "
            f"({outside.size} such lines)"
        )
        raise InputError(message)


def _checked_files(rows: ImageList, root: Path) -> ListedFiles:
    """Look up every file, so that a missing one is found now and not hours into an epoch."""
    found = find_files(root, rows.paths)
    for code, error, what in (
        (GONE, MissingFileError, "no image"),
        (NO_FILE, InputError, "no regular file"),
    ):
        bad = np.flatnonzero(found.sizes == code)
        if bad.size:
            row = int(bad[0])
            message = (
                f"{rows.at(row)}: {what} {rows.paths[row]!r} in root {str(root)!r} "
                f"({bad.size} such lines)"
            )
            raise error(message)
    return found
