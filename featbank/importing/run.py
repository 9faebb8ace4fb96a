"""Features that already exist in a file, into a bank."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError
from featbank.importing.arrange import arrange
from featbank.importing.sources import read_source
from featbank.plan import BankPlan
from featbank.progress import SILENT, Reporter
from featbank.shots import Shots
from featbank.writer import BankWriter

__all__ = ["import_features"]

Array = NDArray[Any]


def import_features(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    mapping: Mapping[str, str] | None = None,
    dtype: str | None = None,
    shots: Shots | None = None,
    overwrite: bool = False,
    replace_in_place: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Make a bank of features that exist in files.

    The files together hold ``<split>_features`` (N, D) and ``<split>_labels`` (N,) for every
    split, of which ``train`` is required; optionally ``<split>_ids``, ``weight`` (C, D), ``bias``
    (C,), ``class_names`` (C,) and ``shots`` (many above, few below). Features are mapped where
    the format allows it, and pass through memory chunk by chunk.

    Parameters
    ----------
    sources : path or sequence of paths
        ``.npz``, ``.npy`` (named by its stem), ``.safetensors``, ``.pt`` or ``.pth`` (tensors
        only), and the feature pickles of the code of Kang et al. (arrays only).
    mapping : mapping, optional
        From a name above to the name that the files use for it.
    dtype : {"float16", "float32"}, optional
        How features are stored; the source's own precision by default (float64 as float32).
    overwrite : bool
        Replace the bank at `out` when the new one is whole; until then it stays as it is.
    replace_in_place : bool
        With `overwrite`, remove the old bank first, for disks that cannot hold both.

    Raises
    ------
    InputError
        Names, shapes, labels or values that make no bank; the message says which. What was begun
        is taken away then, and a bank that was to be replaced is still there.
    """
    paths = [Path(each) for each in ([sources] if isinstance(sources, (str, Path)) else sources)]
    arrays = arrange(gather(paths), mapping or {}, " + ".join(path.name for path in paths))
    stored = {features.dtype for features in arrays.features.values()}
    plan = BankPlan(
        dim=arrays.features["train"].shape[1],
        rows=arrays.rows,
        class_names=arrays.class_names,
        dtype=dtype or ("float16" if stored == {np.dtype(np.float16)} else "float32"),
        classifier=arrays.classifier,
        shots=shots or arrays.shots,
        provenance={
            "imported": {
                "files": [path.name for path in paths],
                "sha256": [file_digest(path) for path in paths],
            }
        },
    )
    begin = BankWriter.begin
    with begin(out, plan, overwrite=overwrite, replace_in_place=replace_in_place) as writer:
        try:
            fill(writer, arrays.features, reporter)
            writer.commit()
        except InputError:
            writer.abandon()  # a value that no second try can store: half a bank helps nobody
            raise
    return Path(out)


def gather(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the arrays of all files by name; a name may come once."""
    content: dict[str, Any] = {}
    for path in paths:
        found = read_source(path)
        twice = sorted(content.keys() & found.keys())
        if twice:
            message = f"{path} has {', '.join(twice)}, which an earlier file has too"
            raise InputError(message)
        content |= found
    return content


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fill(writer: BankWriter, features: Mapping[str, Array], reporter: Reporter) -> None:
    """Write every chunk that is not there yet."""
    missing = list(writer.missing())
    total = sum(stop - start for _, start, stop in missing)
    with reporter.track("import", total, "rows") as advance:
        for split, start, stop in missing:
            writer.put(split, start, as_float(features[split][start:stop]))
            advance(stop - start)


def as_float(block: Array) -> Array:
    """Return a block in memory, of a float dtype in the machine's byte order."""
    if block.dtype.kind != "f":
        return block.astype(np.float32)
    return np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))
