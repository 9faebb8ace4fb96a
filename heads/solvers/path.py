"""Convex heads at their optimum, and along their weight-decay path.

One fit: whitened coordinates of all directions, entered from the solution on the
principal ones. A path: many weight decays on a reduced problem (at most so many rows a class, on
principal directions), each warm-started from a stronger one; the best on the validation split is
then solved on all rows. `docs/heads.md` has what was tried and measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from heads._arrays import full_precision, one_thread_if_small, row_blocks
from heads.solvers.lbfgs import Found
from heads.solvers.linear import linear_scores
from heads.solvers.newton import Operator, newton
from heads.solvers.objective import Basis, Curvature, Problem, principal_basis, row_weights, solve
from heads.solvers.softmax import Objective, Verdict, judge, warn_if_unfinished
from heads.solvers.sums import rows_by_class
from heads.solvers.weighting import class_counts, class_shares

__all__ = [
    "KEPT",
    "ROWS_PER_CLASS",
    "TOLERANCE",
    "WEIGHT_DECAYS",
    "Fitted",
    "Goal",
    "PathPoint",
    "few_rows",
    "half_decade",
    "natural",
    "optimum",
    "path",
    "unit_of",
    "usual_decay",
]

# How far above the optimum a solution may lie, relative to its objective: see `docs/heads.md`.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-9}
# What is aimed at: one more step of Newton's goes far beyond the tolerance, and then the solution
# itself, not its value alone, is known to seven digits and more.
AIM = {torch.float32: 1e-7, torch.float64: 1e-18}
# The same where all rows are solved in principal directions only, and for the points of a path.
REDUCED, ON_PATH = 1e-2, 1e-2
# Where it is seen if all rows are worth it.
ROUGH = 1e-1
# For the points that a user lists.
ON_LIST = 1e-6
# Evaluations of L-BFGS where Newton's method takes over, and where it must do alone.
FEW, MOST = 30, 500
# Evaluations and products with the Hessian of Newton's method in all.
LONGEST = 10_000
# Multiplications of one evaluation up to which it is done in float64.
FINE = 1 << 28

# The mean squared distance of usual features from their mean. Weight decays are said for those, and
# go with the square of the features' unit, as those must that leave the same classifier.
USUAL = 30.0
# The path goes through 1 and 3 times powers of ten, from 1e-1 to 1e-4 for usual features; those are
# the half decades -2 to -8. It goes on while that may help, at most so far: see `_explore`.
STRONGEST, WEAKEST, FURTHEST = -2, -8, 14
# The same for usual features, strong to weak.
WEIGHT_DECAYS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
RANK = 256
ROWS_PER_CLASS = 20
# On the path a few evaluations a point are enough: accuracy settles long before the gradient.
PATH_EVALUATIONS = 16
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


@dataclass(frozen=True, eq=False)
class PathPoint:
    """A weight decay on the reduced problem: its validation score, and the point reached.

    parts (m,) are what each validation row adds to the score.
    """

    weight_decay: float
    score: float
    parts: Tensor
    point: Tensor

    def is_below(self, other: PathPoint) -> bool:
        """Tell whether the score is lower by more than a standard error of the difference.

        That of the paired difference, from the rows that the two do not have alike.
        """
        return other.score - self.score > float((other.parts - self.parts).norm())


Scorer = Callable[[Tensor], tuple[float, Tensor]]


def half_decade(step: int) -> float:
    """Return 1 or 3 times a power of ten: ... -2 gives 0.1, -1 gives 0.3, 0 gives 1 ..."""
    return float(f"{3 if step % 2 else 1}e{step // 2}")


def unit_of(feats: Tensor, y_idx: Tensor, n_classes: int, goal: Goal) -> int:
    """Return the half decades by which weight decays differ from those of usual features.

    From the mean squared distance of the features (n, D) from their mean, each row by its part of
    the loss.
    """
    weight = goal.row_weights(y_idx, n_classes)
    weight = weight / weight.sum()
    mean = torch.zeros(feats.shape[1], dtype=torch.float64, device=feats.device)
    for rows in row_blocks(*feats.shape):
        mean += weight[rows] @ feats[rows].double()
    spread = sum(
        float(weight[rows] @ (feats[rows].double() - mean).square().sum(dim=1))
        for rows in row_blocks(*feats.shape)
    )
    if not 1e-20 * float(mean.square().sum()) < spread < math.inf:
        return 0  # they are all alike, but for rounding
    return round(2 * math.log10(spread / USUAL))


def usual_decay(
    feats: Tensor, y_idx: Tensor, n_classes: int, goal: Goal, for_usual: float
) -> float:
    """Return the weight decay that stands for `for_usual`, in these features' unit, to a digit."""
    unit = unit_of(feats, y_idx, n_classes, goal)
    return float(f"{for_usual * 10 ** (unit / 2):.0e}")


