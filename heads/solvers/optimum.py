"""A softmax head at its optimum for one weight decay, on all rows and in all directions.

L-BFGS works in whitened coordinates, entered from the solution on the principal directions where
the problem is large. Newton's method goes on where that is not enough, and the result is judged in
float64 from the weights that are handed out. `docs/notes/heads.md` has what was tried and measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from heads._arrays import full_precision, one_thread_if_small, row_blocks
from heads.solvers.certificate import Verdict, judge, warn_if_unfinished
from heads.solvers.coordinates import Basis, principal_basis
from heads.solvers.curvature import HessianStandIn, is_small
from heads.solvers.lbfgs import Minimum, minimise
from heads.solvers.newton import Operator, newton
from heads.solvers.objective import Goal, SoftmaxObjective
from heads.solvers.rows import TrainingRows

__all__ = [
    "AIM",
    "FINE",
    "LONGEST",
    "SMALL",
    "TOLERANCE",
    "USUAL",
    "Coordinates",
    "Fitted",
    "finished",
    "optimum",
    "refined",
    "solve",
    "start_of",
    "unit_of",
    "usual_decay",
]

# How far above the optimum a solution may lie, relative to its objective. The bound is explained in
# `docs/explanation/heads.md`.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-9}
# What is aimed at. One more step of Newton's method goes far beyond the tolerance, and then the
# solution itself, not its value alone, is known to seven digits and more.
AIM = {torch.float32: 1e-7, torch.float64: 1e-18}
# The tolerance where all rows are solved in principal directions only.
REDUCED = 1e-2
# Evaluations of L-BFGS where Newton's method takes over, and where L-BFGS works alone.
FEW, MOST = 30, 500
# Evaluations and products with the Hessian of Newton's method in all.
LONGEST = 10_000
# Multiplications of one evaluation up to which it is done in float64.
FINE = 1 << 28
# Multiplications of one evaluation below which nothing is reduced.
SMALL = 1 << 31
# The principal directions that a large problem is reduced to.
RANK = 256

# The mean squared distance of usual features from their mean. Default weight decays are stated for
# such features. For others they are multiplied by the square of the features' unit: then they lead
# to the same classifier.
USUAL = 30.0


@dataclass(frozen=True)
class Fitted:
    """A linear classifier that was solved for.

    Attributes
    ----------
    W : Tensor of shape (C, D)
    b : Tensor of shape (C,)
    evaluations : int
        The evaluations of the objective that were spent.
    verdict : Verdict
        How near the optimum it is.
    """

    W: Tensor
    b: Tensor
    evaluations: int
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class Coordinates:
    """A goal on some rows, in the coordinates of a basis that these rows are whitened by."""

    train: TrainingRows
    goal: Goal
    basis: Basis

    @classmethod
    def of(cls, train: TrainingRows, goal: Goal, rank: int) -> Coordinates:
        """Return the coordinates of the principal directions, of all where `rank` is D."""
        basis = principal_basis(train.feats, goal.loss_shares(train), rank)
        return cls(train, goal, basis)

    def objective(self, weight_decay: float) -> SoftmaxObjective:
        """Return the objective in the coordinates, in float64 where that costs little."""
        feats = self.train.feats
        n_products = len(feats) * self.basis.into.shape[1] * self.train.n_classes
        dtype = torch.float64 if n_products <= FINE else feats.dtype
        return SoftmaxObjective.in_coordinates(
            self.train, self.goal, weight_decay, self.basis, dtype
        )

    def linear(self, point: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return W (C, D) and b (C,) of a point (C, r), which is measured from the anchor."""
        both = self.basis.linear(point.to(self.basis.into.dtype))
        W, b = both[:, :-1], both[:, -1]
        if self.goal.anchor is not None:
            W, b = W + self.goal.anchor[0], b + self.goal.anchor[1]
        return W.to(dtype).contiguous(), b.to(dtype).contiguous()


def unit_of(train: TrainingRows, goal: Goal) -> int:
    """Return the half decades by which weight decays differ from those of usual features.

    They follow from the mean squared distance of the features from their mean, in which each row
    counts by its part of the loss.
    """
    feats, share = train.feats, goal.loss_shares(train)
    share = share / share.sum()
    mean = torch.zeros(feats.shape[1], dtype=torch.float64, device=feats.device)
    for rows in row_blocks(*feats.shape):
        mean += share[rows] @ feats[rows].double()
    spread = sum(
        float(share[rows] @ (feats[rows].double() - mean).square().sum(dim=1))
        for rows in row_blocks(*feats.shape)
    )
    if not 1e-20 * float(mean.square().sum()) < spread < math.inf:
        return 0  # they are all alike, but for rounding
    return round(2 * math.log10(spread / USUAL))


def usual_decay(train: TrainingRows, goal: Goal, for_usual: float) -> float:
    """Return the weight decay that stands for `for_usual`, in these features' unit, to a digit."""
    return float(f"{for_usual * 10 ** (unit_of(train, goal) / 2):.0e}")


