"""Heads on a bank: fit, choose, evaluate, save. What `fit` and `demo` run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from featbank.bank.bank import Bank
from featbank.bank.provenance_diff import feature_identity
from featbank.files.atomic import replace_text
from featbank.files.placing import placing, refuse_strangers, used_bytes
from featbank.files.replacing import recover, require_room
from featbank.results.fit import Fit
from featbank.results.owned import RESULTS, numbered, own_heads
from featbank.results.records import Candidate, Result, Selection
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec
from featbank.study.arrays import BankArrays, on_host
from featbank.study.calibrating import calibrate, measured
from featbank.study.choosing import (
    TAU_RANGE,
    defaults_of,
    ends_of,
    exact_curve,
    points_of,
    tau_metrics,
    timed_fit,
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
    "on_host",
    "exact_curve",
    "fit_heads",
    "fit_head",
    "origin",
    "tau_metrics",
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


def fit_head(
    arrays: BankArrays,
    spec: Spec,
    roles: Roles,
    *,
    seed: int = 0,
    reporter: Reporter = SILENT,
    file: str | None = None,
) -> Fit:
    """Fit one head, choose what it leaves open, and evaluate it on every reported split.

    Parameters
    ----------
    arrays : BankArrays
    spec : Spec
        The head's name and parameters.
    roles : Roles
        The split that chooses and those that are reported.
    seed : int
        Seed of every draw.
    reporter : Reporter
        Is told what takes time.
    file : str, optional
        The name of the file that the head is going to have.
    """
    head, chosen, tried, seconds = timed_fit(arrays, spec, roles, seed, reporter)
    choice = {
        "spec": str(spec),
        "defaults": defaults_of(spec, head, chosen),
        "ends": ends_of(chosen, tried),
    }
    own = fit_notes(arrays.bank, roles, choice, chosen)
    selection = None if chosen is None else Selection.from_json(chosen)
    calibrated_on = calibrate(arrays, head, roles)
    results = []
    for split in roles.report:
        predicted = on_host(head.predict(arrays[split][0]))
        score = arrays.score(predicted, split, seed)
        results.append(
            Result(
                bank=arrays.path,
                head=spec.name,
                params=specs.describe(head),
                selected_on=roles.selected_on(chosen=chosen is not None),
                selection=selection,
                notes=tuple(distinct([*own, *report_notes(arrays.bank, split)])),
                split=split,
                metrics=score["metrics"],
                ci95=score["ci95"],
                fit_seconds=round(seconds, 4),
                file=file,
                calibration=measured(arrays, head, split, predicted, calibrated_on)[0],
            )
        )
    return Fit(
        head=head,
        results=tuple(results),
        selection=selection,
        candidates=tuple(map(Candidate.from_json, tried)),
        notes=tuple(own),
        choice=choice,
        origin=origin(arrays.bank),
    )


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
    fitted = []
    for spec, name in zip(wanted, names, strict=True):
        fitted.append(fit_head(arrays, spec, roles, seed=seed, reporter=reporter, file=name))
        fitted[-1].save(folder / name)
    return results_of(arrays, fitted, roles)


def results_of(arrays: BankArrays, fitted: Sequence[Fit], roles: Roles) -> dict[str, Any]:
    """Return the results object of schema 1."""
    return {
        "schema": 1,
        "results": [result.to_json() for each in fitted for result in each.results],
        "candidates": [
            {"bank": arrays.path, "head": each.results[0].head, **point.to_json()}
            for each in fitted
            for point in each.candidates
        ],
        "notes": notes_of(arrays.bank, fitted, roles),
    }


def notes_of(bank: Bank, fitted: Sequence[Fit], roles: Roles) -> list[str]:
    """Return what a reader has to know of several heads beside the numbers."""
    choices = [each.choice for each in fitted]
    return distinct([*role_notes(bank, roles), *all_head_notes(choices, roles.reason)])


def fit_notes(
    bank: Bank, roles: Roles, choice: Mapping[str, Any], chosen: dict[str, Any] | None
) -> list[str]:
    """Return what there is to say of a fitted head, on whatever split it is evaluated."""
    of_split = [] if chosen is None else select_notes(bank, roles)
    return [*of_split, *head_notes(choice, roles.reason)]


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
