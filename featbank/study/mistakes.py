"""What a saved head gets wrong on a bank, and the folder of files that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from featbank.bank.bank import Bank
from featbank.files.atomic import replace_text
from featbank.files.placing import placing, refuse_strangers
from featbank.results.mistakes import ClassReport, Confused, Mistake, Mistakes
from featbank.results.owned import MISTAKES_FILES, MISTAKES_RECORD, own_mistakes
from featbank.results.saved import write_record
from featbank.runtime.progress import SILENT, Reporter
from featbank.study.arrays import BankArrays, on_host
from featbank.study.calibrating import rowwise
from featbank.study.saved_heads import load_for, notes_of
from featbank.study.splits import distinct, splits_to_evaluate
from heads import metrics

__all__ = ["find_mistakes", "mistakes_into"]

Ints = NDArray[np.int64]


def mistakes_into(out: Path, find: Callable[[], Mistakes], *, overwrite: bool = False) -> Mistakes:
    """Find the mistakes of a head, and write them into a folder.

    Parameters
    ----------
    out : Path
        The folder, which gets ``mistakes.csv``, ``classes.csv``, ``confusion.csv``, and the whole
        in ``mistakes.json``, by which `featbank.results.owned.own_mistakes` knows it again.
    find : callable
        Finds them, once it is clear that the folder may be written.
    overwrite : bool
        Whether what an earlier call wrote there may be replaced.

    Raises
    ------
    OutputExistsError
        `out` holds something, and `overwrite` is not set or it is not featbank's.
    LockedError, StorageError
        Another process is writing there; the disk is full, read-only or failing.
    """
    with placing(out, own_mistakes, overwrite=overwrite) as new:
        refuse_strangers(new.out, own_mistakes, (*MISTAKES_FILES, MISTAKES_RECORD))
        found = find()
        texts = (found.mistakes_csv(), found.classes_csv(), found.confusion_csv())
        for name, text in zip(MISTAKES_FILES, texts, strict=True):
            replace_text(new.work / name, text)
        write_record(new.work / MISTAKES_RECORD, found.to_json())
        new.finish()
    return found


def find_mistakes(
    bank: Bank,
    file: Path,
    report: str | None = None,
    *,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> Mistakes:
    """Return what a saved head gets wrong on one split.

    Parameters
    ----------
    bank : Bank
    file : Path
        A head that `featbank.fit` or the command line saved.
    report : str, optional
        The split; by default ``test``, or the first of those that are there to test on.
    device : str
        Where the head's products are computed.
    reporter : Reporter
        Is told what takes time.

    Raises
    ------
    StaleError
        The head was fitted on other features or classes; the message names what differs.
    UsageError
        The bank lacks the split.
    """
    tests = splits_to_evaluate(bank, report)
    split = "test" if "test" in tests else tests[0]
    head, metadata = load_for(bank, file)
    reporter.say(f"looking at the rows of {split}")
    arrays = BankArrays(bank, device)
    X, y = arrays[split]
    labels, predicted = on_host(y), on_host(head.predict(X))
    confidence, loss = rowwise(head, X, labels, (head.temperature,))[0]
    return Mistakes(
        bank=arrays.path,
        head=str(metadata.get("head", "")),
        file=str(file),
        split=split,
        rows=len(labels),
        metrics=metrics.evaluate(labels, predicted, arrays.groups),
        wrong=wrong_rows(bank, split, predicted, confidence, loss),
        classes=class_reports(bank, labels, predicted),
        confusion=confusion_cells(labels, predicted, len(bank.class_names)),
        notes=tuple(distinct(notes_of(bank, file, metadata, split))),
    )


def wrong_rows(
    bank: Bank, split: str, predicted: Ints, confidence: NDArray[Any], loss: NDArray[Any]
) -> tuple[Mistake, ...]:
    """Return the rows of a split that are wrong, the most confident first.

    Parameters
    ----------
    bank : Bank
    split : str
    predicted : ndarray of shape (n,)
        The class that the head gives each row.
    confidence : ndarray of shape (n,)
        The probability of that class.
    loss : ndarray of shape (n,)
        Minus the logarithm of the probability of the row's own class, in nats; NaN where the head
        does not know that class.
    """
    part, names = bank[split], bank.class_names
    nats = np.where(np.isnan(loss), np.inf, loss)
    wrong = np.flatnonzero(predicted != part.labels)
    order = wrong[np.lexsort((-nats[wrong], -confidence[wrong]))]
    share = np.exp(-nats[order].astype(np.float64))
    columns = (part.ids[order], part.labels[order], predicted[order], confidence[order], share)
    return tuple(
        Mistake(str(name), names[true], names[given], float(sure), float(own))
        for name, true, given, sure, own in zip(*columns, strict=True)
    )


def class_reports(bank: Bank, labels: Ints, predicted: Ints) -> tuple[ClassReport, ...]:
    """Return the report of each class, by labels and predictions (n,)."""
    counts = bank.class_counts
    groups = bank.shots.groups(counts)
    found = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(counts)), zero_division=np.nan
    )
    return tuple(
        ClassReport(
            name=name,
            support=int(support),
            precision=known(precision),
            recall=known(recall),
            f1=known(f1),
            train_rows=int(n_train),
            group=metrics.GROUPS[group],
        )
        for name, n_train, group, precision, recall, f1, support in zip(
            bank.class_names, counts, groups, *found, strict=True
        )
    )


def known(value: float) -> float | None:
    """Return a number, or None for NaN."""
    return None if np.isnan(value) else float(value)


def confusion_cells(labels: Ints, predicted: Ints, n_classes: int) -> tuple[Confused, ...]:
    """Return the cells of the confusion matrix of labels and predictions (n,) that are not 0."""
    cells, counts = np.unique(labels * n_classes + predicted, return_counts=True)
    places = (divmod(cell, n_classes) for cell in cells.tolist())
    return tuple(
        Confused(true, given, count)
        for (true, given), count in zip(places, counts.tolist(), strict=True)
    )
