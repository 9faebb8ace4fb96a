"""Accuracy as a function of tau: one product for the whole curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heads._arrays import as_tensor, compute_dtype, full_precision, row_blocks
from heads._checks import refuse_overflow
from heads._params import check_number
from heads._stage1 import cast_stage1, check_stage1
from heads.curves._rows import checked_rows
from heads.curves.chosen import Chosen, Maximum
from heads.curves.families import MOST_TAU, TauLines, scaled_scores, tau_scale
from heads.errors import HeadInputError
from heads.metrics import ShotGroups, group_means

__all__ = ["choose", "tau_curve", "widest_maximum"]


def tau_curve(
    weight: Any,
    X: Any,
    y: Any,
    groups: ShotGroups | ArrayLike,
    *,
    taus: Sequence[float],
    bias: Any = None,
    classes: Any = None,
) -> list[dict[str, float | None]]:
    """Evaluate `TauNorm(tau)` at every tau.

    (w_c / ||w_c||^tau) . x = (w_c . x) ||w_c||^-tau, so X W^T is computed once, block by block,
    and only its columns are scaled. Predictions equal `TauNorm(tau).predict` to the last bit.

    Parameters
    ----------
    weight : array of shape (C, D)
    X : array of shape (n, D)
    y : array of shape (n,)
        Whole numbers in [0, C), or labels among `classes`.
    groups : ShotGroups or array of shape (C,)
        Training rows of each class, and the thresholds of the shot groups; of an array, those of
        Kang et al. (ICLR 2020).
    taus : sequence of float
    bias : array of shape (C,), optional
        Added unscaled, as `keep_bias` does; none means it is dropped.
    classes : array of shape (C,), optional
        The label of each row of `weight`, increasing, as a head's `classes_` are.

    Returns
    -------
    list of dict
        For each tau: `tau`, `all`, `many`, `medium`, `few`, as `heads.metrics.evaluate` has them.
    """
    for tau in taus:
        check_number("tau_curve", "taus", tau, low=0, high=MOST_TAU)
    feats = as_tensor(X)
    W, b = check_stage1("tau_curve", weight, bias, feats.shape[1])
    shot = ShotGroups.of(groups)
    y_idx = checked_rows("tau_curve", feats, y, shot.counts, len(W), classes)
    with full_precision():
        hits = _hits(feats, torch.from_numpy(y_idx), W, b, taus)
    total = np.bincount(y_idx, minlength=len(W))
    shares = np.full(hits.shape, np.nan)
    np.divide(hits, total, out=shares, where=total > 0)
    return [
        {"tau": float(tau), **group_means(row, shot.of_class)}
        for tau, row in zip(taus, shares, strict=True)
    ]


def _hits(
    feats: Tensor, y_idx: Tensor, W: Tensor, b: Tensor, taus: Sequence[float]
) -> NDArray[np.int64]:
    """Count right predictions by tau and class, (T, C)."""
    hits = np.zeros((len(taus), len(W)), dtype=np.int64)
    for rows, scores in _predictions(feats, W, b, taus):
        target = y_idx[rows].numpy()
        for index, predicted in enumerate(scores):
            right = target[predicted.cpu().numpy() == target]
            hits[index] += np.bincount(right, minlength=len(W))
    return hits


def _predictions(
    feats: Tensor, W: Tensor, b: Tensor, taus: Sequence[float]
) -> Iterator[tuple[slice, Iterator[Tensor]]]:
    """Yield blocks of rows with their predicted classes at each tau."""
    like = feats.new_empty(0, dtype=compute_dtype(feats))
    W, b = cast_stage1("tau_curve", W, b, feats)
    lines, plain = TauLines(W), not bool(b.any())
    scales = [tau_scale(W, tau) for tau in taus]
    for rows in row_blocks(len(feats), max(W.shape)):
        products = refuse_overflow(lines.products(feats[rows].to(like)))
        if plain:
            yield rows, (lines.winners(products, tau) for tau in taus)
        else:
            yield rows, (scaled_scores(products, scale, b).argmax(dim=1) for scale in scales)


def choose(curve: Sequence[dict[str, Any]], metric: str = "all") -> Chosen:
    """Choose the tau of a curve: the middle of the widest run of points with the best value.

    Parameters
    ----------
    curve : sequence of dict
        As `tau_curve` returns it, tau increasing.
    metric : {"all", "many", "medium", "few"}

    Returns
    -------
    Chosen
        By the rule "maximum"; the interval is from the lowest tau of the run to the highest.
    """
    if any(metric not in point for point in curve):
        message = f"metric must be one of: {', '.join(curve[0])}. Got {metric!r} instead."
        raise HeadInputError(message)
    if any(point[metric] is None for point in curve) or not curve:
        message = f"there is nothing to choose by: no class of the split is in {metric!r}"
        raise HeadInputError(message)
    taus = [float(point["tau"]) for point in curve]
    values = [float(point[metric]) for point in curve]
    first, middle, last = widest_maximum(taus, values)
    top = Maximum((taus[first], taus[last]), values[middle])
    return Chosen("maximum", taus[middle], values[middle], top)


def widest_maximum(positions: Sequence[float], values: Sequence[float]) -> tuple[int, int, int]:
    """Return the first, middle and last index of the widest run of maximal values.

    Width is measured in `positions`, which increase; of equally wide runs the first is taken,
    and the middle is the point nearest to the run's centre, of two the first.
    """
    where, height = np.asarray(positions), np.asarray(values)
    at_top = np.concatenate(([False], height == height.max(), [False]))
    edges = np.flatnonzero(at_top[1:] != at_top[:-1])
    starts, ends = edges[::2], edges[1::2] - 1
    widest = int(np.argmax(where[ends] - where[starts]))
    first, last = int(starts[widest]), int(ends[widest])
    centre = (where[first] + where[last]) / 2
    # Rounded, so that of 0.1, 0.2, 0.3, 0.4 the second is as near to 0.25 as the third.
    distance = np.round(np.abs(where[first : last + 1] - centre), 12)
    return first, first + int(np.argmin(distance)), last
