"""The class-balanced optimum in one factor for each class of frozen logits.

    f(s) = sum_i u(y_i) CE(y_i, s * z_i) + (weight_decay / 2) ||s||^2,   z_i = W x_i + b

is convex in C numbers. The logits z are computed once, and an evaluation is one pass of `exp` over
them, in pieces that stay in a core's cache. A few rows of each class give a start, and there the
Hessian; in its coordinates the whole problem is nearly round, and a handful of evaluations end it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heads._arrays import Scratch, one_thread_each, row_blocks
from heads.solvers.lbfgs import Found, minimise
from heads.solvers.linear import linear_scores, softmax_shares
from heads.solvers.newton import Operator, newton
from heads.solvers.objective import row_weights
from heads.solvers.path import AIM, FINE, KEPT, LONGEST, TOLERANCE, few_rows
from heads.solvers.softmax import Verdict, cross_entropy, judge, warn_if_unfinished

__all__ = ["best_scale"]

# Logits from which the optimum is first sought on a few rows of each class, and how many rows.
MANY_LOGITS, FEW = 1 << 22, 10
# Logits of one piece of element-wise work: with a buffer of the same size they fit a core's cache.
PIECE = 1 << 18
# What a step could still gain of the objective, relative to it, where the search ends: about half
# the squared gradient in coordinates in which the Hessian is about 1.
GAIN_AT_END = {torch.float32: 1e-9, torch.float64: 1e-14}
GAIN_OF_START = 1e-4
MOST = 200
_LEAST_SCALE = 1e-30

Spread = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class _Problem:
    """Rows by their logits: `logits` gives those of a slice of rows, (k, C)."""

    logits: Callable[[slice], Tensor]
    y_idx: Tensor
    weights: Tensor  # (n,), float64
    n_classes: int
    weight_decay: float
    like: Tensor

    @property
    def blocks(self) -> list[slice]:
        """Cut the rows into pieces of work."""
        each = max(64, (PIECE << 9 if self.like.is_cuda else PIECE) // self.n_classes)
        n_rows = len(self.y_idx)
        return [slice(s, min(s + each, n_rows)) for s in range(0, n_rows, each)]

    def objective(self, spread: Spread) -> Callable[[Tensor], tuple[float, Tensor]]:
        """Return the function from s (C,) float64 to the objective and its gradient."""
        blocks = self.blocks
        scratch = Scratch((blocks[0].stop, self.n_classes), self.like)

        def evaluate(scale: Tensor) -> tuple[float, Tensor]:
            near = scale.to(self.like.dtype)
            parts = list(spread(lambda rows: self._part(near, rows, scratch.block), blocks))
            loss = float(torch.stack([value for value, _ in parts]).sum())
            slope = torch.stack([slope for _, slope in parts]).sum(dim=0, dtype=torch.float64)
            penalty = self.weight_decay / 2 * float(scale @ scale)
            return loss + penalty, slope + self.weight_decay * scale

        return evaluate

    def _part(self, scale: Tensor, rows: slice, scratch: Tensor) -> tuple[Tensor, Tensor]:
        """Return a piece's loss and its slope sum_i u_i (p_i - onehot_i) z_i, (C,)."""
        logits, target = self.logits(rows), self.y_idx[rows].unsqueeze(1)
        weight = self.weights[rows]
        share = torch.mul(logits, scale, out=scratch[: len(logits)])
        losses = softmax_shares(share, target.squeeze(1), lambda lost: logits[lost] * scale)
        slope = weight.to(share.dtype) @ share.mul_(logits)
        own = logits.gather(1, target).squeeze(1)
        slope.scatter_add_(0, target.squeeze(1), -(weight * own).to(slope.dtype))
        return losses.double() @ weight, slope

    def __call__(self, *point: Tensor) -> tuple[float, tuple[Tensor]]:
        """Return the objective at s (C,) and its gradient, everything in float64."""
        (scale,) = point

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            logits, weight = self.logits(rows).double(), self.weights[rows]
            losses, error = cross_entropy(logits * scale, self.y_idx[rows])
            return losses @ weight, weight @ error.mul_(logits)

        with one_thread_each(self.like.is_cuda or len(self.blocks) < 4) as spread:
            losses, slopes = zip(*spread(part, self.blocks), strict=True)
        penalty = self.weight_decay / 2 * (scale @ scale)
        loss, slope = torch.stack(losses).sum(), torch.stack(slopes).sum(dim=0)
        return float(loss + penalty), (slope + self.weight_decay * scale,)

    def product(self, scale: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from a direction (C,) to the Hessian at s (C,) times it, float64."""

        def times(direction: Tensor) -> Tensor:
            def part(rows: slice) -> Tensor:
                logits = self.logits(rows).double()
                share = (logits * scale).softmax(dim=1)
                moved = logits * direction
                moved -= (share * moved).sum(dim=1, keepdim=True)
                return self.weights[rows] @ moved.mul_(share).mul_(logits)

            with one_thread_each(self.like.is_cuda or len(self.blocks) < 4) as spread:
                total = torch.stack(list(spread(part, self.blocks))).sum(dim=0)
            return total + self.weight_decay * direction

        return times

    def hessian(self, scale: Tensor) -> Tensor:
        """Return the second derivatives (C, C) at s (C,), float64.

        sum_i u_i (diag(p_i z_i^2) - (p_i z_i)(p_i z_i)^T) + weight_decay I.
        """
        n_classes = len(scale)
        total = torch.zeros(n_classes, n_classes, dtype=torch.float64, device=scale.device)
        bend = torch.full((n_classes,), self.weight_decay, dtype=torch.float64).to(scale.device)
        for rows in row_blocks(len(self.y_idx), n_classes):
            logits = self.logits(rows)
            share = (logits * scale.to(logits.dtype)).softmax(dim=1).mul_(logits)
            weight = self.weights[rows].to(share.dtype)
            bend += weight @ (share * logits)
            share *= weight.sqrt().unsqueeze(1)
            total -= share.T @ share
        return total + bend.diag()


def best_scale(
    feats: Tensor,
    y_idx: Tensor,
    W: Tensor,
    b: Tensor,
    weight_decay: float,
    weights: Tensor | None = None,
) -> tuple[Tensor, int, Verdict]:
    """Minimise the class-balanced objective in the factors (C,); `weights` (n,) are the rows'.

    First roughly, on a few rows of each class where there is much data; then on all rows from
    there, with the Hessian of the same rows; then by Newton's method, if that was not enough.

    Returns
    -------
    Tensor, int, Verdict
        The factors like `feats`, the evaluations of all rows, and how near the optimum they are.

    Warns
    -----
    ConvergenceWarning
        Where they may lie further above the optimum than `TOLERANCE`.
    """
    tolerance, aim = TOLERANCE[feats.dtype], AIM[feats.dtype]
    like = feats[:0].double() if feats.numel() * len(W) <= FINE else feats
    logits = _logits(feats, W, b, like.dtype)
    each = row_weights(y_idx, len(W), None, weights)
    sample = problem = _Problem(logits, y_idx, each, len(W), weight_decay, like)
    few = few_rows(y_idx, len(W), _rows_a_class(feats, len(W)))
    if len(feats) * len(W) > MANY_LOGITS and 3 * len(few) < len(feats):
        some, labels = logits(few), y_idx[few]
        of_few = row_weights(labels, len(W), None, None if weights is None else weights[few])
        sample = _Problem(some.__getitem__, labels, of_few, len(W), weight_decay, like)
    start = _start(sample, torch.ones(len(W), dtype=torch.float64, device=feats.device))
    start = _solve(sample, start, sample, GAIN_OF_START).point
    found = _solve(problem, start, sample, GAIN_AT_END[like.dtype])
    scale, spent = found.point.to(feats.dtype), found.evaluations
    verdict = judge(problem, (scale.double(),))
    if not verdict.gap <= 2 * aim:
        refined, excess = _refined(problem, found.point, sample, aim)
        scale, spent = refined.point.to(feats.dtype), spent + refined.evaluations
        verdict = judge(problem, (scale.double(),), refined.value - excess)
    warn_if_unfinished(verdict, tolerance, weight_decay, spent)
    return scale, spent, verdict


def _start(sample: _Problem, ones: Tensor) -> Tensor:
    """Return factors (C,) all alike, small enough that the loss is no larger than without scores.

    Where scores are so large that every softmax is 0 or 1, there is no curvature to go by.
    """
    while sample(ones)[0] > math.log(sample.n_classes) and float(ones[0]) > _LEAST_SCALE:
        ones = ones / 10
    return ones


def _refined(problem: _Problem, start: Tensor, sample: _Problem, aim: float) -> tuple[Found, float]:
    """Go on by Newton's method; the Hessian of a sample stands in where one is inverted."""

    def fine(scale: Tensor) -> tuple[float, Tensor]:
        value, (slope,) = problem(scale)
        return value, slope

    def curvature_at(scale: Tensor) -> tuple[Operator, Operator]:
        factor = _factor(sample.hessian(scale))
        return problem.product(scale), lambda slope: torch.cholesky_solve(
            slope.unsqueeze(1), factor
        ).squeeze(1)

    def excess(slope: Tensor) -> float:
        return Verdict.of(0.0, (slope,), problem.weight_decay).excess

    return newton(fine, curvature_at, excess, start, aim=aim, most=LONGEST)


def _rows_a_class(feats: Tensor, n_classes: int) -> int:
    """Return so many that the sample's Hessian costs at most a quarter of the logits."""
    return max(2, min(FEW, feats.numel() // (4 * n_classes**2)))


def _logits(feats: Tensor, W: Tensor, b: Tensor, dtype: torch.dtype) -> Callable[[Any], Tensor]:
    """Return a function from rows to logits in `dtype`, kept where they fit in memory."""
    W, b = W.to(dtype), b.to(dtype)
    if len(feats) * len(W) > KEPT:
        return lambda rows: linear_scores(feats[rows].to(dtype), W, b)
    return linear_scores(feats.to(dtype), W, b).__getitem__


def _solve(problem: _Problem, start: Tensor, sample: _Problem, gain: float) -> Found:
    """Minimise from a start (C,), in coordinates that the Hessian of a sample there makes round."""
    factor = _factor(sample.hessian(start))
    with one_thread_each(problem.like.is_cuda or len(problem.blocks) < 4) as spread:
        objective = problem.objective(spread)

        def rounded(point: Tensor) -> tuple[float, Tensor]:
            value, slope = objective(_solved(factor.T, point, upper=True))
            return value, _solved(factor, slope)

        def done(value: float, slope: Tensor) -> bool:
            return float(slope @ slope) / 2 <= gain * value

        found = minimise(rounded, factor.T @ start, done, MOST, gain)
    return Found(
        _solved(factor.T, found.point, upper=True),
        found.value,
        factor @ found.gradient,
        found.evaluations,
    )


def _factor(hessian: Tensor) -> Tensor:
    """Return the lower factor L (C, C) of a Hessian L L^T, a little stiffened where it is flat.

    Of large logits the shares in float32 leave a Hessian that is not quite positive, and it takes
    more.
    """
    diagonal = hessian.diagonal()
    for part in (1e-3, 1e-1, 10.0):
        stiff = diagonal + part * diagonal.abs().mean() + 1e-12
        factor, failed = torch.linalg.cholesky_ex(hessian.diagonal_scatter(stiff))
        if not bool(failed):
            return factor
    return (diagonal.abs() + diagonal.abs().mean() + 1e-12).sqrt().diag()


def _solved(factor: Tensor, right: Tensor, *, upper: bool = False) -> Tensor:
    return torch.linalg.solve_triangular(factor, right.unsqueeze(1), upper=upper).squeeze(1)
