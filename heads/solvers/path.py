"""Softmax heads along their weight-decay path, and the choice of a point on it.

Many weight decays are solved on a reduced problem (at most so many rows a class, on principal
directions), each from the solution of a stronger one. The best on the validation split is then
solved on all rows. `docs/notes/heads.md` has what was tried and measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from heads._arrays import full_precision, one_thread_if_small, row_blocks
from heads.solvers.certificate import Verdict, warn_if_unfinished
from heads.solvers.lbfgs import Minimum
from heads.solvers.objective import Goal, SoftmaxObjective, score_offset
from heads.solvers.optimum import (
    MOST,
    RANK,
    REDUCED,
    SMALL,
    Coordinates,
    Fitted,
    finished,
    refined,
    solve,
    start_of,
    unit_of,
)
from heads.solvers.rows import TrainingRows
from heads.solvers.sums import rows_by_class

__all__ = ["Followed", "PathPoint", "Score", "few_rows", "half_decade", "path"]

# The tolerance of the points of a path, and of those that a user lists, in parts of the objective.
ON_PATH, ON_LIST = 1e-2, 1e-6
# The tolerance at which it is seen whether solving on all rows is worth it.
ROUGH = 1e-1
# The path goes through 1 and 3 times powers of ten, from 1e-1 to 1e-4 for usual features: those are
# the half decades -2 to -8. It goes on while that may help, at most so far: see `_explore`.
STRONGEST, WEAKEST, FURTHEST = -2, -8, 14
# Rows of each class in the reduced problem.
ROWS_PER_CLASS = 20
# Evaluations of L-BFGS at a point of the path. A few are enough: accuracy settles long before the
# gradient does.
PATH_EVALUATIONS = 16


@dataclass(frozen=True, eq=False)
class Score:
    """How good the predictions of a validation split are.

    Attributes
    ----------
    value : float
        The larger the better.
    parts : Tensor of shape (m,)
        What each validation row adds to the value.
    metrics : Any
        What the caller wants to know of the point later; the path does not look at it.
    """

    value: float
    parts: Tensor
    metrics: Any = None

    def is_below(self, other: Score) -> bool:
        """Tell whether the value is lower by more than a standard error of the difference.

        It is the standard error of the paired difference, from the rows in which the two differ.
        """
        return other.value - self.value > float((other.parts - self.parts).norm())


@dataclass(frozen=True, eq=False)
class PathPoint:
    """A weight decay that was tried, its validation score, and the point (C, r) reached."""

    weight_decay: float
    score: Score
    point: Tensor

    def is_below(self, other: PathPoint) -> bool:
        """Tell whether the score is lower by more than chance would make it."""
        return self.score.is_below(other.score)


@dataclass(frozen=True, eq=False)
class Followed:
    """What following a path gave: the solution, its weight decay, and the points tried."""

    fitted: Fitted
    weight_decay: float
    points: list[PathPoint]


Scorer = Callable[[Tensor], Score]


def half_decade(step: int) -> float:
    """Return 1 or 3 times a power of ten: step -2 gives 0.1, -1 gives 0.3, 0 gives 1."""
    return float(f"{3 if step % 2 else 1}e{step // 2}")


def path(
    train: TrainingRows,
    goal: Goal,
    held_out: Tensor,
    score: Scorer,
    weight_decays: tuple[float, ...] | None = None,
) -> Followed:
    """Follow the path on a reduced problem, choose by `score`, solve there on all rows.

    Parameters
    ----------
    train : TrainingRows
    goal : Goal
        What is minimised, apart from the weight decay.
    held_out : Tensor of shape (m, D)
        Features of the validation rows.
    score : callable
        From the classes (m,) predicted for the validation rows to their `Score`.
    weight_decays : tuple of float, decreasing, optional
        All of them are tried; else those that `_explore` finds worth it.

    Warns
    -----
    ConvergenceWarning
        Where the solution may lie further above its optimum than it should.
    """
    width = train.feats.shape[1]
    small = train.feats.numel() * train.n_classes <= SMALL
    some = train if small else train.some(few_rows(train.y_idx, train.n_classes, ROWS_PER_CLASS))
    used = Coordinates.of(some, goal, width if small else min(width, RANK))
    n_products = len(some) * used.basis.into.shape[1] * train.n_classes
    with full_precision(), one_thread_if_small(n_products, SMALL // 4):
        problem = used.objective(0.0)  # each point of the path has its own weight decay
        scored = _scored(used, held_out.to(train.feats), score)
        points = _Tried(problem, scored, used if small and weight_decays is not None else None)
        if weight_decays is None:
            _explore(points, unit_of(some, goal))
        else:
            points.follow(weight_decays)
        chosen = points.best
        if small:
            fitted = finished(used, problem.at(chosen.weight_decay), chosen.point, 0)
        else:
            fitted = _reduced(replace(used, train=train), points, chosen)
    return Followed(fitted, chosen.weight_decay, points.all)


@dataclass
class _Tried:
    """The points of a path in the order in which they were solved.

    refine: the coordinates, where every point is to be solved by Newton's method too.
    """

    problem: SoftmaxObjective
    scored: Callable[[Tensor], Score]
    refine: Coordinates | None = None
    all: list[PathPoint] = field(default_factory=list)

    @property
    def best(self) -> PathPoint:
        """The point with the best score; of equals the one with the strongest penalty.

        But a point that is stronger than where the path began must be better.
        """
        begin = self.all[0].weight_decay
        return max(self.all, key=lambda p: (p.score.value, p.weight_decay <= begin, p.weight_decay))

    def add(self, weight_decay: float, point: Tensor) -> PathPoint:
        """Score a point and note it."""
        self.all.append(PathPoint(weight_decay, self.scored(point), point))
        return self.all[-1]

    def follow(self, weight_decays: Iterable[float], start: PathPoint | None = None) -> None:
        """Solve at each weight decay, from the solution at the one before."""
        for weight_decay in weight_decays:
            objective = self.problem.at(weight_decay)
            begin = start_of(objective) if start is None else start.point
            found = solve(objective, begin, most=PATH_EVALUATIONS, tolerance=ON_PATH)
            if self.refine is not None:
                found, _ = refined(self.refine, objective, found.point, ON_LIST)
            start = self.add(weight_decay, found.point)


def _explore(tried: _Tried, unit: int) -> None:
    """Try weight decays from strong to weak, and on at either end while the best may be there.

    A fall of the score counts only if it is larger than the noise: one standard error of the paired
    difference from the best. Two falls in a row end the usual range. Beyond its ends one fall does,
    or two points that are not the best.
    """
    strongest, weakest = STRONGEST + unit, WEAKEST + unit
    for step in range(strongest, weakest - 1, -1):
        tried.follow([half_decade(step)], tried.all[-1] if tried.all else None)
        if len(tried.all) > 2 and all(p.is_below(tried.best) for p in tried.all[-2:]):
            break
    for step in range(weakest - 1, weakest - FURTHEST, -1):
        if _is_past(tried.best, *tried.all[-2:]):
            break
        tried.follow([half_decade(step)], tried.all[-1])
    inner, outer = tried.all[1], tried.all[0]
    for step in range(strongest + 1, strongest + FURTHEST):
        if _is_past(tried.best, inner, outer):
            break
        tried.follow([half_decade(step)], outer)
        inner, outer = outer, tried.all[-1]


def _is_past(best: PathPoint, inner: PathPoint, outer: PathPoint) -> bool:
    """Tell whether the best is behind the last two points at an end of the path."""
    return outer.is_below(best) or best not in (inner, outer)


def _scored(used: Coordinates, held_out: Tensor, score: Scorer) -> Callable[[Tensor], Score]:
    """Return the function from a point (C, r) to the score of its predictions.

    The validation rows are kept in the coordinates, so that a point costs a product of r columns
    instead of D.
    """
    Z = used.basis.coordinates(held_out)
    offset = score_offset(held_out, replace(used.goal, log_prior=None), held_out.dtype)

    def scored(point: Tensor) -> Score:
        near, best = point.to(Z.dtype), []
        for rows in row_blocks(len(Z), max(near.shape)):
            scores = Z[rows] @ near.T
            best.append((scores if offset is None else scores + offset(rows)).argmax(dim=1))
        return score(torch.cat(best))

    return scored


def _reduced(whole: Coordinates, tried: _Tried, chosen: PathPoint) -> Fitted:
    """Solve at the weight decay of a point of the path, in principal directions.

    `whole` holds all rows, and they are solved, unless the validation score is worse there than it
    was on the path, where classes have few rows alike. Then it is the better by that score of two
    optima: the one on all rows, and the one on the rows of the path. Where the score is worse
    beyond noise when all rows are solved roughly, they are not solved further.
    """
    decay = chosen.weight_decay
    on_all, on_few = whole.objective(decay), tried.problem.at(decay)

    def solved(
        objective: SoftmaxObjective, start: PathPoint, tolerance: float
    ) -> tuple[PathPoint, Minimum]:
        found = solve(objective, start.point, most=MOST, tolerance=tolerance)
        return tried.add(decay, found.point), found

    point, found = solved(on_all, chosen, ROUGH)
    hopeless = point.is_below(chosen)
    if not hopeless:
        point, found = solved(on_all, point, REDUCED)
    if hopeless or point.score.value < chosen.score.value:
        other, of_few = solved(on_few, chosen, REDUCED)
        found = of_few if hopeless or other.score.value > point.score.value else found
    basis, dtype = whole.basis, on_all.Z.dtype
    verdict = Verdict.of(found.value, basis.linear(found.gradient / basis.stretch), decay)
    warn_if_unfinished(verdict, REDUCED, decay, found.evaluations)
    W, b = whole.linear(found.point, dtype)
    return Fitted(W, b, found.evaluations, verdict)


def few_rows(y_idx: Tensor, n_classes: int, most: int) -> Tensor:
    """Return the first `most` rows of each class, in storage order."""
    order = rows_by_class(y_idx, n_classes)
    counts = torch.bincount(y_idx, minlength=n_classes)
    begin = (counts.cumsum(0) - counts)[y_idx[order]]
    place = torch.arange(len(order), device=order.device) - begin
    return order[place < most].sort().values
