"""Accuracy by shot group, as long-tailed recognition reports it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads._arrays import as_numpy
from heads._labels import coding, whole_labels
from heads.errors import HeadInputError
from heads.metrics import bootstrap
from heads.metrics.unseen import unseen

__all__ = [
    "FEW",
    "GROUPS",
    "MANY",
    "MEDIUM",
    "absent_classes",
    "confidence_interval",
    "evaluate",
    "group_means",
    "shot_groups",
]

MANY, MEDIUM, FEW = 0, 1, 2
GROUPS = ("many", "medium", "few")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def shot_groups(counts: ArrayLike, many_above: int = 100, few_below: int = 20) -> NDArray[np.int8]:
    """Return the group of each class, (C,): `MANY`, `MEDIUM` or `FEW`.

    Parameters
    ----------
    counts : array of shape (C,)
        Training rows of each class.
    many_above, few_below : int
        A count strictly above the first is many, strictly below the second few; the defaults are
        those of Kang et al. (ICLR 2020), `utils.py` of its code.

    Raises
    ------
    HeadInputError
        Counts that are not numbers from 0, or a threshold that is not a number.
    """
    n_c = _counted(counts)
    if not (many_above == many_above and few_below == few_below):  # NaN equals nothing
        message = f"thresholds must be numbers; got many above {many_above}, few below {few_below}"
        raise HeadInputError(message)
    groups = np.full(n_c.shape, MEDIUM, dtype=np.int8)
    groups[n_c > many_above] = MANY
    groups[n_c < few_below] = FEW
    return groups


def absent_classes(labels: Any, n_classes: int) -> Ints:
    """Return the classes that no label names, increasing: `all` is no mean over these.

    Parameters
    ----------
    labels : array of shape (n,), whole numbers in [0, n_classes)
        Of the split that is evaluated.
    n_classes : int

    Raises
    ------
    HeadInputError
        No rows, or a label outside 0..n_classes-1.
    """
    true, _ = _checked(labels, labels, n_classes)
    return np.flatnonzero(np.bincount(true, minlength=n_classes) == 0)


def group_means(values: Floats, groups: NDArray[np.int8]) -> dict[str, float | None]:
    """Average values of classes (C,), NaN left out, over all classes and over each group.

    Returns `all`, `many`, `medium` and `few`; None where no class has a value.
    """
    known = ~np.isnan(values)
    chosen = {"all": known} | {name: known & (groups == g) for g, name in enumerate(GROUPS)}
    return {
        name: float(values[mask].mean()) if mask.any() else None for name, mask in chosen.items()
    }


def evaluate(
    y_true: Any,
    y_pred: Any,
    counts: ArrayLike,
    many_above: int = 100,
    few_below: int = 20,
    *,
    classes: Any = None,
) -> dict[str, float | None]:
    """Measure predictions.

    Parameters
    ----------
    y_true, y_pred : arrays of shape (n,), whole numbers in [0, C)
    counts : array of shape (C,)
        Training rows of each class.
    many_above, few_below : int
        As in `shot_groups`.
    classes : array, optional
        The labels that `counts` counts, sorted, as a head's `classes_` are; then labels may be of
        any kind. Fewer than counts, they are numbers in [0, C), and the others have no head's
        prediction but may be labels.

    Returns
    -------
    dict
        `all`: mean of the per-class accuracies over classes that have rows in `y_true`; `many`,
        `medium`, `few`: the same over a group, None for a group without such a class; `micro`:
        share of all rows; `macro_f1`: mean F1 over classes that occur in `y_true` or `y_pred`.

    Raises
    ------
    HeadInputError
        No rows, lengths that differ, or a label outside 0..C-1.
    """
    n_c = _counted(counts)
    true, predicted = _checked(y_true, y_pred, len(n_c), classes)
    hits, total = _hits(true, predicted, len(n_c))
    means = group_means(_shares(hits, total), shot_groups(n_c, many_above, few_below))
    named = total + np.bincount(predicted, minlength=len(n_c))
    f1 = 2 * hits[named > 0] / named[named > 0]  # 2 TP / (2 TP + FP + FN)
    return {**means, "micro": float(hits.sum() / len(true)), "macro_f1": float(f1.mean())}


def confidence_interval(
    y_true: Any,
    y_pred: Any,
    counts: ArrayLike,
    many_above: int = 100,
    few_below: int = 20,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    classes: Any = None,
) -> dict[str, list[float] | None]:
    """Return intervals of `all`, `many`, `medium`, `few` and `micro`.

    Percentiles of rows resampled within each class, as `heads.metrics.bootstrap` describes, widened
    by what classes that are all right or all wrong hide, as `heads.metrics.unseen` describes: 10 of
    10 rows right is an accuracy from 0.69 to 1. The interval is about which rows were evaluated,
    given the fitted head. `classes` as in `evaluate`.

    Returns
    -------
    dict
        [low, high], or None for a group without a class that has rows.
    """
    n_c = _counted(counts)
    if not 0 < level < 1:
        message = f"level must be between 0 and 1; got {level!r}"
        raise HeadInputError(message)
    true, predicted = _checked(y_true, y_pred, len(n_c), classes)
    groups = shot_groups(n_c, many_above, few_below)
    right = true == predicted
    drawn = bootstrap.resample(right[:, None], true, groups, draws=draws, seed=seed)
    hidden = unseen(right, true, groups, level=level)
    hits, total = _hits(true, predicted, len(n_c))
    values = {**group_means(_shares(hits, total), groups), "micro": float(right.mean())}
    return {
        name: bootstrap.interval(drawn[name][:, 0], level, value=values[name], unseen=hidden[name])
        if name in drawn
        else None
        for name in bootstrap.METRICS
    }


def _hits(true: Ints, predicted: Ints, n_classes: int) -> tuple[Ints, Ints]:
    right = np.bincount(true[true == predicted], minlength=n_classes)
    return right, np.bincount(true, minlength=n_classes)


def _shares(hits: Ints, total: Ints) -> Floats:
    shares = np.full(len(total), np.nan)
    np.divide(hits, total, out=shares, where=total > 0)
    return shares


def _counted(counts: ArrayLike) -> NDArray[Any]:
    """Return counts (C,), or refuse what is no number of rows of each class."""
    n_c = np.asarray(counts)
    good = n_c.ndim == 1 and n_c.dtype.kind in "biuf"
    if not (good and np.isfinite(n_c).all() and (n_c >= 0).all()):
        message = "counts must hold a number of rows, at least 0, for each class (C,)"
        raise HeadInputError(message)
    return n_c


def _checked(y_true: Any, y_pred: Any, n_classes: int, classes: Any = None) -> tuple[Ints, Ints]:
    true, predicted = as_numpy(y_true), as_numpy(y_pred)
    if true.ndim != 1 or true.shape != predicted.shape or not len(true):
        message = f"labels {true.shape} and predictions {predicted.shape} must be (n,) with n >= 1"
        raise HeadInputError(message)
    if classes is None:
        return whole_labels(true, n_classes), whole_labels(predicted, n_classes, "prediction")
    coded = coding(np.asarray(classes), n_classes)
    return coded.code(true), coded.code(predicted)
