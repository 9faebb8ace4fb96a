"""Exact accuracy as a function of tau, from one matrix product.

On which interval of tau each row is right follows from its logits (`heads.curves._intervals`);
sorted, the ends of the intervals are every place where an accuracy changes. Nothing of size n x C
is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heads._arrays import (
    as_tensor,
    compute_dtype,
    full_precision,
    row_blocks,
)
from heads._checks import refuse_overflow
from heads._stage1 import cast_stage1, check_stage1
from heads.curves._intervals import bounded_intervals, pairwise_intervals
from heads.curves._rows import checked_rows
from heads.curves.families import MOST_TAU, AdjustLines, Lines, TauLines, log_prior, tau_scale
from heads.errors import HeadInputError
from heads.metrics import GROUPS, ShotGroups, group_means

__all__ = ["StepCurve", "exact_adjust_curve", "exact_tau_curve"]

Floats = NDArray[np.float64]

# Numbers in one piece of element-wise work: enough that the calls cost little beside it, and as
# many as bound the memory that it takes (32 MB).
_PIECE = 1 << 22
# Parameters at which curves are sampled, and so at which near ties are resolved in float64.
SAMPLE_STEP = 0.05


@dataclass(frozen=True)
class StepCurve:
    """Accuracy as a step function of a parameter on [low, high].

    Attributes
    ----------
    first, last : ndarrays of shape (n,), float64
        Each row is right on the closed interval [first, last]; inf and -inf where nowhere.
    y_idx : ndarray of shape (n,), int64
    groups : ShotGroups
        Training rows of each class (C,), and the thresholds of the shot groups.
    low, high : float
    """

    first: Floats
    last: Floats
    y_idx: NDArray[np.int64]
    groups: ShotGroups
    low: float
    high: float

    def at(self, value: float) -> dict[str, float | None]:
        """Return `all`, `many`, `medium`, `few` and `micro` at a parameter inside the range."""
        right = self._right(value)
        shares = self._shares(right)
        micro = float(right.sum() / len(right))
        return {**group_means(shares, self.groups.of_class), "micro": micro}

    def per_class(self, value: float) -> Floats:
        """Return the accuracy of each class (C,) at a parameter; NaN for a class without rows."""
        return self._shares(self._right(value))

    @cached_property
    def breakpoints(self) -> Floats:
        """Every parameter inside the range at which some row turns right or wrong, increasing."""
        ends = np.concatenate([self.first, self.last])
        return np.unique(ends[(ends > self.low) & (ends < self.high)])

    def steps(self, metric: str = "all") -> tuple[Floats, Floats]:
        """Return edges (m + 1,) and values (m,): values[i] holds between edges[i] and edges[i+1].

        `metric` is "all", a shot group, "micro", or "class 7" for one class.
        """
        return self._steps(self._weights(metric))

    def maximum(self, metric: str = "all") -> tuple[float, float, float]:
        """Return the widest interval [low, high] on which a metric is greatest, and its value."""
        edges, values = self.steps(metric)
        return widest_top(edges, values)

    def standard_error(self, value: float) -> float:
        """Return the standard error of `all` at a parameter, rows within classes resampled."""
        share, total = self.per_class(value), self._total
        known = total > 0
        variance = share[known] * (1 - share[known]) / total[known]
        return float(np.sqrt(variance.sum()) / known.sum())

    @cached_property
    def _total(self) -> NDArray[np.int64]:
        return np.bincount(self.y_idx, minlength=len(self.groups))

    def _right(self, value: float) -> NDArray[np.bool_]:
        if not self.low <= value <= self.high:
            message = f"{value:g} is outside the curve's range {self.low:g} to {self.high:g}"
            raise HeadInputError(message)
        return (self.first <= value) & (value <= self.last)

    def _shares(self, right: NDArray[np.bool_]) -> Floats:
        hits = np.bincount(self.y_idx[right], minlength=len(self.groups))
        shares = np.full(len(hits), np.nan)
        np.divide(hits, self._total, out=shares, where=self._total > 0)
        return shares

    def _weights(self, metric: str) -> Floats:
        """Return what a right row adds to a metric, (n,)."""
        if metric == "micro":
            return np.full(len(self.y_idx), 1 / len(self.y_idx))
        chosen = self._total > 0
        if metric.startswith("class ") and metric.removeprefix("class ").isdecimal():
            chosen = chosen & (np.arange(len(chosen)) == int(metric.removeprefix("class ")))
        elif metric not in ("all", *GROUPS):
            known = ", ".join(("all", *GROUPS, "micro", "class NUMBER"))
            message = f"metric must be one of: {known}. Got {metric!r} instead."
            raise HeadInputError(message)
        elif metric != "all":
            chosen = chosen & (self.groups.of_class == GROUPS.index(metric))
        if not chosen.any():
            message = f"there is nothing to measure: no class of the split is in {metric!r}"
            raise HeadInputError(message)
        by_class = np.where(chosen, 1 / (np.maximum(self._total, 1) * chosen.sum()), 0)
        return by_class[self.y_idx]

    @cached_property
    def _order(self) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Return all edges, and each interval's first and last step among them."""
        edges = np.unique(np.concatenate([[self.low, self.high], self.breakpoints]))
        somewhere = self.first <= self.last
        opens = np.searchsorted(edges, self.first[somewhere])
        closes = np.searchsorted(edges, self.last[somewhere])
        return edges, opens, closes

    def _steps(self, weights: Floats) -> tuple[Floats, Floats]:
        edges, opens, closes = self._order
        weights = weights[self.first <= self.last]
        change = np.bincount(opens, weights, len(edges)) - np.bincount(closes, weights, len(edges))
        # Rounded, so that steps of equal height are equal numbers however they were summed.
        values: Floats = np.cumsum(change, dtype=np.float64)[:-1].round(12)
        return edges, values


