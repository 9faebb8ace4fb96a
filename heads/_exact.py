"""Convex heads at their optimum, and along their weight-decay path.

One fit: whitened coordinates of all directions, entered from the solution on the
principal ones. A path: many weight decays on a reduced problem (at most so many rows a class, on
principal directions), each warm-started from a stronger one; the best on the validation split is
then solved on all rows. `docs/heads.md` has what was tried and measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from heads._arrays import full_precision, one_thread_if_small, row_blocks
from heads._convex import Basis, Curvature, Problem, principal_basis, row_weights, solve
from heads._lbfgs import Found
from heads._linear import linear_scores
from heads._newton import Operator, newton
from heads._softmax import Objective, Verdict, judge, warn_if_unfinished
from heads._stats import rows_by_class
from heads._weighting import class_counts, class_shares

__all__ = [
    "KEPT",
    "ROWS_PER_CLASS",
    "TOLERANCE",
    "WEIGHT_DECAYS",
    "Fitted",
    "Goal",
    "PathPoint",
    "few_rows",
    "fit_softmax",
    "optimum",
    "path",
]

# How far above the optimum a solution may lie, relative to its objective: see `docs/heads.md`.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-9}
# What is aimed at: one more step of Newton's goes far beyond the tolerance, and then the solution
# itself, not its value alone, is known to seven digits and more.
AIM = {torch.float32: 1e-7, torch.float64: 1e-18}
# The same where all rows are solved in principal directions only, and for the points of a path.
REDUCED, ON_PATH = 1e-2, 1e-2
# Evaluations of L-BFGS where Newton's method takes over, and where it must do alone.
FEW, MOST = 30, 500
# Evaluations and products with the Hessian of Newton's method in all.
LONGEST = 10_000
# Multiplications of one evaluation up to which it is done in float64.
FINE = 1 << 28

# Strong to weak, about a factor 3 apart: the path is smooth, and a finer one gains nothing.
WEIGHT_DECAYS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
# Tried after those while val still rises.
WEAKER = (3e-5, 1e-5, 3e-6, 1e-6)
RANK = 256
ROWS_PER_CLASS = 20
# On the path a few evaluations a point are enough: accuracy settles long before the gradient.
PATH_EVALUATIONS = 8
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
    """A solution: W (C, D), b (C,), evaluations spent, and how near the optimum it is."""

    W: Tensor
    b: Tensor
    evaluations: int
    verdict: Verdict


@dataclass(frozen=True)
class PathPoint:
    """A weight decay on the reduced problem: validation score, and the point reached."""

    weight_decay: float
    score: float
    point: Tensor


def optimum(
    feats: Tensor, y_idx: Tensor, n_classes: int, goal: Goal, weight_decay: float
) -> Fitted:
    """Solve at one weight decay on all rows and all directions.

    Warns
    -----
    ConvergenceWarning
        Where the solution may lie further above the optimum than `TOLERANCE`.
    """
    width = feats.shape[1]
    small = len(feats) * width * n_classes <= SMALL
    with full_precision(), one_thread_if_small(feats.numel() * n_classes, SMALL // 4):
        basis = _basis(feats, y_idx, n_classes, goal, width)
        problem = _problem(feats, y_idx, n_classes, goal, basis)
        start = basis.into.new_zeros(n_classes, basis.into.shape[1])
        spent = 0
        if not small and width > 2 * RANK:
            coarse = _basis(feats, y_idx, n_classes, goal, RANK)
            reduced = _problem(feats, y_idx, n_classes, goal, coarse)
            rough = start[:, : coarse.into.shape[1]]
            found = solve(reduced, rough, weight_decay, most=30, tolerance=REDUCED)
            start, spent = basis.point(*coarse.linear(found.point)), found.evaluations
        objective = _objective(feats, y_idx, n_classes, goal, weight_decay)
        return _finished(problem, basis, objective, start, spent)


def fit_softmax(
    feats: Tensor,
    y_idx: Tensor,
    n_classes: int,
    weight_decay: float,
    weights: Tensor | None = None,
) -> Fitted:
    """Minimise the mean cross-entropy over all rows as they come plus the penalty."""
    shares = class_shares(class_counts(y_idx, n_classes, weights), 1.0)
    return optimum(feats, y_idx, n_classes, Goal(shares, weights=weights), weight_decay)


def _objective(
    feats: Tensor, y_idx: Tensor, n_classes: int, goal: Goal, weight_decay: float
) -> Objective:
    weights = goal.row_weights(y_idx, n_classes)
    return Objective(feats, y_idx, weights, weight_decay, goal.shift, goal.anchor)


def _finished(
    problem: Problem, basis: Basis, objective: Objective, start: Tensor, spent: int
) -> Fitted:
    """Solve from a start (C, r), and judge what is handed out in the dtype of the features."""
    dtype, decay = objective.feats.dtype, objective.weight_decay
    tolerance, aim = TOLERANCE[dtype], AIM[dtype]
    most, good = (FEW, aim) if problem.is_small else (MOST, tolerance / 2)
    found = solve(problem, start, decay, most=most, tolerance=good)
    W, b = _linear(basis, objective.anchor, found.point, dtype)
    verdict, spent = judge(objective, (W, b)), spent + found.evaluations
    if not verdict.gap <= 2 * good:
        point = found.point - found.point.mean(dim=0)  # as the optimum's is: see `Curvature`
        refined, excess = _refined(problem, basis, objective, point, aim)
        W, b = _linear(basis, objective.anchor, refined.point, dtype)
        verdict = judge(objective, (W, b), refined.value - excess)
        spent += refined.evaluations
    warn_if_unfinished(verdict, tolerance, decay, spent)
    return Fitted(W, b, spent, verdict)


def _refined(
    problem: Problem, basis: Basis, objective: Objective, start: Tensor, aim: float
) -> tuple[Found, float]:
    """Go on by Newton's method, with values and gradients in float64 from the features."""
    decay = objective.weight_decay

    def fine(point: Tensor) -> tuple[float, Tensor]:
        value, slopes = objective(*_linear(basis, objective.anchor, point, torch.float64))
        return value, basis.slope(*slopes)

    def curvature_at(point: Tensor) -> tuple[Operator, Operator]:
        bend = Curvature(problem, point, decay)
        return bend.times, bend.undone

    excess = partial(problem.excess, weight_decay=decay)
    most = LONGEST if problem.is_small and decay > 0 else MOST
    return newton(fine, curvature_at, excess, start, aim=aim, most=most)


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
        scored = _scored(held_out.to(feats), goal, basis, score)
        points = _follow(problem, scored, weight_decays)
        chosen = max(points, key=lambda reached: reached.score)
        if small:
            objective = _objective(feats, y_idx, n_classes, goal, chosen.weight_decay)
            fitted = _finished(problem, basis, objective, chosen.point, 0)
        else:
            problem = _problem(feats, y_idx, n_classes, goal, basis)
            fitted, point = _reduced(problem, basis, goal, chosen)
            points.append(PathPoint(chosen.weight_decay, scored(point), point))
    return fitted, chosen.weight_decay, points


