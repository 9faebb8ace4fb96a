"""Where on a line of parameters the true class of a row scores highest.

The score of class c at parameter t is a line, values_c - t slopes_c. That the true class y is
ahead of c is then a half-line of t, bounded where the two lines cross; over all c the half-lines
meet in one interval. Ties: scores that differ by at most `TIE` (relative to 1 + |value of y|) are
equal, and among equals the first class wins, as `argmax` has it.

`pairwise_intervals` is the definition, C crossings a row in float64. `bounded_intervals` does the
same on a CPU in the precision of the features, with every other class put ahead by as much as
rounding can: that bounds each interval from inside. The crossing with the class that closes it, in
float64, bounds it from outside; where a point that matters lies between, the row is too close to
call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TIE", "best_column", "bounded_intervals", "pairwise_intervals"]

# Far above the rounding of float64 scores, far below that of float32 features.
TIE = 1e-12

# Stands for zero in a quotient.
_NONE = 1e-30

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
    """Return each row's maximum and its first column, (k,) each, of scores (k, C) on a CPU."""
    # numpy's is vectorised: on one thread it is faster than torch's on two.
    column = torch.from_numpy(scores.numpy().argmax(axis=1))
    return scores.gather(1, column.unsqueeze(1)).squeeze(1), column


def bounded_intervals(
    values: Tensor,
    slopes: Tensor,
    y_idx: Tensor,
    low: float,
    high: float,
    exact: Exact,
    points: Tensor,
    scratch: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the intervals from bounds in low precision, and say which rows are too close to call.

    Parameters
    ----------
    values : Tensor of shape (k, C)
        Finite; overwritten. In float32 they only bound the intervals and find the class that
        closes each end; the crossing with it is computed from `exact`.
    slopes : Tensor of shape (C,), float64
    y_idx : Tensor of shape (k,), int64
    low, high : float
    exact : callable
        From rows (m,) and columns (m,) to the values there, float64.
    points : Tensor of shape (p,), float64, increasing
        Parameters at which the answer has to be that of `pairwise_intervals` in float64.
    scratch : Tensor of shape (at least k, C), optional
        Overwritten.

    Returns
    -------
    first, last : Tensors of shape (k,), float64
    close : Tensor of shape (k,), bool
        Rounding could change whether the row is right at one of `points`.
    """
    rows = torch.arange(len(values))
    own = _Own(exact(rows, y_idx), slopes[y_idx], y_idx)
    noise = _noise(own.values, slopes, low, high, values.dtype)
    lead = _lead(values, slopes, own, low, noise)
    turn = torch.empty_like(values) if scratch is None else scratch[: len(values)]
    reach, rival, rate, chaser = _closest(lead, slopes, own, turn)

    ahead, turning, where = _crossing(exact, slopes, own, rival, low)
    first = torch.where(ahead > 0, torch.where(turning > 0, where, torch.inf), low)
    _, turning, where = _crossing(exact, slopes, own, chaser, low)
    last = torch.where(turning < 0, where, high).clamp_(max=high)
    right = first <= last
    close = torch.zeros_like(right)
    # From the crossing with the class that was found to where rounding could hide another.
    some = (reach > 0).nonzero().squeeze(1)
    close[some] |= _holds_a_point(points, first[some], low + reach[some].double())
    some = (rate * (high - low) > 1).nonzero().squeeze(1)
    close[some] |= _holds_a_point(points, low + 1 / rate[some].double(), last[some])
    return (
        first.masked_fill(~right, torch.inf),
        last.masked_fill(~right, -torch.inf),
        close & right,
    )


class _Own(NamedTuple):
    """Of each row's true class: value (k,) and slope (k,), float64, and index (k,), int64."""

    values: Tensor
    slopes: Tensor
    y_idx: Tensor


def _noise(own: Tensor, slopes: Tensor, low: float, high: float, dtype: torch.dtype) -> Tensor:
    """Bound what rounding in `dtype`, in the product with the parameter, or a tie hides, (k,)."""
    size = 1 + own.abs() + max(abs(low), abs(high)) * float(slopes.abs().max())
    return max(32 * torch.finfo(dtype).eps, 8 * TIE) * size


def _lead(values: Tensor, slopes: Tensor, own: _Own, low: float, noise: Tensor) -> Tensor:
    """Make of `values` (k, C) how far, at most, each class is ahead of the true one at `low`."""
    lead = torch.add(values, slopes.to(values.dtype), alpha=-low, out=values) if low else values
    lead -= (own.values - low * own.slopes - noise).to(values.dtype).unsqueeze(1)
    return lead


def _closest(
    lead: Tensor, slopes: Tensor, own: _Own, turn: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the class that is ahead for longest, and the one that catches up first.

    Overwrites `lead` and `turn`, (k, C) each. Returns how far above the lowest parameter the first
    class falls behind, and its column; then the inverse of how far above it the second class gets
    ahead, and its column; (k,) each.
    """
    coarse, own_coarse = slopes.to(lead.dtype), own.slopes.to(lead.dtype).unsqueeze(1)
    # Who is ahead falls behind after lead / turn; who never does, beyond any range.
    torch.sub(coarse, own_coarse, out=turn).clamp_(min=_NONE)
    after = torch.div(lead, turn, out=turn).scatter_(1, own.y_idx.unsqueeze(1), -torch.inf)
    reach, rival = best_column(after)
    # Who is behind catches up at the rate turn / lead; who may be ahead, at once.
    torch.sub(coarse, own_coarse, out=turn)
    rate, chaser = best_column(turn.div_(lead.clamp_(max=-_NONE)))
    return reach, rival, rate, chaser


def _crossing(
    exact: Exact, slopes: Tensor, own: _Own, column: Tensor, low: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compare one class of each row, `column` (k,), with the true one, in float64.

    Returns how far it is ahead at `low`, how much faster than the true one it falls, and the
    parameter at which the two lines cross; (k,) each.
    """
    slack = TIE * (1 + own.values.abs())
    turn = slopes[column] - own.slopes
    ahead = exact(torch.arange(len(column)), column) - own.values - low * turn
    ahead += torch.where(column < own.y_idx, slack, -slack)
    return ahead, turn, low + ahead / turn


def _holds_a_point(points: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Tell which intervals from start (m,) to stop (m,), and a hair more, hold a point."""
    hair = 1e-12 * (1 + start.abs())
    before = torch.searchsorted(points, start - hair)
    return torch.searchsorted(points, stop + hair, right=True) > before
