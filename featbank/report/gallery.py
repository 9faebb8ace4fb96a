"""The most confident mistakes of each head, with pictures of the images where these are found.

A bank holds no images, so they are looked for where the user says they are, or in a data set that
needs no path. An image is shown only where its digest is the one that the bank recorded.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from featbank.bank.bank import Split
from featbank.errors import InputError
from featbank.report.cells import Cell, cells_of
from featbank.report.folder import Results
from featbank.report.tsne import unchanged
from featbank.results.cell import BankRecord
from featbank.runtime.progress import Reporter
from featbank.runtime.spec import Spec, parse_spec

if TYPE_CHECKING:
    from PIL.Image import Image

    from featbank.data.types import ImageSplit

__all__ = ["Gallery", "ShownMistake", "make_gallery", "refuse_images"]

# Mistakes that are shown of each head on each bank.
PER_RESULT = 12
# The longer side of a picture, in pixels, and the bytes of all pictures of a page together as they
# stand in it.
SIDE, MOST_BYTES = 96, 2_000_000
# Smaller images are kept as they are, since the usual losses of compression would blur them.
SMALL = 32


@dataclass(frozen=True)
class ShownMistake:
    """A row that a head gets wrong.

    Attributes
    ----------
    id : str
        The row's name in the bank.
    true, predicted : int
        The numbers of its class and of the class that the head gives it.
    confidence : float
        The probability that the head gives that class.
    picture : int or None
        The place of its picture among those of the page; None where the id alone is shown.
    """

    id: str
    true: int
    predicted: int
    confidence: float
    picture: int | None = None


@dataclass(frozen=True)
class Gallery:
    """The mistakes that a page shows.

    Attributes
    ----------
    pictures : tuple of str
        WebP files in base64, each once.
    mistakes : tuple of tuples of ShownMistake
        For each result of the page, in its order.
    notes : tuple of str
        Why some mistakes have no picture.
    """

    pictures: tuple[str, ...]
    mistakes: tuple[tuple[ShownMistake, ...], ...]
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Where images are found by their ids; both raise `InputError` where one cannot be read."""

    def raw(self, name: str) -> bytes:
        """Return the bytes of an image, of which its digest is taken."""

    def decode(self, name: str, raw: bytes) -> Image:
        """Return the RGB image in these bytes."""


@dataclass(frozen=True)
class ImageRoot:
    """A folder in which the ids are paths."""

    root: Path

    def raw(self, name: str) -> bytes:
        """Return the bytes of a file below the folder; an id never leads out of it."""
        from featbank.data.decode import read_file

        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            message = f"{name!r} is no path below {self.root}"
            raise InputError(message)
        return read_file(self.root / path)

    def decode(self, name: str, raw: bytes) -> Image:
        """Return the image in a file."""
        from featbank.data.decode import decode_rgb

        return decode_rgb(raw, self.root / name)


@dataclass(frozen=True)
class OpenedSplit:
    """A split of a data set that was opened again."""

    split: ImageSplit
    place: Mapping[str, int]

    @classmethod
    def of(cls, split: ImageSplit) -> OpenedSplit:
        """Look up images by their ids."""
        return cls(split, {name: row for row, name in enumerate(split.ids)})

    def raw(self, name: str) -> bytes:
        """Return the bytes of an image of the split."""
        if name not in self.place:
            message = f"the data set has no image {name!r}"
            raise InputError(message)
        return self.split.images.raw(self.place[name])

    def decode(self, name: str, raw: bytes) -> Image:
        """Return the image in these bytes."""
        return self.split.images.decode(self.place[name], raw)


@dataclass
class Pictures:
    """The pictures of a page, as many as there is room for.

    Attributes
    ----------
    most_bytes : int
        The most that they may take together.
    found : dict
        The place of each picture, by its text.
    of_image : dict
        The place of the picture of each image that was looked for, by the bank's place and the row;
        None where there is none.
    left_out, changed : int
        The images that had no room, and those that are not the bank's.
    unreadable : list of str
        Why images could not be read.
    """

    most_bytes: int = MOST_BYTES
    n_bytes: int = 0
    found: dict[str, int] = field(default_factory=dict)
    of_image: dict[tuple[int, int], int | None] = field(default_factory=dict)
    left_out: int = 0
    changed: int = 0
    unreadable: list[str] = field(default_factory=list)

    def add(self, key: tuple[int, int], split: Split, source: Source) -> None:
        """Find the image of a row, and keep its picture where there is room.

        `key` is the place of the bank of the split, and the row.
        """
        if key in self.of_image:
            return
        self.of_image[key] = None
        name, digests = str(split.ids[key[1]]), split.image_sha256
        try:
            raw = source.raw(name)
            if digests is not None and hashlib.sha256(raw).digest() != digests[key[1]].tobytes():
                self.changed += 1
                return
            text = thumbnail(source.decode(name, raw))
        except InputError as error:
            self.unreadable.append(str(error))
            return
        if text not in self.found:
            if self.n_bytes + len(text) > self.most_bytes:
                self.left_out += 1
                return
            self.n_bytes += len(text)
            self.found[text] = len(self.found)
        self.of_image[key] = self.found[text]

    def notes(self) -> Iterator[str]:
        """Say why mistakes are shown without a picture."""
        if self.left_out:
            yield (
                f"{counted(self.left_out)} left out: all pictures of a page take at most "
                f"{self.most_bytes / 1e6:g} MB."
            )
        if self.changed:
            yield f"{counted(self.changed)} left out: not what the bank was made from."
        if self.unreadable:
            n_images = counted(len(self.unreadable))
            yield f"{n_images} could not be shown; the first: {self.unreadable[0]}."


