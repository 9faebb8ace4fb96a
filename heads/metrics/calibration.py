"""Calibration: whether a classifier that says 90 % gets 90 % right.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heads._arrays import as_numpy, as_tensor, is_finite
from heads._labels import whole_labels
from heads._params import check_number
from heads.errors import HeadInputError

__all__ = [
    "BINS",
    "at_temperatures",
    "columns_of",
    "confidence_and_nll",
    "expected_calibration_error",
    "fit_temperature",
    "temperature_on",
]

BINS = 15  # of the paper's tables

# Temperatures that are looked for; scores that tell nothing have none.
_LOWEST, _HIGHEST = 1e-4, 1e4
_STEPS = 60
_FEW_ROWS = 1024
# Scores that are held at a time.
_MOST_SCORES = 1 << 23


def confidence_and_nll(
    scores: Any, y_idx: Any, temperature: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the greatest softmax probability of each row, and minus the log of the true class's.

    Parameters
    ----------
    scores : array of shape (n, C)
        Logits, or any scores that are taken for logits.
    y_idx : array of shape (n,), whole numbers in [0, C)
    temperature : float
        Scores are divided by it.

    Returns
    -------
    confidence, nll : ndarrays of shape (n,), float32
        Computed in float64 from the differences to each row's greatest score.

    Raises
    ------
    HeadInputError
        Scores, labels or a temperature that cannot be.
    """
    return at_temperatures(scores, y_idx, [temperature])[0]


def at_temperatures(
    scores: Any, y_idx: Any, temperatures: Sequence[float]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return `confidence_and_nll` at several temperatures, from scores that are checked once.

    Parameters
    ----------
    scores, y_idx
        As in `confidence_and_nll`.
    temperatures : sequence of float
    """
    for each in temperatures:
        check_number("confidence_and_nll", "temperature", each, low=0, above=True)
    z, own = _checked(scores, y_idx)
    found = []
    for each in temperatures:
        log_sum = (z / each).exp_().sum(dim=1).log()
        confidence, nll = (-log_sum).exp(), log_sum - own / each
        found.append((confidence.float().cpu().numpy(), nll.float().cpu().numpy()))
    return found


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """Return sum over bins of (rows in it / n) |accuracy - mean confidence|, eq. 3.

    Parameters
    ----------
    confidence : array of shape (n,)
        In [0, 1]; bins are ((m - 1) / bins, m / bins].
    right : array of shape (n,), bool
    bins : int
    """
    sure, hit = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if sure.shape != hit.shape or sure.ndim != 1 or not len(sure):
        message = f"confidence {sure.shape} and right {hit.shape} must be (n,) with n >= 1"
        raise HeadInputError(message)
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, hit - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


def fit_temperature(scores: Any, y_idx: Any) -> float:
    """Return the temperature that minimises the mean negative log likelihood (section 4.2).

    In b = 1/T the objective mean(log sum_c exp(b z_c) - b z_y) is convex: its slope is sought by
    Newton's steps, kept within a shrinking bracket, in float64 sums.

    Parameters
    ----------
    scores : array of shape (n, C)
        On the split that chooses, never on the one that is reported.
    y_idx : array of shape (n,), whole numbers in [0, C)

    Returns
    -------
    float
        In [1e-4, 1e4]: small where every row is right and the slope vanishes, 1e4 where scores
        tell nothing.
    """
    return _temperature(*_checked(scores, y_idx))


def _temperature(z: Tensor, own: Tensor) -> float:
    """Return the temperature for shifted scores (n, C) and those of the true classes (n,)."""
    b, step = 1 / max(float(-z.mean()), 1 / _HIGHEST), -(-len(z) // _FEW_ROWS)
    if step > 1:  # a start from some of the rows saves passes over all of them
        b = _flat_point(z[::step], own[::step], b, 1e-3)
    return 1 / _flat_point(z, own, b, 1e-7)


def temperature_on(head: Any, X: Any, y: Any) -> float:
    """Return the temperature of a fitted head that `fit_temperature` finds on some rows.

    Parameters
    ----------
    head : Head
        Fitted on other rows.
    X : array of shape (n, D)
    y : array of shape (n,)
        Rows of a class that the head does not know are left out. At most as many rows are taken,
        evenly spaced, as have 2^23 scores.

    Raises
    ------
    HeadInputError
        No row has a class that the head knows, or the head is right on every row: the likelihood
        then grows without end as the temperature falls, and tells nothing of how sure to be.
    """
    labels = as_numpy(y)
    step = -(-len(labels) * len(head.classes_) // _MOST_SCORES)
    place, known = columns_of(head.classes_, labels[::step])
    if not known.any():
        message = "no row has a class that the head knows, so no temperature fits"
        raise HeadInputError(message)
    scores = as_numpy(head.decision_function(X[::step]))[known]
    z, own = _checked(scores, place[known])
    if bool((own == 0).all()):
        message = "the head is right on every row, which tells nothing of how sure it may be"
        raise HeadInputError(message)
    return _temperature(z, own)


def columns_of(classes: NDArray[Any], labels: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return each label's place (n,) among sorted classes (C,), and whether it has one (n,)."""
    place = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    return place, classes[place] == labels


def _flat_point(z: Tensor, own: Tensor, b: float, tolerance: float) -> float:
    """Return the b in its bounds at which the objective is flat, starting from b."""
    target = float(own.mean())
    low, high = 1 / _HIGHEST, 1 / _LOWEST
    b = min(max(b, low), high)
    for _ in range(_STEPS):
        slope, curvature = _moments(z, b)
        slope -= target
        low, high = (low, b) if slope > 0 else (b, high)
        step = b - slope / curvature if curvature > 0 else 0.0
        after = step if low < step < high else (low * high) ** 0.5
        if abs(after - b) <= tolerance * b:
            return after
        b = after
    return b


def _checked(scores: Any, y_idx: Any) -> tuple[Tensor, Tensor]:
    """Return shifted scores (n, C), float64, and those of the true classes (n,).

    Raises
    ------
    HeadInputError
        Scores that are not (n, C) finite numbers with n >= 1, or labels that are not their columns.
    """
    given = as_tensor(scores)
    if given.ndim not in (1, 2) or not len(given) or not is_finite(given):
        message = f"scores must be finite numbers (n, C) with n >= 1; got {tuple(given.shape)}"
        raise HeadInputError(message)
    z = _shifted(given).double()
    labels = whole_labels(y_idx, z.shape[1])
    if len(labels) != len(z):
        message = f"{len(labels)} labels for scores of {len(z)} rows"
        raise HeadInputError(message)
    return z, z.gather(1, torch.from_numpy(labels).to(z.device).unsqueeze(1)).squeeze(1)


def _shifted(scores: Tensor) -> Tensor:
    """Return scores with 0 as each row's greatest; one column of a pair becomes two."""
    if scores.ndim == 1:
        scores = torch.stack([torch.zeros_like(scores), scores], dim=1)
    return scores - scores.max(dim=1, keepdim=True).values


def _moments(z: Tensor, b: float) -> tuple[float, float]:
    """Return the means over rows of the mean and the variance of z under softmax(b z)."""
    p = (z * b).exp_()
    total = p.sum(dim=1)
    p *= z
    first, second = p.sum(dim=1) / total, torch.linalg.vecdot(p, z) / total
    return float(first.mean()), float((second - first.square()).mean())
