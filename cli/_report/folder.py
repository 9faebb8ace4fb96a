"""What `featbank compare` left in a folder, read and checked; docs/compare.md has the format."""

from __future__ import annotations

import json
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli._cells import digest_of
from featbank.errors import DamagedError, MissingFileError

__all__ = ["Arrays", "Results"]

Arrays = dict[str, NDArray[Any]]

# Folder names come out of a file; none may lead elsewhere.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._=+-]*")


@dataclass(frozen=True)
class Results:
    """A folder of results."""

    folder: Path

    @cached_property
    def compare(self) -> dict[str, Any]:
        """The comparison's own object."""
        path = self.folder / "compare.json"
        if not path.is_file():
            message = f"{self.folder} holds no compare.json; featbank compare writes one to --out"
            raise MissingFileError(message)
        found = read_object(path)
        if found.get("schema") != 1:
            message = f"{path}: schema {found.get('schema')!r} is not 1, which this version reads"
            raise DamagedError(message)
        require(found, path, "settings", "banks", "heads", "results")
        return found

    @cached_property
    def banks(self) -> list[dict[str, Any]]:
        """What is known of each bank, in the order of the comparison."""
        return [self.bank(str(entry.get("slug"))) for entry in self.compare["banks"]]

    def bank(self, slug: str) -> dict[str, Any]:
        """Read one bank's record; `slug` is put in."""
        path = self.bank_folder(slug) / "bank.json"
        record = read_object(path)
        require(
            record, path, "name", "path", "digest", "report", "class_names", "class_counts", "shots"
        )
        if len(record["class_names"]) != len(record["class_counts"]):
            message = f"{path}: class_names and class_counts differ in length; {AGAIN}"
            raise DamagedError(message)
        return record | {"slug": slug}

    def bank_folder(self, slug: str) -> Path:
        """Return where a bank's files are."""
        return self.folder / "banks" / plain_name(slug)

    def view(self, slug: str) -> Arrays:
        """Return the sample of a bank's reported split, in the plane of its first two axes."""
        names = ("features2d", "labels", "rows")
        return read_arrays(self.bank_folder(slug) / "view.npz", names)

    def tsne_path(self, slug: str) -> Path:
        """Return where a bank's t-SNE is kept."""
        return self.bank_folder(slug) / "tsne.npz"

    def tsne(self, slug: str) -> NDArray[np.float32] | None:
        """Return the t-SNE of the view's rows (n, 2), where one was made of these rows."""
        if not self.tsne_path(slug).is_file():
            return None
        found = read_arrays(self.tsne_path(slug), ("points", "rows"))
        same = np.array_equal(found["rows"], self.view(slug)["rows"])
        return found["points"].astype(np.float32) if same else None

    def curves(self, slug: str) -> Iterator[tuple[str, Arrays]]:
        """Yield the heads that have an exact curve on a bank, each with its arrays."""
        for path in sorted(self.bank_folder(slug).glob("curve-*.npz")):
            yield path.stem.removeprefix("curve-"), read_arrays(path, ("parameter",))

    def evaluation(self, key: str) -> Arrays:
        """Return what a head predicted on the reported split, and what its plane looks like."""
        names = ("labels", "predicted", "confidence", "weight_norms", "plane_grid", "plane_extent")
        return read_arrays(self.folder / "cells" / plain_name(key) / "evaluation.npz", names)


# What zipfile and numpy raise on bytes that are not those that they wrote.
BAD_ARCHIVE = (
    OSError, ValueError, EOFError, KeyError, SyntaxError, NotImplementedError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
AGAIN = "run featbank compare again, which makes damaged results anew"


def plain_name(name: str) -> str:
    """Return a folder's name, refused where it could lead out of the results."""
    if not _PLAIN_NAME.fullmatch(name):
        message = f"compare.json names a folder {name!r}, which no comparison writes; {AGAIN}"
        raise DamagedError(message)
    return name


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object, which must have the digest that it names."""
    if not path.is_file():
        message = f"{path} is missing; {AGAIN}"
        raise DamagedError(message)
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        message = f"{path} is no JSON ({error}); {AGAIN}"
        raise DamagedError(message) from error
    if not isinstance(found, dict):
        message = f"{path} is no JSON object; {AGAIN}"
        raise DamagedError(message)
    digest = found.pop("sha256", None)
    if digest is not None and digest != digest_of(found):
        message = f"{path} does not hold what was written; {AGAIN}"
        raise DamagedError(message)
    return found


def require(found: dict[str, Any], path: Path, *names: str) -> None:
    """Refuse an object that lacks one of `names`."""
    lacking = [name for name in names if name not in found]
    if lacking:
        message = f"{path} lacks {', '.join(lacking)}; {AGAIN}"
        raise DamagedError(message)


def read_arrays(path: Path, names: Sequence[str]) -> Arrays:
    """Read an .npz that must hold `names`; every byte is checked, and nothing is executed."""
    try:
        with zipfile.ZipFile(path) as whole:
            # numpy reads no further than a changed header says, so that its end goes unchecked.
            damaged = whole.testzip()
        if damaged is None:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
    except BAD_ARCHIVE as error:
        message = f"{path} cannot be read ({error}); {AGAIN}"
        raise DamagedError(message) from error
    if damaged is not None:
        message = f"{path}: {damaged} does not hold what was written; {AGAIN}"
        raise DamagedError(message)
    require(arrays, path, *names)
    return arrays
