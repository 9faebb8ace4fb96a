"""Which classes are taken for which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.report.pack import smallest

__all__ = ["TOP", "Confusions", "top_confusions"]

# Rows and columns of the matrix on the page; more cannot be read.
TOP = 12


@dataclass(frozen=True, eq=False)
class Confusions:
    """The confusion matrix of some classes, in small types.

    Attributes
    ----------
    classes : ndarray of shape (k,)
        The class numbers, ascending.
    matrix : ndarray of shape (k * k,)
        The number of rows of each pair of classes, a line for each true class.
    rows : ndarray of shape (k,)
        All rows of each class, so that what is missing in a line went to classes that are not
        shown.
    """

    classes: NDArray[Any]
    matrix: NDArray[Any]
    rows: NDArray[Any]


def top_confusions(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int, top: int = TOP
) -> Confusions:
    """Return the confusion matrix of the classes in the most frequent confusions.

    Parameters
    ----------
    labels, predicted : arrays of shape (n,), ints in [0, n_classes)
    top : int
        The most classes to show. Pairs (true, predicted) are taken from the most frequent on, ties
        by class number, as long as both their classes fit.

    Returns
    -------
    Confusions
        Of at most `top` classes.
    """
    wrong = labels != predicted
    pairs, times = np.unique(labels[wrong] * n_classes + predicted[wrong], return_counts=True)
    shown: set[int] = set()
    for pair in pairs[np.argsort(-times, kind="stable")].tolist():
        wider = shown | {*divmod(pair, n_classes)}
        if len(wider) <= top:
            shown = wider
        if len(shown) == top:
            break
    classes = np.array(sorted(shown), dtype=np.int64)
    return submatrix(labels, predicted, n_classes, classes)


def submatrix(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    n_classes: int,
    classes: NDArray[np.int64],
) -> Confusions:
    """Return the confusion matrix of some classes, and all rows of each of them.

    Parameters
    ----------
    labels, predicted : arrays of shape (n,), ints in [0, n_classes)
    n_classes : int
    classes : array of shape (k,)
        The numbers of the classes, ascending.
    """
    k = len(classes)
    place = np.full(n_classes, -1)
    place[classes] = np.arange(k)
    true, named = place[labels], place[predicted]
    both = (true >= 0) & (named >= 0)
    matrix = np.bincount(true[both] * k + named[both], minlength=k * k)
    rows = np.bincount(true[true >= 0], minlength=k)
    return Confusions(smallest(classes), smallest(matrix), smallest(rows))
