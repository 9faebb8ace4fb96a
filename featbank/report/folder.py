"""What `featbank compare` left in a folder, read and checked.

The format is described in docs/formats/results.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import DamagedError, InputError
from featbank.results.cell import BankRecord
from featbank.results.comparison import Comparison
from featbank.results.saved import AGAIN, read_object, require

__all__ = ["Arrays", "Results", "read_result_arrays"]

Arrays = dict[str, NDArray[Any]]

# Folder names come out of a file; none may lead elsewhere.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._=+-]*")


@dataclass(frozen=True)
class Results:
    """A folder of results."""

    folder: Path

    @cached_property
    def compare(self) -> Comparison:
        """The comparison itself."""
        return Comparison.load(self.folder)

    @cached_property
    def banks(self) -> list[BankRecord]:
        """What is known of each bank, in the order of the comparison."""
        return [self.bank(str(entry.slug)) for entry in self.compare.banks]

    def bank(self, slug: str) -> BankRecord:
        """Read one bank's record, which is in the folder that the comparison names by `slug`."""
        path = self.bank_folder(slug) / "bank.json"
        record = read_object(path)
        require(
            record, path, "name", "path", "digest", "report", "class_names", "class_counts", "shots"
        )
        if len(record["class_names"]) != len(record["class_counts"]):
            message = f"{path}: class_names and class_counts differ in length; {AGAIN}"
            raise DamagedError(message)
        return BankRecord.from_json(record | {"slug": slug})

    def bank_folder(self, slug: str) -> Path:
        """Return where a bank's files are."""
        return self.folder / "banks" / plain_name(slug)

    def view(self, slug: str) -> Arrays:
        """Return the sample of a bank's reported split, in the plane of its first two axes."""
        path = self.bank_folder(slug) / "view.npz"
        found = read_result_arrays(path, ("features2d", "labels", "rows"))
        return of_kinds(found, path, whole=("labels", "rows"), finite=("features2d",))

    def tsne_path(self, slug: str) -> Path:
        """Return where a bank's t-SNE is kept."""
        return self.bank_folder(slug) / "tsne.npz"

    def tsne(self, slug: str) -> NDArray[np.float32] | None:
        """Return the t-SNE of the view's rows (n, 2), where one was made of these rows."""
        if not os.path.lexists(self.tsne_path(slug)):
            return None
        path = self.tsne_path(slug)
        found = of_kinds(read_result_arrays(path, ("points", "rows")), path, finite=("points",))
        same = np.array_equal(found["rows"], self.view(slug)["rows"])
        return found["points"].astype(np.float32) if same else None

    def curves(self, slug: str) -> Iterator[tuple[str, Arrays]]:
        """Yield the heads that have an exact curve on a bank, each with its arrays."""
        for path in sorted(self.bank_folder(slug).glob("curve-*.npz")):
            yield path.stem.removeprefix("curve-"), read_result_arrays(path, ("parameter",))

    def evaluation(self, key: str) -> Arrays:
        """Return what a head predicted on the reported split, and what its plane looks like."""
        names = ("labels", "predicted", "confidence", "weight_norms", "plane_grid", "plane_extent")
        path = self.folder / "cells" / plain_name(key) / "evaluation.npz"
        whole, finite = ("labels", "predicted", "plane_grid"), ("confidence", "plane_extent")
        return of_kinds(read_result_arrays(path, names), path, whole=whole, finite=finite)


def plain_name(name: str) -> str:
    """Return a folder's name, refused where it could lead out of the results."""
    if not _PLAIN_NAME.fullmatch(name):
        message = f"compare.json names a folder {name!r}, which no comparison writes; {AGAIN}"
        raise DamagedError(message)
    return name


def read_result_arrays(path: Path, names: Sequence[str]) -> Arrays:
    """Read an .npz that must hold `names`; every byte is checked, and nothing is executed."""
    from featbank.importing import read_arrays

    try:
        arrays = read_arrays(path)
    except InputError as error:
        message = f"{error}; {AGAIN}"
        raise DamagedError(message) from error
    require(arrays, path, *names)
    return arrays


def of_kinds(
    arrays: Arrays, path: Path, *, whole: Sequence[str] = (), finite: Sequence[str] = ()
) -> Arrays:
    """Refuse arrays that should be whole numbers, or finite ones, and are not.

    Parameters
    ----------
    arrays : dict
        Arrays by name.
    path : Path
        The file that they are from, for the message.
    whole : sequence of str
        The names of those that must be whole numbers.
    finite : sequence of str
        The names of those that must be finite floats.

    Returns
    -------
    dict
        The same arrays.

    Raises
    ------
    DamagedError
        The message names the arrays that are something else.
    """
    odd = [name for name in whole if arrays[name].dtype.kind not in "iu"]
    odd += [
        name
        for name in finite
        if arrays[name].dtype.kind != "f" or not np.isfinite(arrays[name]).all()
    ]
    if odd:
        message = f"{path}: {', '.join(odd)} is not of the numbers that it should be; {AGAIN}"
        raise DamagedError(message)
    return arrays
