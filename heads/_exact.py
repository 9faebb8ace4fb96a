"""Convex heads at their optimum, and along their weight-decay path.

One fit: centred, whitened coordinates of all D directions, entered from the solution on the
principal ones. A path: many weight decays on a reduced problem (at most so many rows a class, on
principal directions), each warm-started from a stronger one; the best on the validation split is
then solved on all rows. `docs/heads.md` has what was tried and measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from heads._arrays import full_precision, one_thread_if_small
from heads._convex import Basis, Problem, principal_basis, row_weights, solve
from heads._lbfgs import Found
from heads._linear import linear_scores

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
        return dataclasses.replace(self, weights=weights)


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
    n_coordinates = basis.into.shape[1] + 1
    spent, start = 0, feats.new_zeros(n_classes, n_coordinates, dtype=torch.float64)
    if not small and width > 2 * RANK:
        coarse = _basis(feats, y_idx, n_classes, goal, RANK)
        problem = _problem(feats, y_idx, n_classes, goal, coarse)
        found = solve(
            problem, start[:, : coarse.into.shape[1] + 1], weight_decay, most=30, tolerance=1e-4
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
    score: Callable[[Tensor, Tensor], float],
    weight_decays: tuple[float, ...] | None = None,
) -> tuple[Fitted, float, list[PathPoint]]:
    """Follow the path on a reduced problem, choose by `score`, solve there on all rows.

    Parameters
    ----------
    feats, y_idx : Tensors of shape (n, D) and (n,)
    n_classes : int
    goal : Goal
    score : callable
        From W (C, D) and b (C,) to a validation score, the larger the better; of equals the
        strongest penalty wins.
    weight_decays : tuple of float, decreasing, optional
        All of them are tried; of the default ones only as many as it takes to see the score fall.

    Returns
    -------
    Fitted, float, list of PathPoint
        The solution, its weight decay, and the points tried.
    """
    width = feats.shape[1]
    small = len(feats) * width * n_classes <= SMALL
    rows = torch.arange(len(feats), device=feats.device)
    rows = rows if small else few_rows(y_idx, n_classes, ROWS_PER_CLASS)
    some, labels = (feats, y_idx) if small else (feats[rows], y_idx[rows])
    fewer = goal if small else goal.on(rows)
    basis = _basis(some, labels, n_classes, fewer, width if small else min(width, RANK))
    point = feats.new_zeros(n_classes, basis.into.shape[1] + 1, dtype=torch.float64)
    points: list[PathPoint] = []
    with (
        full_precision(),
        one_thread_if_small(some.shape[0] * basis.into.shape[1] * n_classes, SMALL // 4),
    ):
        problem = _problem(some, labels, n_classes, fewer, basis)
        for weight_decay in weight_decays or WEIGHT_DECAYS:
            found = solve(problem, point, weight_decay, most=PATH_EVALUATIONS, tolerance=1e-6)
            point = found.point
            W, b = _linear(basis, goal, point)
            points.append(PathPoint(weight_decay, score(W, b), point))
            fell = len(points) > 2 and points[-1].score < points[-2].score < points[-3].score
            if fell and weight_decays is None:
                break
        chosen = max(points, key=lambda found: found.score)
        if not small:
            problem = _problem(feats, y_idx, n_classes, goal, basis)
        most = MOST if small else LAST_EVALUATIONS
        found = solve(
            problem, chosen.point, chosen.weight_decay, most=most, tolerance=TOLERANCE[feats.dtype]
        )
        point = found.point
        if not small:
            points.append(
                PathPoint(chosen.weight_decay, score(*_linear(basis, goal, point)), point)
            )
            # A few evaluations on all rows can end below where few rows, all classes alike, led.
            point = max(points[-1], chosen, key=lambda reached: reached.score).point
            slope = problem.value_and_gradient(point, chosen.weight_decay)[1]
            found = Found(point, found.value, slope, found.evaluations)
    fitted = _fitted(basis, goal, found.point, found.gradient, found.evaluations, found.value)
    return fitted, chosen.weight_decay, points


def few_rows(y_idx: Tensor, n_classes: int, most: int) -> Tensor:
    """Return the first `most` rows of each class, in storage order."""
    order = torch.argsort(y_idx, stable=True)
    counts = torch.bincount(y_idx, minlength=n_classes)
    begin = (counts.cumsum(0) - counts)[y_idx[order]]
    place = torch.arange(len(order), device=order.device) - begin
    return order[place < most].sort().values


def _basis(feats: Tensor, y_idx: Tensor, n_classes: int, goal: Goal, rank: int) -> Basis:
    return principal_basis(feats, goal.row_weights(y_idx, n_classes), rank, 0.0)


def _problem(feats: Tensor, y_idx: Tensor, n_classes: int, goal: Goal, basis: Basis) -> Problem:
    weights = goal.row_weights(y_idx, n_classes)
    base = _base(feats, goal, n_classes)
    return Problem(basis.coordinates(feats), y_idx, weights, basis.metric(), base)


def _base(feats: Tensor, goal: Goal, n_classes: int) -> Callable[[slice], Tensor] | None:
    shift = goal.shift
    if goal.anchor is None:
        return None if shift is None else lambda rows: shift
    W, b = goal.anchor
    b = b if shift is None else b + shift
    if len(feats) * n_classes > KEPT:
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