def natural(y_idx: Tensor, n_classes: int, weights: Tensor | None = None) -> Goal:
    """Return the goal of the mean cross-entropy over all rows as they come."""
    return Goal(class_shares(class_counts(y_idx, n_classes, weights), 1.0), weights=weights)


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
        start, spent = _start(problem, weight_decay), 0
        if not small and width > 2 * RANK:
            coarse = _basis(feats, y_idx, n_classes, goal, RANK)
            reduced = _problem(feats, y_idx, n_classes, goal, coarse)
            rough = start.new_zeros(n_classes, coarse.into.shape[1])
            found = solve(reduced, rough, weight_decay, most=30, tolerance=REDUCED)
            start, spent = basis.point(*coarse.linear(found.point)), found.evaluations
        objective = _objective(feats, y_idx, n_classes, goal, weight_decay)
        return _finished(problem, basis, objective, start, spent)


def _start(problem: Problem, weight_decay: float) -> Tensor:
    """Return the better of the anchor and zero, as a point (C, r): where no softmax is 0 or 1."""
    anchor = torch.zeros_like(problem.stretch).repeat(problem.n_classes, 1)
    if problem.anchor is None:
        return anchor
    points = (anchor, -problem.anchor)
    return min(points, key=lambda point: problem.value_and_gradient(point, weight_decay)[0])


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
    """Go on by Newton's method, with values and gradients in float64.

    In the coordinates, if they are float64: far from the origin a weight's last bit moves scores by
    more than is left to gain. Else from the features.
    """
    decay = objective.weight_decay

    def fine(point: Tensor) -> tuple[float, Tensor]:
        if problem.Z.dtype == torch.float64:
            return problem.exactly(point, decay)
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
    score: Scorer,
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
        From the classes (m,) predicted for them to a score, the larger the better, and what each
        row adds to it (m,).
    weight_decays : tuple of float, decreasing, optional
        All of them are tried; else those that `_explore` finds worth it.

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
        points = _Tried(problem, scored)
        if weight_decays is None:
            _explore(points, unit_of(some, labels, n_classes, fewer))
        else:
            if small:
                points.refine = partial(_refined_at, problem, basis, feats, y_idx, goal)
            points.follow(weight_decays)
        chosen = points.best
        if small:
            objective = _objective(feats, y_idx, n_classes, goal, chosen.weight_decay)
            fitted = _finished(problem, basis, objective, chosen.point, 0)
        else:
            whole = _problem(feats, y_idx, n_classes, goal, basis)
            fitted = _reduced(whole, points, basis, goal.anchor, chosen)
    return fitted, chosen.weight_decay, points.all


