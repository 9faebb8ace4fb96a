"""Labels as places among the classes of a fit, and among the classes that have train counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads._arrays import as_numpy
from heads.errors import HeadInputError

__all__ = [
    "Coding",
    "code_known",
    "code_labels",
    "code_row_numbers",
    "coding",
    "whole_labels",
]

Ints = NDArray[np.int64]

_NUMBERS, _WORDS = "biuf", "USO"


def code_known(labels: NDArray[Any], classes: NDArray[Any], whose: str = "of the fit") -> Ints:
    """Return each label's place among sorted classes (C,), or name one that is not there."""
    both_kinds = labels.dtype.kind + classes.dtype.kind
    alike = all(kind in _NUMBERS for kind in both_kinds) or all(k in _WORDS for k in both_kinds)
    known = np.zeros(len(labels), dtype=bool)
    places = np.zeros(len(labels), dtype=np.int64)
    if alike:
        try:
            places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
            known = np.asarray(classes[places] == labels)
        except TypeError:  # objects that cannot be compared are no labels of these classes
            pass
    wrong = np.flatnonzero(~known)
    if wrong.size:
        message = (
            f"label {labels[wrong[0]]} (row {wrong[0]}) is not among the {len(classes)} classes "
            f"{whose}"
        )
        raise HeadInputError(message)
    return places.astype(np.int64, copy=False)


def whole_labels(labels: Any, n_classes: int, what: str = "label") -> Ints:
    """Return labels (n,) that are class numbers as int64, or say which one is not.

    Raises
    ------
    HeadInputError
        A shape other than (n,), a label that is no whole number in 0..n_classes-1.
    """
    given = as_numpy(labels)
    message = ""
    if given.ndim != 1:
        message = f"{what}s must be (n,); got shape {given.shape}"
    elif given.dtype.kind not in _NUMBERS and len(given):
        message = f"{what}s must be class numbers 0..{n_classes - 1}; got dtype {given.dtype}"
    if message:
        raise HeadInputError(message)
    with np.errstate(invalid="ignore"):  # NaN and infinity are no class numbers
        whole = given.astype(np.int64)
        given = given.astype(np.float64) if given.dtype.kind == "b" else given
    wrong = np.flatnonzero((given < 0) | (given >= n_classes) | (whole != given))
    if wrong.size:
        row = wrong[0]
        how = "is outside" if given[row] == np.floor(given[row]) else "is no whole number in"
        message = f"{what} {given[row]} (row {row}) {how} 0..{n_classes - 1}"
        raise HeadInputError(message)
    return whole


@dataclass(frozen=True)
class Coding:
    """How labels are coded as places among the C classes that a fit's train counts are of.

    Attributes
    ----------
    classes : ndarray of shape (k,)
        The labels that the head was fitted on and predicts, sorted.
    places : ndarray of shape (k,), int64
        The place of each of them among the counts.
    n_classes : int
        C: how many counts there are.
    by_number : bool
        Whether a label is itself a place, so that one without training rows is known too.
    """

    classes: NDArray[Any]
    places: Ints
    n_classes: int
    by_number: bool

    def code(self, labels: Any) -> Ints:
        """Return the place of each label (n,), or name a label that no class has."""
        given = as_numpy(labels)
        if self.by_number:
            return whole_labels(given, self.n_classes)
        return self.places[code_known(given, self.classes)]


def coding(classes: NDArray[Any], n_classes: int) -> Coding:
    """Return how labels of fitted classes (k,), sorted, are coded among C counts.

    As many counts as classes are theirs, in their order. More counts are those of the labels
    0..C-1, of which some have no training rows.

    Raises
    ------
    HeadInputError
        Neither can be.
    """
    n, k = n_classes, len(classes)
    if n == k:
        numbers = np.arange(k)
        whole = classes.dtype.kind in _NUMBERS and np.array_equal(classes, numbers)
        return Coding(classes, numbers, n, bool(whole))
    if n > k and classes.dtype.kind in _NUMBERS:
        try:
            return Coding(classes, whole_labels(classes, n), n, by_number=True)
        except HeadInputError:
            pass
    message = f"counts has {n} classes, but the labels have {k}"
    raise HeadInputError(message)


def _unique(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return what `np.unique` returns, without sorting where labels are whole numbers close by."""
    if labels.dtype.kind in "iu":
        low, span = int(labels.min()), int(labels.max()) - int(labels.min()) + 1
        if span <= 4 * len(labels) and -(2**62) < low < 2**62:
            shifted = labels.astype(np.int64) - low
            seen = np.bincount(shifted, minlength=span) > 0
            classes = (np.flatnonzero(seen) + low).astype(labels.dtype)
            return classes, (np.cumsum(seen) - 1)[shifted]
    classes, y_idx = np.unique(labels, return_inverse=True)
    return classes, y_idx


def code_labels(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted classes (C,) of `labels`, and each label's place among them (n,)."""
    classes, y_idx = _unique(labels)
    if len(classes) < 2:
        message = f"a head needs at least 2 classes; got 1 class, {classes[0]}"
        raise HeadInputError(message)
    return classes, y_idx.astype(np.int64, copy=False)


def code_row_numbers(
    labels: NDArray[Any], n_classes: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read `labels` as rows 0..n_classes-1 of a stage-1 weight, or say which one is not."""
    whole = labels.astype(np.int64) if labels.dtype.kind in "iufb" else np.full(len(labels), -1)
    wrong = np.flatnonzero((whole < 0) | (whole >= n_classes))
    if wrong.size:
        message = (
            f"label {labels[wrong[0]]} (row {wrong[0]}) is outside 0..{n_classes - 1}: with a "
            f"stage-1 weight of {n_classes} rows, a label is a row number"
        )
        raise HeadInputError(message)
    return np.arange(n_classes), whole
