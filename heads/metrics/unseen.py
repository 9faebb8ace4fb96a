"""What resampling cannot see: classes whose rows are all alike.

A class of n rows that are all right is all right in every draw, as if its accuracy were known to
be 1. What is known is that p^n, the probability of such rows, is not small. Of several such
classes the product of these is not: a sum of their accuracies with weights a_c can be lower by

    max sum_c a_c (1 - p_c)   subject to   sum_c n_c log p_c >= log(tail),

which, for one class or for classes whose rows weigh the same, is the end of the exact interval of
all these rows together (Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated
in the Case of the Binomial", Biometrika 26, 1934). Classes that vary in the draws and classes that
do not are independent, so the two distances from the value to an end are added in squares (the
method of variance estimates recovery: Zou and Donner, "Construction of confidence limits about
effect measures", Statistics in Medicine 27, 2008).

A metric of a single class is a plain binomial share, and its interval the exact one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from heads._labels import whole_labels
from heads.errors import HeadInputError
from heads.metrics.bootstrap import Unseen, drawn_within, weights_of_classes

__all__ = ["furthest", "unseen", "unseen_apart"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def unseen(
    values: ArrayLike,
    y_idx: ArrayLike,
    groups: NDArray[np.int8],
    *,
    bounds: tuple[int, int] = (0, 1),
    level: float = 0.95,
) -> dict[str, Unseen]:
    """Return what resampling rows cannot show of each metric that `bootstrap.resample` returns.

    Parameters
    ----------
    values : array of shape (n,), whole numbers
        Whether a classifier is right on each row; or the difference of two on the same rows, with
        `bounds` (-1, 1).
    y_idx : array of shape (n,), whole numbers in [0, C)
    groups : array of shape (C,)
        Shot group of each class.
    bounds : tuple of int
        The least and the greatest value that a row can have.
    level : float

    Raises
    ------
    HeadInputError
        No rows, lengths that differ, or a label outside 0..C-1.
    """
    of_row, labels = np.asarray(values, dtype=np.float64), whole_labels(y_idx, len(groups))
    if of_row.shape != labels.shape or not len(labels):
        message = f"values {of_row.shape} and labels {labels.shape} must be (n,) with n >= 1"
        raise HeadInputError(message)
    tail = (1 - level) / 2
    strata = drawn_within(labels, groups)
    size = np.bincount(strata)
    mean = np.bincount(strata, of_row) / np.maximum(size, 1)
    varies = np.bincount(strata, np.abs(of_row - mean[strata])) > 1e-9
    found = {}
    for name, weight in weights_of_classes(labels, groups).items():
        share = np.bincount(strata, weight[labels])
        inside = share > 0
        if inside.sum() == 1 and bounds == (0, 1):
            found[name] = _of_one_class(float(mean[inside][0]), int(size[inside][0]), tail)
            continue
        alike = inside & ~varies
        share, level_of, rows = share[alike], mean[alike], size[alike]
        below, above = share * (level_of - bounds[0]), share * (bounds[1] - level_of)
        found[name] = Unseen(furthest(below, rows, tail), furthest(above, rows, tail))
    return found


def unseen_apart(one: Unseen, other: Unseen) -> Unseen:
    """Return what cannot be shown of the difference of two metrics measured on different rows."""
    return Unseen(math.hypot(one.below, other.above), math.hypot(one.above, other.below))


def furthest(gains: Floats, rows: Ints, tail: float) -> float:
    """Return max sum_c a_c (1 - p_c) for gains a (m,), with prod_c p_c^n_c >= tail for rows (m,).

    At the maximum p_c = min(1, mu n_c / a_c): the classes that gain most for their rows fall below
    1, and mu follows from the constraint.
    """
    gains, rows = gains[gains > 0], rows[gains > 0]
    if not len(gains):
        return 0.0
    order = np.argsort(rows / gains, kind="stable")
    gains, rows = gains[order], rows[order]
    cost = np.log(rows / gains)
    log_mu = (math.log(tail) - np.cumsum(rows * cost)) / np.cumsum(rows)
    n_below = int(np.flatnonzero(log_mu + cost < 0)[-1]) + 1
    p = np.exp(log_mu[n_below - 1] + cost[:n_below])
    return float((gains[:n_below] * (1 - p)).sum())


def _of_one_class(share: float, n_rows: int, tail: float) -> Unseen:
    """Return the distances to the ends of Clopper and Pearson's interval."""
    right = round(share * n_rows)
    low = float(betaincinv(right, n_rows - right + 1, tail)) if right else 0.0
    high = float(betaincinv(right + 1, n_rows - right, 1 - tail)) if right < n_rows else 1.0
    return Unseen(share - low, high - share, whole=True)