@dataclass
class _Tried:
    """The points of a path in the order in which they were solved.

    refine: from a weight decay and a point (C, r) to one that is nearer the optimum, if wanted.
    """

    problem: Problem
    scored: Callable[[Tensor], tuple[float, Tensor]]
    refine: Callable[[float, Tensor], Tensor] | None = None
    all: list[PathPoint] = field(default_factory=list)

    @property
    def best(self) -> PathPoint:
        """The point with the best score; of equals the one with the strongest penalty.

        But one that is stronger than where the path began must be better.
        """
        begin = self.all[0].weight_decay
        return max(self.all, key=lambda p: (p.score, p.weight_decay <= begin, p.weight_decay))

    def add(self, weight_decay: float, point: Tensor) -> PathPoint:
        """Score a point and note it."""
        self.all.append(PathPoint(weight_decay, *self.scored(point), point))
        return self.all[-1]

    def follow(self, weight_decays: Iterable[float], start: PathPoint | None = None) -> None:
        """Solve at each weight decay, from the one before."""
        for weight_decay in weight_decays:
            point = _start(self.problem, weight_decay) if start is None else start.point
            found = solve(
                self.problem, point, weight_decay, most=PATH_EVALUATIONS, tolerance=ON_PATH
            )
            point = found.point if self.refine is None else self.refine(weight_decay, found.point)
            start = self.add(weight_decay, point)


def _refined_at(
    problem: Problem,
    basis: Basis,
    feats: Tensor,
    y_idx: Tensor,
    goal: Goal,
    weight_decay: float,
    start: Tensor,
) -> Tensor:
    objective = _objective(feats, y_idx, problem.n_classes, goal, weight_decay)
    return _refined(problem, basis, objective, start, ON_LIST)[0].point


def _explore(tried: _Tried, unit: int) -> None:
    """Try weight decays from strong to weak, and on at either end while the best may be there.

    A fall counts only if it is larger than the noise: one standard error of the paired difference
    from the best. Two in a row end the usual range. Beyond its ends one does, or two points that
    are not the best.
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


def _scored(
    held_out: Tensor, goal: Goal, basis: Basis, score: Scorer
) -> Callable[[Tensor], tuple[float, Tensor]]:
    """Return the function from a point (C, r) to the score of its predictions, and its parts.

    In coordinates, so that a point costs a product of r columns instead of D.
    """
    Z = basis.coordinates(held_out)
    base = _base(held_out, replace(goal, shift=None), held_out.dtype)

    def scored(point: Tensor) -> tuple[float, Tensor]:
        near, best = point.to(Z.dtype), []
        for rows in row_blocks(len(Z), max(near.shape)):
            scores = Z[rows] @ near.T
            best.append((scores if base is None else scores + base(rows)).argmax(dim=1))
        return score(torch.cat(best))

    return scored


def _reduced(
    whole: Problem,
    tried: _Tried,
    basis: Basis,
    anchor: tuple[Tensor, Tensor] | None,
    chosen: PathPoint,
) -> Fitted:
    """Solve at the weight decay of a point of the path, in principal directions.

    On all rows, unless val is worse there than it was on the path, where classes have few rows
    alike: then the better on val of the two optima, on all rows and on those of the path. Where val
    is worse beyond noise when all rows are solved roughly, they are not solved further.
    """
    decay = chosen.weight_decay

    def solved(problem: Problem, start: PathPoint, tolerance: float) -> tuple[PathPoint, Found]:
        found = solve(problem, start.point, decay, most=MOST, tolerance=tolerance)
        return tried.add(decay, found.point), found

    point, found = solved(whole, chosen, ROUGH)
    hopeless = point.is_below(chosen)
    if not hopeless:
        point, found = solved(whole, point, REDUCED)
    if hopeless or point.score < chosen.score:
        other, of_few = solved(tried.problem, chosen, REDUCED)
        found = of_few if hopeless or other.score > point.score else found
    verdict = Verdict.of(found.value, basis.linear(found.gradient / basis.stretch), decay)
    warn_if_unfinished(verdict, REDUCED, decay, found.evaluations)
    W, b = _linear(basis, anchor, found.point, whole.Z.dtype)
    return Fitted(W, b, found.evaluations, verdict)


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
    Z, anchor = basis.coordinates(feats, dtype), None
    if goal.anchor is not None and Z.shape[1] in (len(feats), feats.shape[1] + 1):
        # The coordinates span the rows, and so hold the scores of the anchor: apart, the two would
        # be large and cancel.
        anchor = basis.point(*(part.double() for part in goal.anchor))
        goal = replace(goal, anchor=None)
    base = _base(feats, goal, dtype)
    return Problem(Z, y_idx, n_classes, weights, basis.stretch, base, anchor)


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
