"""Accuracies of resampled evaluation rows: intervals, and differences of two classifiers.

Rows are drawn within their classes, with replacement. Of the n_c rows of a class n_c - 1 are drawn
(Rao and Wu, "Resampling Inference With Complex Survey Data", JASA 1988; their bootstrap with
m_h = n_h - 1): the variance of a mean over classes is then unbiased, where n_c draws make it too
small by n_c / (n_c - 1), by a third at the 3 rows a class of iNaturalist's val. Classes with one
row each tell nothing about their own variance and are drawn together, those of a shot group as
one class would be (collapsed strata: Cochran, "Sampling Techniques", 3rd edition, 1977), which
makes intervals rather too wide than too narrow.

All classifiers see the same draws, and a draw depends on labels and seed alone, so a comparison
with one classifier more leaves the others' numbers as they were. What varies is which rows were
evaluated; the fitted classifiers stay as they are. A class whose rows are all right, or all wrong,
does not vary in the draws: `heads.metrics.unseen` says what intervals have to add for such classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads._labels import whole_labels
from heads.errors import HeadInputError

__all__ = [
    "DRAWS",
    "METRICS",
    "Unseen",
    "difference",
    "drawn_within",
    "interval",
    "resample",
    "weights_of_classes",
]

DRAWS = 1000
METRICS = ("all", "many", "medium", "few", "micro")

# Drawn rows that are held at a time: a few tens of megabytes.
_BLOCK_ROWS = 1 << 22
# Below any difference that rows can make, above what rounding leaves of none.
_NOISE = 1e-10
# The end of the middle 95 % of the normal distribution.
_NORMAL_END = 1.959964

Floats = NDArray[np.float64]


class Unseen(NamedTuple):
    """How far below and above its value a metric can be by what draws do not show.

    whole: these are the distances to the interval's ends, whatever the draws show.
    """

    below: float
    above: float
    whole: bool = False


def resample(
    right: ArrayLike,
    y_idx: ArrayLike,
    groups: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Floats]:
    """Return resampled accuracies of K classifiers on the same rows.

    Parameters
    ----------
    right : array of shape (n, K), bool
        Whether each classifier is right on each row.
    y_idx : array of shape (n,), whole numbers in [0, C)
    groups : array of shape (C,)
        Shot group of each class, as `heads.metrics.ShotGroups` has it.
    draws, seed : int

    Returns
    -------
    dict
        (draws, K) for each of `METRICS`; a group without a class that has rows is left out.

    Raises
    ------
    HeadInputError
        No rows, no draws, lengths that differ, or a label outside 0..C-1.
    """
    hits, labels = np.asarray(right, dtype=np.float64), whole_labels(y_idx, len(np.asarray(groups)))
    if hits.ndim != 2 or labels.shape != (len(hits),) or not hits.size or draws < 1:
        message = (
            f"resampling needs right (n, K), y_idx (n,) and a number of draws from 1; got "
            f"{hits.shape}, {labels.shape} and {draws}"
        )
        raise HeadInputError(message)
    strata = drawn_within(labels, np.asarray(groups))
    order = np.argsort(strata, kind="stable")
    hits, labels, strata = hits[order], labels[order], strata[order]
    weights = _metric_weights(labels, strata, np.asarray(groups))
    values = {name: np.empty((draws, hits.shape[1])) for name in weights}
    for block, times in _drawn(strata, draws, seed):
        for name, weight in weights.items():
            values[name][block] = (times * weight) @ hits
    # Rounded, so that equal accuracies are equal numbers however they were summed.
    return {name: value.round(12) for name, value in values.items()}


def interval(
    drawn: Floats,
    level: float = 0.95,
    *,
    value: float | None = None,
    unseen: Unseen | None = None,
) -> list[float]:
    """Return the interval of an accuracy from its resampled values, by their percentiles.

    Parameters
    ----------
    drawn : array of shape (draws,)
        The resampled accuracies, in [0, 1].
    level : float, default 0.95
        The share of the draws that lies within the interval.
    value : float, optional
        The accuracy as measured.
    unseen : Unseen, optional
        What draws cannot show of the accuracy; see `heads.metrics.unseen`. With this and the value,
        each end lies as far from the value as draws and this together put it, within 0 and 1.

    Returns
    -------
    list of two floats
        The lower and the upper end.
    """
    ends = _percentiles(drawn, level)
    if value is None or unseen is None:
        return ends
    low, high = _widened(ends, value, unseen)
    return [max(low, 0.0), min(high, 1.0)]


def difference(
    value: float,
    one: Floats,
    other: Floats,
    *,
    paired: bool = True,
    unseen: Unseen | None = None,
) -> tuple[list[float], float]:
    """Return the 95 % interval of a difference, and the p-value of there being none.

    Parameters
    ----------
    value : float
        The difference as measured, of `one` minus `other`.
    one, other : arrays of shape (draws,)
        Resampled accuracies. Paired, draw i of both is of the same rows. Otherwise each is of
        its own rows: draws are matched shifted by one, and so are independent.
    unseen : Unseen, optional
        What draws cannot show of the difference; see `heads.metrics.unseen`.

    Returns
    -------
    list of float, float
        Percentile interval, widened by what is unseen; two-sided p of value / standard deviation
        of the drawn differences under the normal distribution (Efron and Tibshirani, "An
        Introduction to the Bootstrap", 1993, chapter 12), which unlike a count of draws resolves
        the small p-values that a correction for many comparisons needs. What is unseen on the
        side of no difference is added to the standard deviation in squares. Where nothing varies
        and nothing is known to be unseen nothing can be said, and p is 1.
    """
    drawn = one - (other if paired else np.roll(other, 1))
    spread = float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
    ends = _percentiles(drawn, 0.95)
    if unseen is not None:
        low, high = _widened(ends, value, unseen)
        ends = [max(low, -1.0), min(high, 1.0)]
        spread = math.hypot(spread, (unseen.below if value > 0 else unseen.above) / _NORMAL_END)
    p = math.erfc(abs(value) / spread / math.sqrt(2)) if spread > _NOISE else 1.0
    return ends, p


def _percentiles(drawn: Floats, level: float) -> list[float]:
    tail = 100 * (1 - level) / 2
    return [float(end) for end in np.percentile(drawn, [tail, 100 - tail])]


def _widened(ends: list[float], value: float, unseen: Unseen) -> tuple[float, float]:
    """Return ends as far from the value as what is drawn and what is unseen together put them."""
    if unseen.whole:
        return value - unseen.below, value + unseen.above
    seen = max(value - ends[0], 0.0), max(ends[1] - value, 0.0)
    # Where nothing is unseen the ends stay as they are, to the last bit.
    low = ends[0] if unseen.below == 0 else value - math.hypot(seen[0], unseen.below)
    high = ends[1] if unseen.above == 0 else value + math.hypot(seen[1], unseen.above)
    return low, high


def drawn_within(labels: NDArray[np.int64], groups: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return what each row is drawn within, (n,): its class; its group where it is alone in it."""
    alone = np.bincount(labels, minlength=len(groups))[labels] == 1
    return np.where(alone, len(groups) + groups[labels].astype(np.int64), labels)


def weights_of_classes(labels: NDArray[np.int64], groups: NDArray[np.int8]) -> dict[str, Floats]:
    """Return what a right row of each class adds to each metric, (C,), by metric."""
    total = np.bincount(labels, minlength=len(groups))
    known = total > 0
    members = {"all": known, **{name: known & (groups == g) for g, name in enumerate(METRICS[1:4])}}
    by_class = {
        name: chosen / np.maximum(total, 1) / chosen.sum()
        for name, chosen in members.items()
        if chosen.any()
    }
    by_class["micro"] = np.full(len(groups), 1 / len(labels))
    return by_class


def _metric_weights(
    labels: NDArray[np.int64], strata: NDArray[np.int64], groups: NDArray[np.int8]
) -> Mapping[str, Floats]:
    """Return what one drawn row adds to each metric if it is right, (n,), by metric."""
    size = np.bincount(strata)[strata]
    scale = size / np.maximum(size - 1, 1)  # fewer rows are drawn than there are
    by_class = weights_of_classes(labels, groups)
    return {name: weight[labels] * scale for name, weight in by_class.items()}


def _drawn(strata: NDArray[np.int64], draws: int, seed: int) -> Iterator[tuple[slice, Floats]]:
    """Yield blocks of draws: how often each row, sorted by stratum, was drawn, (k, n)."""
    rng = np.random.default_rng(seed)
    total = np.bincount(strata)
    total = total[total > 0]
    picks = np.maximum(total - 1, 1)
    first = np.repeat(np.cumsum(total) - total, picks)
    size = np.repeat(total, picks)
    n, step = len(strata), max(1, _BLOCK_ROWS // len(strata))
    for start in range(0, draws, step):
        k = min(step, draws - start)
        rows = first + (rng.random((k, len(size))) * size).astype(np.int64)
        flat = (rows + n * np.arange(k)[:, None]).ravel()
        times = np.bincount(flat, minlength=k * n).reshape(k, n)
        yield slice(start, start + k), times.astype(np.float64)
