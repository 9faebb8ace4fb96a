"""Where on a line of parameters the true class of a row scores highest.

The score of class c at parameter t is a line, values_c - t slopes_c. That the true class y is
ahead of c is then a half-line of t, bounded where the two lines cross; over all c the half-lines
meet in one interval. Ties: scores that differ by at most `TIE` (relative to 1 + |value of y|) are
equal, and among equals the first class wins, as `argmax` has it.

`pairwise_intervals` is the definition, C crossings a row. `walk_intervals` finds the same on a CPU
from a few of them: at an end of the range it looks for the class furthest ahead of y, goes on to
where y overtakes that class, and looks again (Newton's method on a concave, piecewise linear
function, which ends after as many steps as classes lead one after another).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["TIE", "best_column", "pairwise_intervals", "walk_intervals"]

# Far above the rounding of float64 scores, far below that of float32 features.
TIE = 1e-12

# Columns side by side in the first stage of `best_column`; a maximum with its place, as torch
# takes it, is four times slower than two stages.
_LANES = 32

Exact = Callable[[Tensor, Tensor], Tensor]


def pairwise_intervals(
    values: Tensor, slopes: Tensor, sign: Tensor, y_idx: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Intersect the half-lines of all classes.

    Parameters
    ----------
    values : Tensor of shape (k, C)
        May hold -inf (never ahead of any other) and, but for the true class, +inf.
    slopes : Tensor of shape (C,)
    sign : Tensor of shape (k,)
        Factor of the slopes in each row: 1, 0 or -1.
    y_idx : Tensor of shape (k,), int64
    low, high : float
        The range.

    Returns
    -------
    first, last : Tensors of shape (k,)
        The closed interval; inf and -inf where it is empty.
    """
    own = values.gather(1, y_idx.unsqueeze(1))
    earlier = torch.arange(len(slopes), device=values.device) < y_idx.unsqueeze(1)
    slack = TIE * (1 + own.abs())
    gap = values - own + torch.where(earlier, slack, -slack)
    turn = sign.unsqueeze(1) * (slopes - slopes[y_idx].unsqueeze(1))
    crossing = gap / turn
    first = torch.where(turn > 0, crossing, -torch.inf).amax(dim=1).clamp(min=low)
    last = torch.where(turn < 0, crossing, torch.inf).amin(dim=1).clamp(max=high)
    empty = ((turn == 0) & (gap > 0)).any(dim=1) | (first > last)
    return first.masked_fill(empty, torch.inf), last.masked_fill(empty, -torch.inf)