def _follow(
    problem: Problem,
    scored: Callable[[Tensor], float],
    weight_decays: tuple[float, ...] | None,
) -> list[PathPoint]:
    """Solve from strong to weak, each from the one before, a few evaluations each."""
    n_classes, rank = problem.n_classes, problem.Z.shape[1]
    point = problem.Z.new_zeros(n_classes, rank, dtype=torch.float64)
    points: list[PathPoint] = []
    for weight_decay in weight_decays or (*WEIGHT_DECAYS, *WEAKER):
        if weight_decays is None and _is_past(points, weight_decay):
            break
        found = solve(problem, point, weight_decay, most=PATH_EVALUATIONS, tolerance=ON_PATH)
        point = found.point
        points.append(PathPoint(weight_decay, scored(point), point))
    return points


def _is_past(points: list[PathPoint], weight_decay: float) -> bool:
    """Tell whether the best is behind: two falls in a row, or below 1e-4 no new best."""
    scores = [point.score for point in points]
    fell = len(scores) > 2 and scores[-1] < scores[-2] < scores[-3]
    return fell or (weight_decay in WEAKER and scores[-1] <= max(scores[:-1]))


def _scored(
    held_out: Tensor, goal: Goal, basis: Basis, score: Callable[[Tensor], float]
) -> Callable[[Tensor], float]:
    """Return the function from a point (C, r) to the score of its predictions.

    In coordinates, so that a point costs a product of r columns instead of D.
    """
    Z = basis.coordinates(held_out)
    base = _base(held_out, replace(goal, shift=None), held_out.dtype)

    def scored(point: Tensor) -> float:
        near, best = point.to(Z.dtype), []
        for rows in row_blocks(len(Z), max(near.shape)):
            scores = Z[rows] @ near.T
            best.append((scores if base is None else scores + base(rows)).argmax(dim=1))
        return score(torch.cat(best))

    return scored


def _reduced(
    problem: Problem, basis: Basis, goal: Goal, chosen: PathPoint
) -> tuple[Fitted, Tensor]:
    """Solve from a point of the path on all rows, in principal directions; return its point too."""
    decay = chosen.weight_decay
    found = solve(problem, chosen.point, decay, most=MOST, tolerance=REDUCED)
    slopes = basis.linear(found.gradient / basis.stretch)
    verdict = Verdict.of(found.value, slopes, decay)
    warn_if_unfinished(verdict, REDUCED, decay, found.evaluations)
    W, b = _linear(basis, goal.anchor, found.point, problem.Z.dtype)
    return Fitted(W, b, found.evaluations, verdict), found.point


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
    fine = len(feats) * basis.into.shape[1] * n_classes <= FINE
    dtype = torch.float64 if fine else feats.dtype
    Z = basis.coordinates(feats, dtype)
    return Problem(Z, y_idx, n_classes, weights, basis.stretch, _base(feats, goal, dtype))


def _base(feats: Tensor, goal: Goal, dtype: torch.dtype) -> Callable[[slice], Tensor] | None:
    shift = None if goal.shift is None else goal.shift.to(dtype)
    if goal.anchor is None:
        return None if shift is None else lambda rows: shift
    W, b = (part.to(dtype) for part in goal.anchor)
    b = b if shift is None else b + shift
    if len(feats) * len(W) > KEPT:
        return lambda rows: linear_scores(feats[rows].to(dtype), W, b)
    return linear_scores(feats.to(dtype), W, b).__getitem__


def _linear(
    basis: Basis, anchor: tuple[Tensor, Tensor] | None, point: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    W, b = basis.linear(point.to(basis.into.dtype))
    if anchor is not None:
        W, b = W + anchor[0], b + anchor[1]
    return W.to(dtype).contiguous(), b.to(dtype).contiguous()
