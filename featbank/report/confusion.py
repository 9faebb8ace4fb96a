"""Which classes are taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOP", "top_confusions"]

# Rows and columns of the matrix on the page; more cannot be read.
TOP = 12


def top_confusions(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int, top: int = TOP
) -> dict[str, Any]:
    """Return the confusion matrix of the classes in the most frequent confusions.

    Parameters
    ----------
    labels, predicted : arrays of shape (n,), ints in [0, n_classes)
    top : int
        The most classes to show. Pairs (true, predicted) are taken from the most frequent on, ties
        by class number, as long as both their classes fit.

    Returns
    -------
    dict
        `classes`: the k <= top class numbers, ascending; `matrix`: counts (k, k), true classes
        down; `rows`: all rows of each of them (k,), so that what is missing in a line went to
        classes that are not shown.
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
    return {"classes": classes, **submatrix(labels, predicted, n_classes, classes)}


def submatrix(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    n_classes: int,
    classes: NDArray[np.int64],
) -> dict[str, NDArray[np.int64]]:
    """Return the confusion matrix of some classes, and all rows of each of them."""
    k = len(classes)
    place = np.full(n_classes, -1)
    place[classes] = np.arange(k)
    true, named = place[labels], place[predicted]
    both = (true >= 0) & (named >= 0)
    matrix = np.bincount(true[both] * k + named[both], minlength=k * k)
    return {"matrix": matrix, "rows": np.bincount(true[true >= 0], minlength=k)}
