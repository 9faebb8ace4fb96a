"""Saved heads on a bank: loaded where they belong to its features, and evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import heads
from featbank.bank.bank import Bank
from featbank.bank.provenance_diff import differences, feature_identity
from featbank.errors import StaleError
from featbank.results.alike import other_classes
from featbank.results.cell import ClassNames
from featbank.results.fit import Evaluated, Fit
from featbank.results.records import HeadChoice, Result, Selection
from featbank.runtime.progress import SILENT, Reporter
from featbank.study.arrays import BankArrays, on_host
from featbank.study.splits import distinct, head_notes, report_notes, splits_to_evaluate

__all__ = ["evaluate_heads", "load_for"]


def evaluate_heads(
    bank: Bank,
    files: Sequence[Path],
    report: str | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> Evaluated:
    """Evaluate saved heads on a bank.

    Parameters
    ----------
    bank : Bank
    files : sequence of paths
        Heads that `featbank.fit` or the command line saved.
    report : str, optional
        The split to evaluate on; every split that is there to test on, if none is named.
    seed : int
        Seed of the intervals.
    device : str
        Where the heads' products are computed.
    reporter : Reporter
        Is told what takes time.

    Raises
    ------
    StaleError
        A head was fitted on other features or classes; the message names what differs.
    UsageError
        The bank lacks the split.
    """
    splits = splits_to_evaluate(bank, report)
    arrays = BankArrays(bank, device)
    loaded = [(file, *load_for(bank, file)) for file in files]
    fits = []
    with reporter.track("evaluate", len(loaded) * len(splits), "heads") as advance:
        for file, head, metadata in loaded:
            results = []
            for split in splits:
                results.append(evaluated(arrays, file, head, metadata, split, seed))
                advance(1)
            notes = distinct([note for each in results for note in each.notes])
            fits.append(Fit(head, tuple(results), results[0].selection, notes=tuple(notes)))
    notes = distinct([note for fit in fits for note in fit.notes])
    return Evaluated(tuple(fits), tuple(notes))


def evaluated(
    arrays: BankArrays, file: Path, head: Any, metadata: Mapping[str, Any], split: str, seed: int
) -> Result:
    """Return what a saved head reaches on one split.

    Parameters
    ----------
    arrays : BankArrays
    file : Path
        The head's file.
    head : Head
        What the file holds.
    metadata : mapping
        What the file says of how the head was fitted.
    split : str
        The split to evaluate on.
    seed : int
        Seed of the intervals.
    """
    score = arrays.score(on_host(head.predict(arrays[split][0])), split, seed)
    selection = metadata.get("selection")
    return Result(
        bank=arrays.path,
        head=metadata.get("head", ""),
        params=metadata.get("params", {}),
        selected_on=metadata.get("selected_on"),
        selection=Selection.from_json(selection) if isinstance(selection, dict) else None,
        notes=tuple(notes_of(arrays.bank, file, metadata, split)),
        split=split,
        metrics=score.metrics,
        ci95=score.ci95,
        fit_seconds=None,
        file=str(file),
    )


def notes_of(bank: Bank, file: Path, metadata: Mapping[str, Any], split: str) -> list[str]:
    """Return what a reader has to know of a head on a split beside the numbers.

    Parameters
    ----------
    bank, file, metadata, split
        As in `evaluated`; the bank is that of its arrays.
    """
    fitted = metadata.get("notes")
    if not isinstance(fitted, list):
        fitted = (
            head_notes(HeadChoice.from_json(metadata), "nothing was chosen")
            if "spec" in metadata
            else []
        )
    own = [f"{file}: {note}" for note in fitted]
    if metadata.get("selected_on") == split:
        own.append(f"{file}: parameters were chosen on {split}, the REPORTED split")
    return distinct([*report_notes(bank, split), *own])


def load_for(bank: Bank, file: Path) -> tuple[Any, dict[str, Any]]:
    """Load a head with its metadata, if it was fitted on features like these.

    Raises
    ------
    StaleError
        The head belongs to other features or classes; the message names what differs.
    """
    head, metadata = heads.load(file), heads.read_metadata(file)
    if not (
        isinstance(metadata.get("features"), dict) and isinstance(metadata.get("class_names"), list)
    ):
        message = f"{file} does not say on which features it was fitted; fit it with featbank fit"
        raise StaleError(message)
    differing = differences(metadata["features"], feature_identity(bank.provenance))
    if differing:
        message = (
            f"{file} was fitted on other features than those of {bank.path}: "
            f"{', '.join(differing)} differ; fit it again on this bank"
        )
        raise StaleError(message)
    classes = other_classes(
        [
            ClassNames(str(file), metadata.get("class_names") or []),
            ClassNames(str(bank.path), bank.class_names),
        ]
    )
    if classes:
        message = f"{file} was fitted on other classes than those of {bank.path}: {classes}"
        raise StaleError(message)
    numbers = set(range(len(bank.class_names)))
    if head.n_features_in_ != bank.dim or not numbers.issuperset(head.classes_.tolist()):
        message = (
            f"{file} takes features of width {head.n_features_in_} and gives labels as "
            f"{head.classes_[0]!r}, where {bank.path} has width {bank.dim} and labels "
            f"0..{len(numbers) - 1}; fit it with featbank fit"
        )
        raise StaleError(message)
    return head, metadata
