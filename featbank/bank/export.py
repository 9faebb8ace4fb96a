"""A bank back into one ``.npz``, which `import_features` reads again."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.bank.bank import Bank
from featbank.files.atomic import refuse_other_file, replace_file, storage_errors
from featbank.files.plain_files import open_plain
from featbank.files.replacing import refuse_alone, require_room
from featbank.runtime.progress import SILENT, Reporter

__all__ = ["export_npz"]

Array = NDArray[Any]

# The zip's own comment, by which a file is known as one of ours.
COMMENT = b"featbank"


def export_npz(
    bank: Bank,
    out: str | Path,
    *,
    overwrite: bool = False,
    replace_in_place: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Write features, labels, ids, classifier and class names of a bank into an ``.npz``.

    Names are those that `import_features` expects; features pass chunk by chunk, uncompressed.

    Parameters
    ----------
    overwrite : bool
        Replace a file that this function wrote, once the new one is whole. It is known by the
        zip's comment; no other file is ever replaced.
    replace_in_place : bool
        With `overwrite`, remove the old file first, for disks that cannot hold both.

    Raises
    ------
    OutputExistsError
        `out` exists and `overwrite` is not set, or it is no file of ours.
    StorageError
        The disk has too little room, or cannot be written.
    """
    path = Path(out)
    refuse_alone(overwrite=overwrite, replace_in_place=replace_in_place)
    refuse_other_file(path, overwrite=overwrite, ours=is_export)
    entries = [*entries_of(bank, lambda _rows: None)]
    if path.exists() and not replace_in_place:
        require_room(path, sum(entry.n_bytes() for entry in entries))
    total = sum(len(bank[name]) for name in bank.splits)

    def write(part: Path) -> None:
        with (
            zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive,
            reporter.track("export", total, "rows") as advance,
        ):
            archive.comment = COMMENT
            for entry in entries_of(bank, advance):
                add(archive, entry)

    with storage_errors(path):
        if replace_in_place:
            path.unlink(missing_ok=True)
        replace_file(path, write)
    return path


def is_export(path: Path) -> bool:
    """Tell whether a file ends as the zip files that `export_npz` writes."""
    end = b"PK\5\6"
    size = 22 + len(COMMENT)  # zip's last record, without its comment, takes 22 bytes
    with open(open_plain(path), "rb") as handle:
        handle.seek(0, os.SEEK_END)
        handle.seek(max(handle.tell() - size, 0))
        raw = handle.read(size)
    return raw.startswith(end) and raw.endswith(len(COMMENT).to_bytes(2, "little") + COMMENT)


@dataclass(frozen=True)
class NpzEntry:
    """One array of an ``.npz``, whose rows come in blocks.

    Parameters
    ----------
    name : str
        The array's name.
    shape : tuple of int
        The whole array's shape.
    dtype : numpy dtype
    blocks : iterable of ndarray
        Its rows, in order, some at a time.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Iterable[Array]

    @classmethod
    def of(cls, name: str, values: Array) -> NpzEntry:
        """Return an array as one entry."""
        return cls(name, values.shape, values.dtype, [values])

    def n_bytes(self) -> int:
        """Return about what it takes in the file: its values, and less than a kilobyte."""
        return math.prod(self.shape) * self.dtype.itemsize + 1024


def entries_of(bank: Bank, advance: Any) -> Iterator[NpzEntry]:
    """Yield the arrays that a bank is exported as; features are read as they are written."""
    for name in bank.splits:
        split = bank[name]
        blocks, shape = count(split.blocks(), advance), (len(split), bank.dim)
        yield NpzEntry(f"{name}_features", shape, np.dtype(bank.dtype), blocks)
        yield NpzEntry.of(f"{name}_labels", split.labels)
        yield NpzEntry.of(f"{name}_ids", split.ids.astype(str))
    if bank.classifier is not None:
        for key, values in zip(("weight", "bias"), bank.classifier, strict=True):
            yield NpzEntry.of(key, values)
    yield NpzEntry.of("class_names", np.array(bank.class_names))
    yield NpzEntry.of("shots", np.array([bank.shots.many_above, bank.shots.few_below]))


def count(blocks: Iterator[tuple[int, Array]], advance: Any) -> Iterator[Array]:
    """Pass blocks on, counting their rows."""
    for _, rows in blocks:
        yield rows
        advance(len(rows))


def add(archive: zipfile.ZipFile, entry: NpzEntry) -> None:
    """Add one array."""
    header = {"descr": entry.dtype.str, "fortran_order": False, "shape": entry.shape}
    # A fixed date, so that the same bank gives the same bytes.
    info = zipfile.ZipInfo(f"{entry.name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    with archive.open(info, "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in entry.blocks:
            file.write(np.ascontiguousarray(block).tobytes())
