"""Heads on a bank: fit, choose, evaluate, save. What `fit` and `demo` run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from featbank.bank.bank import Bank
from featbank.bank.provenance_diff import feature_identity
from featbank.files.atomic import replace_text
from featbank.files.exchanging import recover
from featbank.files.placing import placing, refuse_strangers, used_bytes
from featbank.files.replacing import require_room
from featbank.results.fit import Fit, Fits
from featbank.results.owned import RESULTS, numbered, own_heads
from featbank.results.records import HeadChoice, Origin, Result
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec
from featbank.study.arrays import BankArrays, on_host
from featbank.study.calibrating import calibrate, measured
from featbank.study.choosing import (
    FittedHead,
    Job,
    defaults_of,
    points_of,
    timed_fit,
)
from featbank.study.ends import ends_of
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

__all__ = ["choice_of", "fit_head", "fit_heads", "fit_into", "origin"]


def fit_into(
    out: Path,
    arrays: BankArrays,
    wanted: Sequence[Spec],
    roles: Roles,
    *,
    seed: int = 0,
    overwrite: bool = False,
    in_place: bool = False,
    reporter: Reporter = SILENT,
) -> Fits:
    """Fit, choose, evaluate and save heads into a folder, with ``results.json`` of schema 1.

    The heads that are in `out` stay until the new ones and ``results.json`` are whole. Only the
    heads that the ``results.json`` there records are replaced.

    Parameters
    ----------
    out : Path
        The folder. Without `overwrite` there may be no file in it.
    arrays : BankArrays
    wanted : sequence of Spec
        The heads; each gets a file of its name, numbered where a name comes again.
    roles : Roles
        The split that chooses and those that are reported.
    seed : int
        Seed of every draw.
    overwrite : bool
        Whether heads that are in `out` may be replaced.
    in_place : bool
        Remove the old heads first: a failure then leaves neither them nor new ones.
    reporter : Reporter
        Is told what takes time.

    Raises
    ------
    OutputExistsError
        `out` holds something, and either `overwrite` is not set or it has the name of a new file.
    LockedError
        Another process is writing there.
    StorageError
        The disk is full, read-only or failing, or cannot hold old and new heads together.
    """
    check_points(wanted, roles)
    names = list(file_names(wanted))
    recover(out)
    if used_bytes(out, own_heads) is not None and not in_place:
        require_room(out, len(names) * head_bytes(arrays.bank))
    with placing(out, own_heads, overwrite=overwrite, in_place=in_place) as new:
        refuse_strangers(new.out, own_heads, (*names, RESULTS))
        fits = []
        for spec, name in zip(wanted, names, strict=True):
            fits.append(fit_head(arrays, spec, roles, seed=seed, reporter=reporter, file=name))
            fits[-1].save(new.work / name)
        found = together(arrays, fits, roles)
        text = json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n"
        replace_text(new.work / RESULTS, text)
        new.finish()
    return found


def fit_heads(
    arrays: BankArrays,
    wanted: Sequence[Spec],
    roles: Roles,
    *,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Fits:
    """Fit, choose and evaluate heads; nothing is written.

    Parameters
    ----------
    arrays, wanted, roles, seed, reporter
        As in `fit_into`.
    """
    check_points(wanted, roles)
    fits = [fit_head(arrays, spec, roles, seed=seed, reporter=reporter) for spec in wanted]
    return together(arrays, fits, roles)


def check_points(wanted: Sequence[Spec], roles: Roles) -> None:
    """Refuse what cannot be fitted, so that a typing error in the last does not cost the first."""
    for spec in wanted:
        points_of(spec, roles)


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
    fitted, seconds = timed_fit(Job(arrays, roles, seed, reporter), spec)
    head, selection = fitted.head, fitted.selection
    choice = choice_of(spec, fitted)
    own = fit_notes(arrays, roles, choice, chosen=selection is not None)
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
                selected_on=roles.selected_on(chosen=selection is not None),
                selection=selection,
                notes=tuple(distinct([*own, *report_notes(arrays.bank, split)])),
                split=split,
                metrics=score.metrics,
                ci95=score.ci95,
                fit_seconds=round(seconds, 4),
                file=file,
                calibration=measured(arrays, head, split, predicted, calibrated_on)[0],
            )
        )
    return Fit(
        head=head,
        results=tuple(results),
        selection=selection,
        candidates=fitted.candidates,
        notes=tuple(own),
        choice=choice,
        origin=origin(arrays.bank),
    )


def choice_of(spec: Spec, fitted: FittedHead) -> HeadChoice:
    """Return how what a specification left open ended."""
    ends = ends_of(fitted.selection, fitted.candidates)
    return HeadChoice(str(spec), defaults_of(spec, fitted), tuple(ends))


def together(arrays: BankArrays, fits: Sequence[Fit], roles: Roles) -> Fits:
    """Return heads of one bank together, with what a reader has to know beside their numbers."""
    choices = [each.choice for each in fits if each.choice is not None]
    known = [*role_notes(arrays.bank, roles), *all_head_notes(choices, roles.reason)]
    notes = distinct([*known, *weight_notes(arrays)])
    return Fits(tuple(fits), tuple(notes))


def fit_notes(arrays: BankArrays, roles: Roles, choice: HeadChoice, *, chosen: bool) -> list[str]:
    """Return what there is to say of a fitted head, on whatever split it is evaluated.

    Parameters
    ----------
    arrays : BankArrays
    roles : Roles
        The split that chooses and those that are reported.
    choice : HeadChoice
        How what the head's specification left open ended.
    chosen : bool
        Whether a parameter was chosen on the selecting split.
    """
    of_split = select_notes(arrays.bank, roles) if chosen else ()
    return [*of_split, *head_notes(choice, roles.reason), *weight_notes(arrays)]


def weight_notes(arrays: BankArrays) -> list[str]:
    """Say that training rows were weighted, and name the weights by their digest."""
    if arrays.sample_weight is None:
        return []
    digest = hashlib.sha256(arrays.sample_weight.astype("<f8").tobytes()).hexdigest()
    return [f"training rows are weighted (sample_weight, SHA-256 {digest[:16]})"]


def head_bytes(bank: Bank) -> int:
    """Return about how many bytes a linear head of a bank takes."""
    return 4 * len(bank.class_counts) * (bank.dim + 1)


def origin(bank: Bank) -> Origin:
    """Return what a head's file says of the features that it was fitted on."""
    return Origin(
        bank_digest=bank.digest,
        features=feature_identity(bank.provenance),
        class_names=tuple(bank.class_names),
        class_counts=tuple(np.asarray(bank.class_counts).tolist()),
        dtype=bank.dtype,
    )


def file_names(wanted: Sequence[Spec]) -> Iterator[str]:
    """Name each head's file by its spec's name, numbered where a name comes again."""
    return numbered(spec.name for spec in wanted)
