"""The class-balanced optimum in one factor for each class of frozen logits.

The logits are computed once, and an evaluation is one pass of `exp` over them, in pieces that stay
in a core's cache. A few rows of each class give a start, and the Hessian there. In coordinates that
make this Hessian the identity the whole problem is nearly round, so a handful of evaluations end
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from heads._arrays import Scratch, one_thread_each, row_blocks
from heads.solvers.certificate import Verdict, judge, warn_if_unfinished
from heads.solvers.lbfgs import Minimum, minimise
from heads.solvers.linear import cross_entropy_and_error, linear_scores, softmax_shares
from heads.solvers.newton import Operator, newton
from heads.solvers.objective import KEPT, Spread, added_up
from heads.solvers.optimum import AIM, FINE, LONGEST, TOLERANCE
from heads.solvers.path import few_rows
from heads.solvers.rows import TrainingRows

__all__ = ["FittedScale", "ScaleObjective", "best_scale"]

# Logits from which the optimum is first sought on a few rows of each class, and how many rows.
MANY_LOGITS, FEW = 1 << 22, 10
# Logits of one piece of element-wise work: with a buffer of the same size they fit a core's cache.
PIECE = 1 << 18
# What a step could still gain of the objective, relative to it, where the search ends: about half
# the squared gradient in coordinates in which the Hessian is about 1.
GAIN_AT_END = {torch.float32: 1e-9, torch.float64: 1e-14}
GAIN_OF_START = 1e-4
# Evaluations of L-BFGS at most.
MOST = 200
# Factors smaller than this are not tried as a start.
_LEAST_SCALE = 1e-30


@dataclass(frozen=True, eq=False)
class ScaleObjective:
    """The penalised softmax cross-entropy of factors that multiply the logits of each class.

    Of rows with frozen logits z_i = W x_i + b, (C,), and labels y_i, the objective of the factors
    s (C,) is::

        f(s) = sum_i u_i CE(y_i, s * z_i) + (weight_decay / 2) ||s||^2
        CE(y, t) = log(sum_c exp(t_c)) - t_y

    With p_i = softmax(s * z_i) and e_y the one-hot label, its gradient (C,) and its Hessian (C, C)
    are::

        g(s) = sum_i u_i (p_i - e_{y_i}) * z_i + weight_decay s
        H(s) = sum_i u_i (diag(p_i * z_i^2) - (p_i * z_i) (p_i * z_i)^T) + weight_decay I

    It is convex. The parts u_i are those of `SoftmaxObjective`: with u_i = w_i / (C W_c) for a row
    of class c, the loss is class-balanced sampling's in expectation.

    Attributes
    ----------
    logits : callable
        From a slice of rows to their z_i, (k, C), in the dtype and on the device of `like`.
    y_idx : Tensor of shape (n,), int64 in 0..C-1
    n_classes : int
    loss_share : Tensor of shape (n,), float64
        u_i, which sum to 1.
    weight_decay : float
    like : Tensor
        Any tensor of the dtype and device that products are computed in.
    spread : callable, optional
        A `map` over threads for many evaluations in a row; without it each opens its own.

    References
    ----------
    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition" (ICLR 2020),
    section 4.2, "Learnable weight scaling".
    """

    logits: Callable[[slice], Tensor]
    y_idx: Tensor
    n_classes: int
    loss_share: Tensor
    weight_decay: float
    like: Tensor
    spread: Spread | None = None

    @property
    def blocks(self) -> list[slice]:
        """Cut the rows into pieces of work."""
        each = max(64, (PIECE << 9 if self.like.is_cuda else PIECE) // self.n_classes)
        n_rows = len(self.y_idx)
        return [slice(s, min(s + each, n_rows)) for s in range(0, n_rows, each)]

    def value_and_gradient(self, point: Tensor) -> tuple[float, Tensor]:
        """Return the objective at factors s (C,) float64, and its gradient (C,).

        Products are in the dtype of `like`; losses, penalty and sums over pieces in float64.
        """
        near = point.to(self.like.dtype)
        return self._penalised(point, self._sums(lambda rows: self._part(near, rows)))

    def exactly(self, point: Tensor) -> tuple[float, Tensor]:
        """Return the same in float64 throughout, with all digits of small losses."""

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            logits, share = self.logits(rows).double(), self.loss_share[rows]
            losses, error = cross_entropy_and_error(logits * point, self.y_idx[rows])
            return losses @ share, share @ error.mul_(logits)

        return self._penalised(point, self._sums(part))

    def excess(self, gradient: Tensor) -> float:
        """Return by how much a point of this gradient (C,) can lie above the optimum, at most.

        The penalty curves every direction by the weight decay, as in `SoftmaxObjective.excess`.
        """
        return Verdict.of(0.0, gradient, self.weight_decay).excess

    def hessian_product(self, point: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from a direction (C,) to the Hessian at s (C,) times it, float64."""

        def times(direction: Tensor) -> Tensor:
            def part(rows: slice) -> tuple[Tensor]:
                logits = self.logits(rows).double()
                p = (logits * point).softmax(dim=1)
                moved = logits * direction
                moved -= (p * moved).sum(dim=1, keepdim=True)
                return (self.loss_share[rows] @ moved.mul_(p).mul_(logits),)

            return self._sums(part)[0] + self.weight_decay * direction

        return times

    def hessian(self, point: Tensor) -> Tensor:
        """Return the Hessian (C, C) at s (C,), float64, with products in the logits' dtype."""
        n_classes = len(point)
        total = torch.zeros(n_classes, n_classes, dtype=torch.float64, device=point.device)
        bend = torch.full((n_classes,), self.weight_decay, dtype=torch.float64).to(point.device)
        for rows in row_blocks(len(self.y_idx), n_classes):
            logits = self.logits(rows)
            pulled = (logits * point.to(logits.dtype)).softmax(dim=1).mul_(logits)
            share = self.loss_share[rows].to(pulled.dtype)
            bend += share @ (pulled * logits)
            pulled *= share.sqrt().unsqueeze(1)
            total -= pulled.T @ pulled
        return total + bend.diag()

    @cached_property
    def _scratch(self) -> Scratch:
        """Return the buffer of one piece, for each thread."""
        return Scratch((self.blocks[0].stop, self.n_classes), self.like)

    def _part(self, scale: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Return a piece's loss and its gradient sum_i u_i (p_i - e_{y_i}) * z_i, (C,)."""
        logits, y_idx, share = self.logits(rows), self.y_idx[rows], self.loss_share[rows]
        p = torch.mul(logits, scale, out=self._scratch.block[: len(logits)])
        losses = softmax_shares(p, y_idx, lambda lost: logits[lost] * scale)
        gradient = share.to(p.dtype) @ p.mul_(logits)
        own = logits.gather(1, y_idx.unsqueeze(1)).squeeze(1)
        gradient.scatter_add_(0, y_idx, -(share * own).to(gradient.dtype))
        return losses.double() @ share, gradient

    def _penalised(self, point: Tensor, sums: list[Tensor]) -> tuple[float, Tensor]:
        """Add the penalty to the loss and its gradient at s (C,)."""
        loss, gradient = sums
        penalty = self.weight_decay / 2 * float(point @ point)
        return float(loss) + penalty, gradient + self.weight_decay * point

    def _sums(self, part: Callable[[slice], tuple[Tensor, ...]]) -> list[Tensor]:
        """Return the sums over all pieces, float64, of the tensors that `part` returns of each."""
        if self.spread is not None:
            return added_up(part, self.blocks, self.spread)
        with self.threads() as spread:
            return added_up(part, self.blocks, spread)

    def threads(self) -> AbstractContextManager[Spread]:
        """Return the context in which pieces are worked on by one thread each."""
        return one_thread_each(self.like.is_cuda or len(self.blocks) < 4)


@dataclass(frozen=True)
class FittedScale:
    """A solution: factors (C,), evaluations of all rows, and how near the optimum it is."""

    scale: Tensor
    evaluations: int
    verdict: Verdict


def best_scale(train: TrainingRows, W: Tensor, b: Tensor, weight_decay: float) -> FittedScale:
    """Minimise the class-balanced objective in the factors.

    First roughly, on a few rows of each class where there is much data; then on all rows from
    there, with the Hessian of the same few rows; then by Newton's method, if that was not enough.

    Parameters
    ----------
    train : TrainingRows
    W, b : Tensors of shape (C, D) and (C,)
        The frozen classifier, like the features.
    weight_decay : float
        Above 0.

    Returns
    -------
    FittedScale
        The factors are like the features.

    Warns
    -----
    ConvergenceWarning
        Where the factors may lie further above the optimum than `TOLERANCE`.
    """
    feats, n_classes = train.feats, train.n_classes
    tolerance, aim = TOLERANCE[feats.dtype], AIM[feats.dtype]
    like = feats[:0].double() if feats.numel() * n_classes <= FINE else feats
    logits = _logits(feats, W, b, like.dtype)
    whole = _objective(train, logits, weight_decay, like)
    sample, few = whole, few_rows(train.y_idx, n_classes, _rows_a_class(feats, n_classes))
    if len(feats) * n_classes > MANY_LOGITS and 3 * len(few) < len(feats):
        some = logits(few)
        sample = _objective(train.some(few), some.__getitem__, weight_decay, like)
    start = _start(sample, torch.ones(n_classes, dtype=torch.float64, device=feats.device))
    start = _solve(sample, start, sample, GAIN_OF_START).point
    found = _solve(whole, start, sample, GAIN_AT_END[like.dtype])
    scale, spent = found.point.to(feats.dtype), found.evaluations
    verdict = judge(whole, scale.double())
    if not verdict.gap <= 2 * aim:
        refined, excess = _refined(whole, found.point, sample, aim)
        scale, spent = refined.point.to(feats.dtype), spent + refined.evaluations
        verdict = judge(whole, scale.double(), refined.value - excess)
    warn_if_unfinished(verdict, tolerance, weight_decay, spent)
    return FittedScale(scale, spent, verdict)


def _objective(
    train: TrainingRows, logits: Callable[[Any], Tensor], weight_decay: float, like: Tensor
) -> ScaleObjective:
    """Return the class-balanced objective of rows whose logits are given."""
    share = train.loss_shares()
    return ScaleObjective(logits, train.y_idx, train.n_classes, share, weight_decay, like)


def _start(sample: ScaleObjective, ones: Tensor) -> Tensor:
    """Return factors (C,) all alike, small enough that the loss is no larger than without scores.

    Where scores are so large that every softmax is 0 or 1, there is no curvature to go by.
    """
    most = math.log(sample.n_classes)
    while sample.exactly(ones)[0] > most and float(ones[0]) > _LEAST_SCALE:
        ones = ones / 10
    return ones


def _refined(
    whole: ScaleObjective, start: Tensor, sample: ScaleObjective, aim: float
) -> tuple[Minimum, float]:
    """Go on by Newton's method; the Hessian of a sample stands in where one is inverted."""

    def curvature_at(scale: Tensor) -> tuple[Operator, Operator]:
        factor = _factor(sample.hessian(scale))
        return whole.hessian_product(scale), lambda gradient: torch.cholesky_solve(
            gradient.unsqueeze(1), factor
        ).squeeze(1)

    return newton(whole.exactly, curvature_at, whole.excess, start, aim=aim, most=LONGEST)


def _rows_a_class(feats: Tensor, n_classes: int) -> int:
    """Return so many that the sample's Hessian costs at most a quarter of the logits."""
    return max(2, min(FEW, feats.numel() // (4 * n_classes**2)))


def _logits(feats: Tensor, W: Tensor, b: Tensor, dtype: torch.dtype) -> Callable[[Any], Tensor]:
    """Return a function from rows to logits in `dtype`, kept where they fit in memory."""
    W, b = W.to(dtype), b.to(dtype)
    if len(feats) * len(W) > KEPT:
        return lambda rows: linear_scores(feats[rows].to(dtype), W, b)
    return linear_scores(feats.to(dtype), W, b).__getitem__


def _solve(whole: ScaleObjective, start: Tensor, sample: ScaleObjective, gain: float) -> Minimum:
    """Minimise from a start (C,), in coordinates that the Hessian of a sample there makes round."""
    factor = _factor(sample.hessian(start))

    def done(value: float, gradient: Tensor) -> bool:
        return float(gradient @ gradient) / 2 <= gain * value

    with whole.threads() as spread:
        objective = replace(whole, spread=spread)

        def rounded(point: Tensor) -> tuple[float, Tensor]:
            value, gradient = objective.value_and_gradient(_solved(factor.T, point, upper=True))
            return value, _solved(factor, gradient)

        found = minimise(rounded, factor.T @ start, done, MOST, gain)
    return Minimum(
        _solved(factor.T, found.point, upper=True),
        found.value,
        factor @ found.gradient,
        found.evaluations,
    )


def _factor(hessian: Tensor) -> Tensor:
    """Return the lower factor L (C, C) of a Hessian L L^T, a little stiffened where it is flat.

    Where logits are large, the softmax in float32 leaves a Hessian that is not quite positive, and
    it is stiffened more.
    """
    diagonal = hessian.diagonal()
    for part in (1e-3, 1e-1, 10.0):
        stiff = diagonal + part * diagonal.abs().mean() + 1e-12
        factor, failed = torch.linalg.cholesky_ex(hessian.diagonal_scatter(stiff))
        if not bool(failed):
            return factor
    return (diagonal.abs() + diagonal.abs().mean() + 1e-12).sqrt().diag()


def _solved(factor: Tensor, right: Tensor, *, upper: bool = False) -> Tensor:
    """Return what a triangular factor (C, C) takes to the right-hand side (C,)."""
    return torch.linalg.solve_triangular(factor, right.unsqueeze(1), upper=upper).squeeze(1)