def widest_top(edges: Floats, values: Floats) -> tuple[float, float, float]:
    """Return the ends and the value of the widest run of greatest values; of equals the first."""
    at_top = np.concatenate(([False], values >= values.max(), [False]))
    turns = np.flatnonzero(at_top[1:] != at_top[:-1])
    starts, ends = edges[turns[::2]], edges[turns[1::2]]
    widest = int(np.argmax(np.round(ends - starts, 12)))
    return float(starts[widest]), float(ends[widest]), float(values.max())


def exact_tau_curve(
    weight: Any,
    X: Any,
    y: Any,
    groups: ShotGroups | ArrayLike,
    *,
    low: float = 0.0,
    high: float = 2.0,
    points: Sequence[float] | None = None,
    classes: Any = None,
) -> StepCurve:
    """Return the accuracy of `TauNorm(tau)` (bias dropped) for every tau in [low, high].

    Parameters
    ----------
    weight : array of shape (C, D)
    X : array of shape (n, D)
    y : array of shape (n,)
        Whole numbers in [0, C), or labels among `classes`.
    groups : ShotGroups or array of shape (C,)
        Training rows of each class, and the thresholds of the shot groups; of an array, those of
        Kang et al. (ICLR 2020).
    low, high : float
    points : sequence of float, optional
        Parameters at which the curve equals the head's predictions even in near ties; by default
        every 0.05 of the range and its ends. Elsewhere an end of an interval that rounding blurs
        may be off by about 1e-5 / |log of the ratio of the two norms|.
    classes : array of shape (C,), optional
        The label of each row of `weight`, increasing, as a head's `classes_` are.

    Raises
    ------
    HeadInputError
        Shapes or labels that do not fit, or a norm too small for `high`.
    """
    shot = ShotGroups.of(groups)
    feats = as_tensor(X)
    W, b = check_stage1("exact_tau_curve", weight, None, feats.shape[1])
    W, _ = cast_stage1("exact_tau_curve", W, b, feats)
    tau_scale(W, high)
    y_idx = checked_rows("curve", feats, y, shot.counts, len(W), classes)
    return _curve(TauLines(W), feats, y_idx, shot, (low, high), points)


def exact_adjust_curve(
    weight: Any,
    bias: Any,
    X: Any,
    y: Any,
    groups: ShotGroups | ArrayLike,
    *,
    low: float = 0.0,
    high: float = 2.0,
    points: Sequence[float] | None = None,
    prior: Any = None,
    classes: Any = None,
) -> StepCurve:
    """Return the accuracy of `LogitAdjustment(tau)` for every tau in [low, high].

    Parameters
    ----------
    weight : array of shape (C, D)
    bias : array of shape (C,)
    X, y, groups, low, high, points, classes
        As in `exact_tau_curve`.
    prior : array of shape (C,), optional
        What a class is expected with, up to a factor; the training rows of each class by default.

    Raises
    ------
    HeadInputError
        As in `exact_tau_curve`; a prior that is not a number from 0 for each class.
    """
    shot = ShotGroups.of(groups)
    feats = as_tensor(X)
    W, b = check_stage1("exact_adjust_curve", weight, bias, feats.shape[1])
    W, b = cast_stage1("exact_adjust_curve", W, b, feats)
    given = as_tensor(shot.counts if prior is None else prior).to(feats.device)
    if given.shape != (len(W),) or not bool((given >= 0).all() & (given > 0).any()):
        message = f"the prior must hold a number, at least 0, for each of {len(W)} classes"
        raise HeadInputError(message)
    lines = AdjustLines(W, b, log_prior(given))
    y_idx = checked_rows("curve", feats, y, shot.counts, len(W), classes)
    return _curve(lines, feats, y_idx, shot, (low, high), points)


