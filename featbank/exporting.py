"""A bank back into one ``.npz``, which `import_features` reads again."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.atomic import replace_file
from featbank.bank import Bank
from featbank.errors import OutputExistsError
from featbank.progress import SILENT, Reporter

__all__ = ["export_npz"]

Array = NDArray[Any]


def export_npz(
    bank: Bank, out: str | Path, *, overwrite: bool = False, reporter: Reporter = SILENT
) -> Path:
    """Write features, labels, ids, classifier and class names of a bank into an ``.npz``.

    Names are those that `import_features` expects; features pass chunk by chunk, uncompressed.

    Raises
    ------
    OutputExistsError
        `out` exists and `overwrite` is not set.
    """
    path = Path(out)
    if path.exists() and not overwrite:
        message = f"{path} exists; choose another path for --out, or add --overwrite"
        raise OutputExistsError(message)
    total = sum(len(bank[name]) for name in bank.splits)

    def write(part: Path) -> None:
        with (
            zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive,
            reporter.track("export", total, "rows") as advance,
        ):
            for name in bank.splits:
                split = bank[name]
                blocks = count(split.blocks(), advance)
                add(archive, f"{name}_features", (len(split), bank.dim), bank.dtype, blocks)
                add_whole(archive, f"{name}_labels", split.labels)
                add_whole(archive, f"{name}_ids", split.ids.astype(str))
            if bank.classifier is not None:
                for key, values in zip(("weight", "bias"), bank.classifier, strict=True):
                    add_whole(archive, key, values)
            add_whole(archive, "class_names", np.array(bank.class_names))
            shots = [bank.shots.many_above, bank.shots.few_below]
            add_whole(archive, "shots", np.array(shots))

    replace_file(path, write)
    return path


def count(blocks: Iterator[tuple[int, Array]], advance: Any) -> Iterator[Array]:
    """Pass blocks on, counting their rows."""
    for _, rows in blocks:
        yield rows
        advance(len(rows))


def add_whole(archive: zipfile.ZipFile, name: str, values: Array) -> None:
    """Add one array."""
    add(archive, name, values.shape, values.dtype.str, [values])


def add(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    blocks: Iterable[Array],
) -> None:
    """Add one array whose rows come in blocks."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    # A fixed date, so that the same bank gives the same bytes.
    entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block).tobytes())
