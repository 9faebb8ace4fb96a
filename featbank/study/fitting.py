"""Heads on a bank: fit, choose, evaluate, save. What `fit` and `demo` run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from featbank import Bank
from featbank.bank.provenance_diff import feature_identity
from featbank.files.atomic import replace_text
from featbank.files.placing import placing, refuse_strangers, used_bytes
from featbank.files.replacing import recover, require_room
from featbank.results.owned import RESULTS, numbered, own_heads
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec
from featbank.study.arrays import BankArrays, as_numpy
from featbank.study.choosing import (
    TAU_RANGE,
    defaults_of,
    ends_of,
    exact_curve,
    fit_one,
    points_of,
    tau_curve,
)
from featbank.study.splits import (
    Roles,
    all_head_notes,
    distinct,
    head_notes,
    report_notes,
    role_notes,
    select_notes,
)
from heads import specs

__all__ = [
    "TAU_RANGE",
    "BankArrays",
    "as_numpy",
    "exact_curve",
    "fit_heads",
    "fit_one",
    "origin",
    "tau_curve",
]


def fit_heads(
    bank: Bank,
    wanted: Sequence[Spec],
    out: Path,
    roles: Roles,
    *,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
    in_place: bool = False,
    reporter: Reporter = SILENT,
    shown: Path | None = None,
) -> dict[str, Any]:
    """Fit, choose, evaluate and save heads into a folder; return the results object of schema 1.

    The heads that are in `out` stay until the new ones and ``results.json`` are whole. Only the
    heads that the ``results.json`` there records are replaced.

    Parameters
    ----------
    out : Path
        The folder. Without `overwrite` there may be no file in it.
    in_place : bool
        Remove the old heads first: a failure then leaves neither them nor new ones.
    shown : Path, optional
        The bank's path that is recorded, where it is moved there before anyone reads the results.

    Raises
    ------
    OutputExistsError
        `out` holds something, and either `overwrite` is not set or it has the name of a new file.
    LockedError
        Another process is writing there.
    StorageError
        The disk is full, read-only or failing, or cannot hold old and new heads together.
    """
    for spec in wanted:  # a typing error in the last spec must not cost the first one's fit
        points_of(spec, roles)
    arrays, names = BankArrays(bank, device, roles.select, shown=shown), list(file_names(wanted))
    recover(out)
    if used_bytes(out, own_heads) is not None and not in_place:
        require_room(out, len(names) * head_bytes(bank))
    with placing(out, own_heads, overwrite=overwrite, in_place=in_place) as new:
        refuse_strangers(new.out, own_heads, (*names, RESULTS))
        results = fit_into(new.work, arrays, wanted, names, roles, seed, reporter)
        replace_text(new.work / RESULTS, json.dumps(results, indent=2, allow_nan=False) + "\n")
        new.finish()
    return results


def fit_into(
    folder: Path,
    arrays: BankArrays,
    wanted: Sequence[Spec],
    names: Sequence[str],
    roles: Roles,
    seed: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """Fit each head and save it under its name; return the results object of schema 1."""
    results: list[dict[str, Any]] = []
    candidates: list[dict[str, Any]] = []
    fitted: list[dict[str, Any]] = []
    for spec, name in zip(wanted, names, strict=True):
        arrays["train"]
        started = time.perf_counter()
        head, chosen, tried = fit_one(arrays, spec, roles, seed, reporter)
        seconds = time.perf_counter() - started
        entry: dict[str, Any] = {
            "bank": arrays.path,
            "head": spec.name,
            "params": specs.describe(head),
            "selected_on": roles.selected_on(chosen=chosen is not None),
            "selection": chosen,
        }
        of_head = {
            "spec": str(spec),
            "defaults": defaults_of(spec, head, chosen),
            "ends": ends_of(chosen, tried),
        }
        fitted.append(of_head)
        own = fit_notes(arrays.bank, roles, of_head, chosen)
        entry["notes"] = own
        metadata = {**origin(arrays.bank), "spec": str(spec), **entry}
        head.save(folder / name, metadata=metadata)
        candidates += [{"bank": arrays.path, "head": spec.name, **point} for point in tried]
        for split in roles.report:
            score = arrays.score(head, split, seed)
            seen = {"split": split, **score, "fit_seconds": round(seconds, 4), "file": name}
            said = {"notes": distinct([*own, *report_notes(arrays.bank, split)])}
            results.append({**entry, **seen, **said})
    notes = distinct([*role_notes(arrays.bank, roles), *all_head_notes(fitted, roles.reason)])
    return {"schema": 1, "results": results, "candidates": candidates, "notes": notes}


def fit_notes(
    bank: Bank, roles: Roles, of_head: dict[str, Any], chosen: dict[str, Any] | None
) -> list[str]:
    """Return what there is to say of a fitted head, on whatever split it is evaluated."""
    of_split = [] if chosen is None else select_notes(bank, roles)
    return [*of_split, *head_notes(of_head, roles.reason)]


def head_bytes(bank: Bank) -> int:
    """Return about how many bytes a linear head of a bank takes."""
    return 4 * len(bank.class_counts) * (bank.dim + 1)


def origin(bank: Bank) -> dict[str, Any]:
    """Return what a head's file says of the features that it was fitted on."""
    return {
        "bank_digest": bank.digest,
        "features": feature_identity(bank.provenance),
        "class_names": list(bank.class_names),
    }


def file_names(wanted: Sequence[Spec]) -> Iterator[str]:
    """Name each head's file by its spec's name, numbered where a name comes again."""
    return numbered(spec.name for spec in wanted)