def _curve(
    lines: Lines,
    feats: Tensor,
    y_idx: NDArray[np.int64],
    groups: ShotGroups,
    ends: tuple[float, float],
    points: Sequence[float] | None,
) -> StepCurve:
    low, high = ends
    if not -MOST_TAU < low < high < MOST_TAU:
        message = f"a curve needs low < high; got {low:g} and {high:g}"
        raise HeadInputError(message)
    sampled = samples(low, high) if points is None else np.asarray(points, dtype=np.float64)
    grid = torch.from_numpy(np.unique(np.concatenate([[low, high], sampled])))
    with full_precision():
        first, last = _intervals(lines, feats, torch.from_numpy(y_idx), low, high, grid)
    return StepCurve(first.numpy(), last.numpy(), y_idx, groups, float(low), float(high))


def samples(low: float, high: float) -> Floats:
    """Return every multiple of 0.05 inside a range, and its ends."""
    inner = np.arange(np.ceil(low / SAMPLE_STEP - 1e-9), np.floor(high / SAMPLE_STEP + 1e-9) + 1)
    return np.unique(np.clip(np.round(np.concatenate([[low], inner * SAMPLE_STEP, [high]]), 10),
                             low, high))  # fmt: skip


def _intervals(
    lines: Lines, feats: Tensor, y_idx: Tensor, low: float, high: float, points: Tensor
) -> tuple[Tensor, Tensor]:
    """Return each row's interval, block by block of products."""
    found = torch.empty(2, len(feats), dtype=torch.float64)
    n_classes, dtype = len(lines.slopes), compute_dtype(feats)
    n_rows = len(feats) if feats.is_cuda else max(64, _PIECE // n_classes)
    like = feats.new_empty(0, dtype=dtype)
    scratch = like if feats.is_cuda else like.new_empty(2, n_rows, n_classes)
    for rows in row_blocks(len(feats), max(lines.weight.shape)):
        products = refuse_overflow(lines.products(feats[rows].to(dtype)))
        labels = y_idx[rows].to(feats.device)
        for start in range(0, len(products), n_rows):
            cut = slice(start, start + n_rows)
            out = found[:, rows][:, cut]
            _piece(lines, products[cut], labels[cut], low, high, points, scratch, out)
    return found[0], found[1]


def _piece(
    lines: Lines,
    products: Tensor,
    y_idx: Tensor,
    low: float,
    high: float,
    points: Tensor,
    scratch: Tensor,
    out: Tensor,
) -> None:
    """Write the intervals of a piece of rows into `out` (2, k); scratch is (2, >= k, C)."""
    own = products.gather(1, y_idx.unsqueeze(1)).squeeze(1)
    ahead = lines.sign(own) == 1
    out[0], out[1] = torch.inf, -torch.inf
    rows = ahead.nonzero().squeeze(1)
    if products.is_cuda:
        values, labels = lines.coarse_(products[rows]), y_idx[rows]
        first, last, close = _on_gpu(values, lines.slopes, labels, low, high, points)
    else:
        values = torch.index_select(products, 0, rows, out=scratch[0, : len(rows)])
        first, last, close = bounded_intervals(
            lines.coarse_(values), lines.slopes, y_idx[rows], low, high,
            lambda row, column: lines.exact(products[rows[row], column]), points, scratch[1],
        )  # fmt: skip
    home = rows.cpu()
    out[0, home], out[1, home] = first.cpu(), last.cpu()
    others = (~ahead).nonzero().squeeze(1)
    others = others[~lines.hopeless(products.index_select(0, others), own[others])]
    again = torch.cat([rows[close], others])
    if len(again):
        first, last = _carefully(lines, products[again], y_idx[again], low, high)
        home = again.cpu()
        out[0, home], out[1, home] = first.cpu(), last.cpu()


def _carefully(
    lines: Lines, products: Tensor, y_idx: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor]:
    values, sign = lines.fine(products.double(), y_idx)
    return pairwise_intervals(values, lines.slopes, sign, y_idx, low, high)


def _on_gpu(
    values: Tensor, slopes: Tensor, y_idx: Tensor, low: float, high: float, points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return intervals by one fused pass in float32, and the rows near one of the points."""
    dtype = values.dtype
    sign, fused = torch.ones(len(values), dtype=dtype, device=values.device), fused_intervals()
    ends = fused(values, slopes.to(dtype), sign, y_idx, low, high)
    first, last = (end.double() for end in ends)
    grid = points.to(values.device)
    blur = 1e-3 if dtype == torch.float32 else 1e-9
    close = torch.zeros_like(first, dtype=torch.bool)
    for end in (first, last):
        after = torch.searchsorted(grid, end).clamp(max=len(grid) - 1)
        near = torch.minimum(
            (grid[after] - end).abs(), (grid[(after - 1).clamp(min=0)] - end).abs()
        )
        close |= near <= blur
    return first, last, close


_compiled: list[Callable[..., tuple[Tensor, Tensor]]] = []


def fused_intervals() -> Callable[..., tuple[Tensor, Tensor]]:
    """Return `pairwise_intervals` compiled into one kernel; made once."""
    if not _compiled:
        _compiled.append(torch.compile(pairwise_intervals, dynamic=True))
    return _compiled[0]
