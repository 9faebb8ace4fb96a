"""Features that already exist in a file, into a bank."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featbank.bank.leakage import find_leaks, refuse_leaks
from featbank.bank.plan import BankPlan
from featbank.bank.rows import SplitRows
from featbank.bank.writer import BankWriter
from featbank.errors import InputError
from featbank.files.plain_files import open_regular
from featbank.importing.arrange import arrange
from featbank.importing.budget import Budget
from featbank.importing.cast import Cast
from featbank.importing.sources import read_source
from featbank.runtime.progress import SILENT, Reporter
from heads.metrics.shots import Shots

__all__ = ["import_features"]


def import_features(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    mapping: Mapping[str, str] | None = None,
    dtype: str | None = None,
    shots: Shots | None = None,
    allow_rounding: bool = False,
    strict: bool = False,
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
    out : path
        The bank.
    mapping : mapping, optional
        From a name above to the name that the files use for it.
    dtype : {"float16", "float32"}, optional
        How features are stored; the source's own precision by default (float64 as float32).
    shots : Shots, optional
        Thresholds of the shot groups; those that the files state, or the usual ones, by default.
    allow_rounding : bool
        Store features that lose what tells rows apart in `dtype`; the bank's provenance says so.
    strict : bool
        Refuse rows that stand in two splits, or in one under two labels, by their ids. They are
        counted in a warning otherwise.
    overwrite : bool
        Replace the bank at `out` when the new one is whole; until then it stays as it is.
    replace_in_place : bool
        With `overwrite`, remove the old bank first, for disks that cannot hold both.
    reporter : Reporter
        Is told what is done, and warned of what is left out of the files or looks wrong.

    Returns
    -------
    Path
        The bank.

    Raises
    ------
    InputError
        Names, shapes, labels or values that make no bank; the message says which. What was begun
        is taken away then, and a bank that was to be replaced is still there.
    """
    paths = [Path(each) for each in ([sources] if isinstance(sources, (str, Path)) else sources)]
    budget = Budget(sum(file_size(path) for path in paths))
    source = " + ".join(path.name for path in paths)
    arrays = arrange(gather(paths, budget), mapping or {}, source, budget)
    if arrays.left_out:
        reporter.warn(f"{source}: left out {', '.join(arrays.left_out)}")
    check_leaks(arrays.rows, reporter, strict=strict)
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
                **({"rounding": "allowed"} if allow_rounding else {}),
            }
        },
    )
    casts = {split: Cast(split, plan.dtype, allowed=allow_rounding) for split in arrays.rows}
    begin = BankWriter.begin
    with begin(out, plan, overwrite=overwrite, replace_in_place=replace_in_place) as writer:
        try:
            fill(writer, arrays.features, casts, reporter)
            for cast in casts.values():
                cast.finish(reporter)
            writer.commit()
        except InputError:
            writer.abandon()  # no second try could store this value
            raise
    return Path(out)


def gather(paths: Sequence[Path], budget: Budget) -> dict[str, Any]:
    """Return the entries of all files by name; a name may come once."""
    content: dict[str, Any] = {}
    for path in paths:
        found = read_source(path, budget)
        twice = sorted(content.keys() & found.keys())
        if twice:
            message = f"{path} has {', '.join(twice)}, which an earlier file has too"
            raise InputError(message)
        content |= found
    return content


def check_leaks(rows: Mapping[str, SplitRows], reporter: Reporter, *, strict: bool) -> None:
    """Warn of rows that stand in two splits or under two labels, or refuse them."""
    leaks = find_leaks(rows)
    if strict:
        refuse_leaks(leaks)
    for leak in leaks:
        reporter.warn(str(leak))


def file_size(path: Path) -> int:
    """Return a file's size; 0 where there is no file, which is refused when it is read."""
    return path.stat().st_size if path.is_file() else 0


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fill(
    writer: BankWriter, features: Mapping[str, Any], casts: Mapping[str, Cast], reporter: Reporter
) -> None:
    """Write every chunk of a bank that is not there yet.

    Parameters
    ----------
    writer : BankWriter
        The bank.
    features : mapping
        From the split's name to its features (N, D), read as they are sliced.
    casts : mapping
        From the split's name to what converts its rows to the stored dtype.
    reporter : Reporter
        Is told of every chunk.
    """
    missing = list(writer.missing())
    total = sum(stop - start for _, start, stop in missing)
    with reporter.track("import", total, "rows") as advance:
        for split, start, stop in missing:
            ids = writer.plan.rows[split].ids[start:stop]
            writer.put(split, start, casts[split](features[split][start:stop], ids))
            advance(stop - start)