def optimum(train: TrainingRows, goal: Goal, weight_decay: float) -> Fitted:
    """Solve at one weight decay on all rows and all directions.

    Warns
    -----
    ConvergenceWarning
        Where the solution may lie further above the optimum than `TOLERANCE`.
    """
    feats, width = train.feats, train.feats.shape[1]
    small = feats.numel() * train.n_classes <= SMALL
    with full_precision(), one_thread_if_small(feats.numel() * train.n_classes, SMALL // 4):
        whole = Coordinates.of(train, goal, width)
        objective = whole.objective(weight_decay)
        start, spent = start_of(objective), 0
        if not small and width > 2 * RANK:
            coarse = Coordinates.of(train, goal, RANK)
            rough = start.new_zeros(train.n_classes, coarse.basis.into.shape[1])
            found = solve(coarse.objective(weight_decay), rough, most=30, tolerance=REDUCED)
            start, spent = whole.basis.point(coarse.basis.linear(found.point)), found.evaluations
        return finished(whole, objective, start, spent)


def start_of(objective: SoftmaxObjective) -> Tensor:
    """Return the better of the anchor and zero, as a point (C, r), to start a search from.

    Far from both, every softmax may be 0 or 1, and then there is no curvature to go by.
    """
    anchor = torch.zeros_like(objective.stretch).repeat(objective.n_classes, 1)
    if objective.anchor is None:
        return anchor
    points = (anchor, -objective.anchor)
    return min(points, key=lambda point: objective.value_and_gradient(point)[0])


def finished(whole: Coordinates, objective: SoftmaxObjective, start: Tensor, spent: int) -> Fitted:
    """Solve from a start, and judge what is handed out in the dtype of the features.

    Parameters
    ----------
    whole : Coordinates
        All rows, in coordinates that span all directions.
    objective : SoftmaxObjective
        The objective in those coordinates.
    start : Tensor of shape (C, r)
    spent : int
        Evaluations that led to the start.

    Warns
    -----
    ConvergenceWarning
        Where the solution may lie further above the optimum than `TOLERANCE`.
    """
    dtype, decay = whole.train.feats.dtype, objective.weight_decay
    judged = SoftmaxObjective.on_features(whole.train, whole.goal, decay)
    tolerance, aim = TOLERANCE[dtype], AIM[dtype]
    most, good = (FEW, aim) if is_small(objective) else (MOST, tolerance / 2)
    found = solve(objective, start, most=most, tolerance=good)
    W, b = whole.linear(found.point, dtype)
    verdict, spent = judge(judged, judged.point(W, b)), spent + found.evaluations
    if not verdict.gap <= 2 * good:
        point = found.point - found.point.mean(dim=0)  # the optimum's mean over the classes is 0
        refound, excess = refined(whole, objective, point, aim)
        W, b = whole.linear(refound.point, dtype)
        verdict = judge(judged, judged.point(W, b), refound.value - excess)
        spent += refound.evaluations
    warn_if_unfinished(verdict, tolerance, decay, spent)
    return Fitted(W, b, spent, verdict)


def refined(
    whole: Coordinates, objective: SoftmaxObjective, start: Tensor, aim: float
) -> tuple[Minimum, float]:
    """Go on by Newton's method, with values and gradients in float64.

    They are computed in the coordinates, if those are float64: far from the origin, the last bit of
    a weight moves scores by more than is left to gain. Else they are computed from the features.

    Parameters
    ----------
    whole : Coordinates
    objective : SoftmaxObjective
        The objective in those coordinates.
    start : Tensor of shape (C, r)
    aim : float
        How far above the optimum to end, in parts of the objective.

    Returns
    -------
    Minimum, float
        Where it ended, and how far above the optimum that is at most.
    """
    decay, basis = objective.weight_decay, whole.basis
    on_features = SoftmaxObjective.on_features(whole.train, whole.goal, decay)

    def fine(point: Tensor) -> tuple[float, Tensor]:
        if objective.Z.dtype == torch.float64:
            return objective.exactly(point)
        value, gradient = on_features.exactly(basis.linear(point))
        return value, basis.gradient(gradient)

    def curvature_at(point: Tensor) -> tuple[Operator, Operator]:
        known = objective.probabilities(point)
        return objective.hessian_product(point, known), HessianStandIn(objective, known).undone

    most = LONGEST if is_small(objective) and decay > 0 else MOST
    return newton(fine, curvature_at, objective.excess, start, aim=aim, most=most)


def solve(objective: SoftmaxObjective, start: Tensor, *, most: int, tolerance: float) -> Minimum:
    """Minimise from a start (C, r) until the excess over the optimum is small, by L-BFGS.

    Parameters
    ----------
    objective : SoftmaxObjective
    start : Tensor of shape (C, r)
    most : int
        Evaluations after which it ends.
    tolerance : float
        The excess at which it ends, in parts of the objective. It also ends where rounding lets it
        go no further.
    """
    least = 1e-9 if objective.Z.dtype == torch.float32 else 0.0
    # Of a softmax over C classes that each take their share, the curvature in a coordinate is
    # about its second moment / C. Together with the penalty's it conditions each column.
    bend = objective.moments / len(start) + objective.weight_decay * objective.stretch
    scale = bend.rsqrt().to(start.dtype)

    def scaled(point: Tensor) -> tuple[float, Tensor]:
        value, gradient = objective.value_and_gradient(point * scale)
        return value, gradient * scale

    def done(value: float, gradient: Tensor) -> bool:
        return objective.excess(gradient / scale) <= tolerance * value

    found = minimise(scaled, start / scale, done, most, least)
    return Minimum(found.point * scale, found.value, found.gradient / scale, found.evaluations)
