"""Convex heads at their optimum, and along their weight-decay path.

One fit: whitened coordinates of all directions, entered from the solution on the
principal ones. A path: many weight decays on a reduced problem (at most so many rows a class, on
principal directions), each warm-started from a stronger one; the best on the validation split is
then solved on all rows. `docs/heads.md` has what was tried and measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heads._arrays import full_precision, one_thread_if_small, row_blocks
from heads._convex import Basis, Problem, principal_basis, row_weights, solve
from heads._lbfgs import Found
from heads._linear import linear_scores
from heads._stats import rows_by_class

__all__ = [
    "KEPT",
    "ROWS_PER_CLASS",
    "TOLERANCE",
    "WEIGHT_DECAYS",
    "Fitted",
    "Goal",
    "PathPoint",
    "few_rows",
    "optimum",
    "path",
]

# Largest entry of the gradient at the end, in the coordinates that are solved in.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
MOST = 500

# Strong to weak, about a factor 3 apart: the path is smooth, and a finer one gains nothing.
WEIGHT_DECAYS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
# Tried after those while val still rises.
WEAKER = (3e-5, 1e-5, 3e-6, 1e-6)
RANK = 256
ROWS_PER_CLASS = 20
# On the path a few evaluations a point are enough: accuracy settles long before the gradient.
PATH_EVALUATIONS, LAST_EVALUATIONS = 8, 8
# Multiplications of one evaluation below which nothing is reduced.
SMALL = 1 << 31
# Logits of an anchor kept in memory up to this many numbers; above, recomputed block by block.
KEPT = 1 << 28


@dataclass(frozen=True)
class Goal:
    """What is minimised, apart from the weight decay.

    shares: each class's part (C,) of the loss; None: the same for all that have rows.
    shift (C,): added to every row's scores in training.
    anchor: the W (C, D) and b (C,) that the penalty is measured from; None is zero.
    weights: those (n,) of the rows; None: all the same.
    """

    shares: Tensor | None = None
    shift: Tensor | None = None
    anchor: tuple[Tensor, Tensor] | None = None
    weights: Tensor | None = None

    def row_weights(self, y_idx: Tensor, n_classes: int) -> Tensor:
        """Return each row's part (n,) of the loss."""
        return row_weights(y_idx, n_classes, self.shares, self.weights)

    def on(self, rows: Tensor) -> Goal:
        """Return the same for some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, weights=weights)


@dataclass(frozen=True)
class Fitted:
    """A solution: W (C, D), b (C,), largest entry of the gradient, and evaluations spent."""

    W: Tensor
    b: Tensor
    gradient: float
    evaluations: int
    value: float


@dataclass(frozen=True)
class PathPoint:
    """A weight decay on the reduced problem: validation score, and the point reached."""

    weight_decay: float
    score: float
    point: Tensor


def optimum(
    feats: Tensor, y_idx: Tensor, n_classes: int, goal: Goal, weight_decay: float
) -> Fitted:
    """Solve at one weight decay on all rows and all directions."""
    width = feats.shape[1]
    small = len(feats) * width * n_classes <= SMALL
    basis = _basis(feats, y_idx, n_classes, goal, width)
    start = feats.new_zeros(n_classes, basis.into.shape[1], dtype=torch.float64)
    spent = 0
    if not small and width > 2 * RANK:
        coarse = _basis(feats, y_idx, n_classes, goal, RANK)
        problem = _problem(feats, y_idx, n_classes, goal, coarse)
        found = solve(
            problem, start[:, : coarse.into.shape[1]], weight_decay, most=30, tolerance=1e-4
        )
        start = basis.point(*coarse.linear(found.point.to(feats.dtype))).double()
        spent = found.evaluations
    with full_precision(), one_thread_if_small(feats.numel() * n_classes, SMALL // 4):
        problem = _problem(feats, y_idx, n_classes, goal, basis)
        tolerance = TOLERANCE[feats.dtype]
        found = solve(problem, start, weight_decay, most=MOST, tolerance=tolerance)
    return _fitted(basis, goal, found.point, found.gradient, spent + found.evaluations, found.value)


def path(
    feats: Tensor,
    y_idx: Tensor,
    n_classes: int,
    goal: Goal,
    held_out: Tensor,
    score: Callable[[Tensor], float],
    weight_decays: tuple[float, ...] | None = None,
) -> tuple[Fitted, float, list[PathPoint]]:
    """Follow the path on a reduced problem, choose by `score`, solve there on all rows.

    Parameters
    ----------
    feats, y_idx : Tensors of shape (n, D) and (n,)
    n_classes : int
    goal : Goal
    held_out : Tensor of shape (m, D)
        Validation rows.
    score : callable
        From the classes (m,) predicted for them to a score, the larger the better; of equals the
        strongest penalty wins.
    weight_decays : tuple of float, decreasing, optional
        All of them are tried; of the default ones only as many as it takes to see the score fall,
        and below 1e-4 only while it rises.

    Returns
    -------
    Fitted, float, list of PathPoint
        The solution, its weight decay, and the points tried.
    """
    width = feats.shape[1]
    small = len(feats) * width * n_classes <= SMALL
    some, labels = feats, y_idx
    if not small:
        rows = few_rows(y_idx, n_classes, ROWS_PER_CLASS)
        some, labels = feats[rows], y_idx[rows]
    fewer = goal if small else goal.on(rows)
    basis = _basis(some, labels, n_classes, fewer, width if small else min(width, RANK))
    n_products = some.shape[0] * basis.into.shape[1] * n_classes
    with full_precision(), one_thread_if_small(n_products, SMALL // 4):
        problem = _problem(some, labels, n_classes, fewer, basis)
        judge = _judge(held_out.to(feats), goal, basis, score)
        points = _follow(problem, judge, weight_decays)
        chosen = max(points, key=lambda reached: reached.score)
        if small:
            found = _solve_on(problem, chosen, feats.dtype, MOST)
        else:
            problem = _problem(feats, y_idx, n_classes, goal, basis)
            found = _polish(problem, chosen, judge, points)
    fitted = _fitted(basis, goal, found.point, found.gradient, found.evaluations, found.value)
    return fitted, chosen.weight_decay, points


def _follow(
    problem: Problem,
    judge: Callable[[Tensor], float],
    weight_decays: tuple[float, ...] | None,
) -> list[PathPoint]:
    """Solve from strong to weak, each from the one before, a few evaluations each."""
    n_classes, rank = problem.n_classes, problem.Z.shape[1]
    point = problem.Z.new_zeros(n_classes, rank, dtype=torch.float64)
    points: list[PathPoint] = []
    for weight_decay in weight_decays or (*WEIGHT_DECAYS, *WEAKER):
        if weight_decays is None and _is_past(points, weight_decay):
            break
        found = solve(problem, point, weight_decay, most=PATH_EVALUATIONS, tolerance=1e-6)
        point = found.point
        points.append(PathPoint(weight_decay, judge(point), point))
    return points


def _is_past(points: list[PathPoint], weight_decay: float) -> bool:
    """Tell whether the best is behind: two falls in a row, or below 1e-4 no new best."""
    scores = [point.score for point in points]
    fell = len(scores) > 2 and scores[-1] < scores[-2] < scores[-3]
    return fell or (weight_decay in WEAKER and scores[-1] <= max(scores[:-1]))


def _judge(
    held_out: Tensor, goal: Goal, basis: Basis, score: Callable[[Tensor], float]
) -> Callable[[Tensor], float]:
    """Return the function from a point (C, r) to the score of its predictions.

    In coordinates, so that a point costs a product of r columns instead of D.
    """
    Z = basis.coordinates(held_out)
    base = _base(held_out, replace(goal, shift=None))

    def judge(point: Tensor) -> float:
        near, best = point.to(Z.dtype), []
        for rows in row_blocks(len(Z), max(near.shape)):
            scores = Z[rows] @ near.T
            best.append((scores if base is None else scores + base(rows)).argmax(dim=1))
        return score(torch.cat(best))

    return judge


def _solve_on(problem: Problem, start: PathPoint, dtype: torch.dtype, most: int) -> Found:
    return solve(problem, start.point, start.weight_decay, most=most, tolerance=TOLERANCE[dtype])


def _polish(
    problem: Problem,
    chosen: PathPoint,
    judge: Callable[[Tensor], float],
    points: list[PathPoint],
) -> Found:
    """Go on from the chosen point on all rows; keep what is best on the validation split."""
    found = _solve_on(problem, chosen, problem.Z.dtype, LAST_EVALUATIONS)
    points.append(PathPoint(chosen.weight_decay, judge(found.point), found.point))
    if points[-1].score >= chosen.score:
        return found
    # A few evaluations on all rows can end below where few rows, all classes alike, led.
    value, slope = problem.value_and_gradient(chosen.point, chosen.weight_decay)
    return Found(chosen.point, value, slope, found.evaluations + 1)


def few_rows(y_idx: Tensor, n_classes: int, most: int) -> Tensor:
    """Return the first `most` rows of each class, in storage order."""
    order = rows_by_class(y_idx, n_classes)
    counts = torch.bincount(y_idx, minlength=n_classes)
    begin = (counts.cumsum(0) - counts)[y_idx[order]]
    place = torch.arange(len(order), device=order.device) - begin
    return order[place < most].sort().values


def _basis(feats: Tensor, y_idx: Tensor, n_classes: int, goal: Goal, rank: int) -> Basis:
    return principal_basis(feats, goal.row_weights(y_idx, n_classes), rank)


def _problem(feats: Tensor, y_idx: Tensor, n_classes: int, goal: Goal, basis: Basis) -> Problem:
    weights = goal.row_weights(y_idx, n_classes)
    base = _base(feats, goal)
    return Problem(basis.coordinates(feats), y_idx, n_classes, weights, basis.stretch, base)


def _base(feats: Tensor, goal: Goal) -> Callable[[slice], Tensor] | None:
    shift = goal.shift
    if goal.anchor is None:
        return None if shift is None else lambda rows: shift
    W, b = goal.anchor
    b = b if shift is None else b + shift
    if len(feats) * len(W) > KEPT:
        return lambda rows: linear_scores(feats[rows], W, b)
    return linear_scores(feats, W, b).__getitem__


def _linear(basis: Basis, goal: Goal, point: Tensor) -> tuple[Tensor, Tensor]:
    W, b = basis.linear(point.to(basis.into.dtype))
    return (W, b) if goal.anchor is None else (W + goal.anchor[0], b + goal.anchor[1])


def _fitted(
    basis: Basis, goal: Goal, point: Tensor, gradient: Tensor, evaluations: int, value: float
) -> Fitted:
    W, b = _linear(basis, goal, point)
    steepest = float(gradient.abs().max())
    return Fitted(W.contiguous(), b.contiguous(), steepest, evaluations, value)