def best_column(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's maximum and a column that has it, (k,) each, of scores (k, C)."""
    n_groups = scores.shape[1] // _LANES
    if n_groups < 2:
        best, column = scores.max(dim=1)
        return best, column
    grouped = scores[:, : n_groups * _LANES].view(len(scores), n_groups, _LANES)
    best, lane = grouped.amax(dim=1).max(dim=1)
    rows = torch.arange(len(scores), device=scores.device)
    column = grouped[rows, :, lane].argmax(dim=1) * _LANES + lane
    if n_groups * _LANES < scores.shape[1]:
        other, place = scores[:, n_groups * _LANES :].max(dim=1)
        column = torch.where(other > best, place + n_groups * _LANES, column)
        best = torch.maximum(best, other)
    return best, column


def walk_intervals(
    values: Tensor,
    slopes: Tensor,
    y_idx: Tensor,
    low: float,
    high: float,
    exact: Exact,
    points: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the intervals step by step, and say which rows are too close to call.

    Parameters
    ----------
    values : Tensor of shape (k, C)
        Overwritten in the column of the true class. In float32 they only find rivals; crossings
        are computed from `exact`.
    slopes : Tensor of shape (C,), float64
    y_idx : Tensor of shape (k,), int64
    low, high : float
    exact : callable
        From rows (m,) and columns (m,) to the values there, float64.
    points : Tensor of shape (p,), float64, increasing
        Parameters at which the answer has to be that of `pairwise_intervals` in float64.

    Returns
    -------
    first, last : Tensors of shape (k,), float64
    close : Tensor of shape (k,), bool
        A rival that rounding hides could change whether the row is right at one of `points`, or
        ties with the true class everywhere.
    """
    rows = torch.arange(len(values))
    own = exact(rows, y_idx)
    values[rows, y_idx] = -torch.inf
    # What rounding in `values`, in the product with the parameter, or a tie can hide.
    size = 1 + own.abs() + max(abs(low), abs(high)) * float(slopes.abs().max())
    noise = max(32 * torch.finfo(values.dtype).eps, 8 * TIE) * size
    climb = _Climb(values, slopes, y_idx, own, exact, noise)
    first, blur_first = climb.up(rows, low, high, 1)
    some = torch.isfinite(first).nonzero().squeeze(1)
    last, blur_last = torch.full_like(first, -torch.inf), torch.zeros_like(first)
    up, blur = climb.up(some, -high, -low, -1)
    last[some], blur_last[some] = -up, blur
    empty = first > last
    first[empty], last[empty] = torch.inf, -torch.inf
    close = _touches(first, blur_first, points) | _touches(last, blur_last, points)
    some = (~empty).nonzero().squeeze(1)
    ahead, _ = climb.rival(some, (first[some] + last[some]) / 2, 1)
    close[some] |= ahead >= -noise[some]
    return first, last, close


def _touches(ends: Tensor, blur: Tensor, points: Tensor) -> Tensor:
    """Tell which ends lie within their blur of one of the points."""
    if not len(points):
        return torch.zeros_like(ends, dtype=torch.bool)
    after = torch.searchsorted(points, ends).clamp(max=len(points) - 1)
    near = torch.minimum(
        (points[after] - ends).abs(), (points[(after - 1).clamp(min=0)] - ends).abs()
    )
    return torch.isfinite(ends) & (near <= blur)


class _Climb:
    """Steps from one end of the range to the first parameter at which the true class leads."""

    def __init__(
        self,
        values: Tensor,
        slopes: Tensor,
        y_idx: Tensor,
        own: Tensor,
        exact: Exact,
        noise: Tensor,
    ) -> None:
        self.values, self.slopes, self.y_idx = values, slopes, y_idx
        self.own, self.exact, self.noise = own, exact, noise
        self.coarse = slopes.to(values.dtype)

    def rival(self, rows: Tensor, at: Tensor, sign: int) -> tuple[Tensor, Tensor]:
        """Return how far the best other class is ahead at parameters (m,), and that class."""
        whole = len(rows) == len(self.values)
        values = self.values if whole else self.values[rows]
        move = (-sign * at).to(values.dtype).unsqueeze(1)
        _, column = best_column(torch.addcmul(values, move, self.coarse))
        gap = self.exact(rows, column) - self.own[rows]
        turn = sign * (self.slopes[column] - self.slopes[self.y_idx[rows]])
        return gap - at * turn, column

    def up(self, rows: Tensor, start: float, stop: float, sign: int) -> tuple[Tensor, Tensor]:
        """Return the first parameter >= start with y ahead (inf: none), and its uncertainty."""
        at = torch.full((len(rows),), start, dtype=torch.float64)
        blur = torch.full((len(rows),), -1.0, dtype=torch.float64)  # an end of the range: none
        places = torch.arange(len(rows))
        turned = torch.zeros(len(rows), dtype=torch.float64)
        passed = torch.full((len(rows),), -1)
        while len(places):
            here = rows[places]
            ahead, column = self.rival(here, at[places], sign)
            slack = TIE * (1 + self.own[here].abs())
            ahead += torch.where(column < self.y_idx[here], slack, -slack)
            turn = sign * (self.slopes[column] - self.slopes[self.y_idx[here]])
            # At a start that nothing moved, a near tie matters whatever the angle.
            still = (turned[places] == 0) & (ahead.abs() <= self.noise[here])
            blur[places[still]] = torch.inf
            # A rival that was overtaken here can seem ahead again by rounding alone.
            behind = ((ahead > 0) & (column != passed[places])).nonzero().squeeze(1)
            places, ahead, turn = places[behind], ahead[behind], turn[behind]
            passed[places] = column[behind]
            there = torch.where(turn > 0, at[places] + ahead / turn, torch.inf)
            at[places] = torch.where(there > stop, torch.inf, there)
            turned[places] = turn
            places = places[there <= stop]
        moved = turned > 0
        blur[moved] = self.noise[rows[moved]] / turned[moved]
        return at, blur
