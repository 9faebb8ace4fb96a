"""Accuracy by shot group, as long-tailed recognition reports it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads._arrays import as_numpy
from heads._labels import coding, whole_labels
from heads.errors import HeadInputError
from heads.metrics import bootstrap
from heads.metrics.shots import GROUPS, ShotGroups
from heads.metrics.unseen import unseen

__all__ = ["absent_classes", "confidence_interval", "evaluate", "group_means"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
    groups: ShotGroups | ArrayLike,
    *,
    classes: Any = None,
) -> dict[str, float | None]:
    """Measure predictions.

    Parameters
    ----------
    y_true, y_pred : arrays of shape (n,), whole numbers in [0, C)
    groups : ShotGroups or array of shape (C,)
        Training rows of each class, and the thresholds of the shot groups; of an array, those of
        Kang et al. (ICLR 2020).
    classes : array, optional
        The labels that `groups` counts, sorted, as a head's `classes_` are; then labels may be of
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
    shot = ShotGroups.of(groups)
    true, predicted = _checked(y_true, y_pred, len(shot), classes)
    hits, total = _hits(true, predicted, len(shot))
    means = group_means(_shares(hits, total), shot.of_class)
    named = total + np.bincount(predicted, minlength=len(shot))
    f1 = 2 * hits[named > 0] / named[named > 0]  # 2 TP / (2 TP + FP + FN)
    return {**means, "micro": float(hits.sum() / len(true)), "macro_f1": float(f1.mean())}


def confidence_interval(
    y_true: Any,
    y_pred: Any,
    groups: ShotGroups | ArrayLike,
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
    given the fitted head.

    Parameters
    ----------
    y_true, y_pred, groups, classes
        As in `evaluate`.
    level : float
        The share of samples whose interval covers the truth, between 0 and 1.
    draws : int
        How often the rows are resampled.
    seed : int
        Seed of the draws.

    Returns
    -------
    dict
        [low, high], or None for a group without a class that has rows.
    """
    shot = ShotGroups.of(groups)
    if not 0 < level < 1:
        message = f"level must be between 0 and 1; got {level!r}"
        raise HeadInputError(message)
    true, predicted = _checked(y_true, y_pred, len(shot), classes)
    right = true == predicted
    drawn = bootstrap.resample(right[:, None], true, shot.of_class, draws=draws, seed=seed)
    hidden = unseen(right, true, shot.of_class, level=level)
    hits, total = _hits(true, predicted, len(shot))
    values = {**group_means(_shares(hits, total), shot.of_class), "micro": float(right.mean())}
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


def _checked(y_true: Any, y_pred: Any, n_classes: int, classes: Any = None) -> tuple[Ints, Ints]:
    true, predicted = as_numpy(y_true), as_numpy(y_pred)
    if true.ndim != 1 or true.shape != predicted.shape or not len(true):
        message = f"labels {true.shape} and predictions {predicted.shape} must be (n,) with n >= 1"
        raise HeadInputError(message)
    if classes is None:
        return whole_labels(true, n_classes), whole_labels(predicted, n_classes, "prediction")
    coded = coding(np.asarray(classes), n_classes)
    return coded.code(true), coded.code(predicted)