def counted(number: int) -> str:
    """Return a number of images in words."""
    return f"{number} image{'s' * (number != 1)}"


def make_gallery(results: Results, images: str | None, reporter: Reporter) -> Gallery:
    """Return the most confident mistakes of every head, with pictures where images are found.

    Pictures are made rank by rank, so that where there is little room every head has some.

    Parameters
    ----------
    results : Results
        The folder of the comparison.
    images : str or None
        Where the images are: the folder in which the ids are paths, or a data set as ``--data``
        names it. None looks only in data sets that need no path.
    reporter : Reporter
        Is told how far the work is.

    Raises
    ------
    StaleError
        A bank is no longer the one that was compared.
    InputError
        `images` names neither a folder nor a data set.
    """
    cells = cells_of(results)
    splits = [unchanged(record)[record.report] for record in results.banks]
    rows = [telling_rows(results, cell) for cell in cells]
    sources = [find_source(record, images) for record in results.banks]
    pictures = Pictures()
    with reporter.track("thumbnails", PER_RESULT, "ranks") as advance:
        for rank in range(PER_RESULT):
            for cell, own in zip(cells, rows, strict=True):
                source = sources[cell.bank]
                if source is not None and rank < len(own):
                    pictures.add((cell.bank, int(own[rank])), splits[cell.bank], source)
            advance(1)
    mistakes = [
        shown_mistakes(results, cell, own, splits[cell.bank], pictures)
        for cell, own in zip(cells, rows, strict=True)
    ]
    lacking = [
        f"{record.name}: ids stand in place of pictures, since a bank does not record where its "
        "images are; --images says it."
        for record, source in zip(results.banks, sources, strict=True)
        if source is None
    ]
    notes = (*lacking, *pictures.notes())
    return Gallery(tuple(pictures.found), tuple(mistakes), notes)


def telling_rows(results: Results, cell: Cell) -> NDArray[np.int64]:
    """Return the rows that a head gets wrong, the most confident first, at most `PER_RESULT`."""
    arrays = results.evaluation(cell.key)
    wrong = np.flatnonzero(arrays["labels"] != arrays["predicted"])
    order = np.argsort(-arrays["confidence"][wrong], kind="stable")
    return wrong[order][:PER_RESULT]


def shown_mistakes(
    results: Results, cell: Cell, rows: NDArray[np.int64], split: Split, pictures: Pictures
) -> tuple[ShownMistake, ...]:
    """Return the mistakes of a head as the page shows them.

    Parameters
    ----------
    results : Results
    cell : Cell
        The result of the head.
    rows : ndarray of ints
        The rows, the most confident first.
    split : Split
        The reported split of the bank.
    pictures : Pictures
        All that were found.
    """
    arrays = results.evaluation(cell.key)
    return tuple(
        ShownMistake(
            id=str(split.ids[row]),
            true=int(arrays["labels"][row]),
            predicted=int(arrays["predicted"][row]),
            confidence=float(arrays["confidence"][row]),
            picture=pictures.of_image.get((cell.bank, row)),
        )
        for row in rows.tolist()
    )


def find_source(record: BankRecord, images: str | None) -> Source | None:
    """Return where the images of a bank's reported split are found, or None where nobody knows."""
    from featbank.data.registry import DATA_SETS, open_data

    if images is not None and Path(images).is_dir():
        return ImageRoot(Path(images))
    if images is not None:
        spec = named_data(images)
        name, params = spec.name, dict(spec.params)
    else:
        made = record.provenance.get("data") or {}
        name, settings = str(made.get("name", "")), made.get("settings") or {}
        if name not in DATA_SETS or DATA_SETS[name].required:
            return None
        params = {key: settings[key] for key in DATA_SETS[name].optional if key in settings}
    split = open_data(name, params).splits.get(record.report)
    return None if split is None else OpenedSplit.of(split)


def refuse_images(images: str | None) -> None:
    """Refuse, before any work, images that are neither in a folder nor in a data set.

    Raises
    ------
    InputError
        `images` names neither.
    """
    if images is not None and not Path(images).is_dir():
        named_data(images)


def named_data(images: str) -> Spec:
    """Return the name and the parameters of a data set."""
    from featbank.data.registry import DATA_SETS

    spec = parse_spec(images)
    if spec.name not in DATA_SETS:
        message = (
            f"--images {images} is neither a folder nor a data set: there are "
            f"{', '.join(DATA_SETS)}"
        )
        raise InputError(message)
    return spec


def thumbnail(image: Image) -> str:
    """Return an image as a small WebP file in base64."""
    small = max(image.size) <= SMALL
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=75, lossless=small)
    return base64.b64encode(file.getvalue()).decode("ascii")
