"""The weighted softmax objective, and its solution in well-conditioned coordinates.

    sum_i u(y_i) CE(y_i, W x_i + b + base_i) + (weight_decay / 2) ||(W, b) - anchor||^2

with a weight u for each class: 1 / (C n_c) is class-balanced sampling in expectation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from heads._arrays import Scratch, one_thread_each, row_blocks
from heads.solvers.lbfgs import Found, minimise
from heads.solvers.linear import softmax_shares
from heads.solvers.softmax import cross_entropy
from heads.solvers.weighting import class_counts

__all__ = [
    "Basis",
    "Curvature",
    "Problem",
    "class_weights",
    "principal_basis",
    "row_weights",
    "solve",
]

# Scores of one block of an evaluation (4 MB in float32), and blocks whose gradients are held.
BLOCK, WAVE = 1 << 20, 16
# Multiplications up to which the Hessian's block of every class is formed and factored, and the
# numbers in those blocks; beyond either its diagonal stands for it.
BLOCK_WORK, BLOCK_SIZE = 1 << 33, 1 << 27
# Softmax shares kept while a system is solved; above, they are computed for every product.
SHARES = 1 << 28


def class_weights(counts: Tensor, shares: Tensor | None = None) -> Tensor:
    """Return the weight of a row of each class (C,), float64: its class's share over its rows.

    `shares` (C,) are the same for all classes that have rows where None are given; a class
    without rows has weight 0.
    """
    n_c = counts.double()
    present = (n_c > 0).double()
    parts = present / present.sum() if shares is None else shares * present
    return parts / torch.where(n_c > 0, n_c, 1.0)


def row_weights(
    y_idx: Tensor, n_classes: int, shares: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Return each row's part (n,), float64, of a sum over rows: its class's share, by its weight.

    `weights` (n,) are those of the rows within their classes; None: all the same.
    """
    of_class = class_weights(class_counts(y_idx, n_classes, weights), shares)[y_idx]
    return of_class if weights is None else of_class * weights


@dataclass(frozen=True)
class Basis:
    """Coordinates z = (x, 1) @ into, (r,); scores are z point^T.

    (W, b) = point @ into^T. The columns of `into` are orthogonal, so that the squared norm of
    (W, b) is that of the point, coordinate by coordinate times `stretch`.
    """

    into: Tensor  # (D + 1, r), float64

    def coordinates(self, feats: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return Z (n, r) of `feats` (n, D), in blocks; computed in `dtype`, else as they are."""
        dtype = feats.dtype if dtype is None else dtype
        out = feats.new_empty(len(feats), self.into.shape[1], dtype=dtype)
        into = self.into.to(dtype)
        for rows in row_blocks(len(feats), feats.shape[1]):
            torch.addmm(into[-1], feats[rows].to(dtype), into[:-1], out=out[rows])
        return out

    def linear(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return W (C, D) and b (C,) of a point (C, r)."""
        both = point @ self.into.T
        return both[:, :-1], both[:, -1]

    def point(self, W: Tensor, b: Tensor) -> Tensor:
        """Return the coordinates (C, r) of W and b."""
        return self.slope(W, b) / self.stretch

    def slope(self, dW: Tensor, db: Tensor) -> Tensor:
        """Return the gradient (C, r) in the coordinates, of that in W and b."""
        return torch.cat([dW, db.unsqueeze(1)], dim=1) @ self.into

    @cached_property
    def stretch(self) -> Tensor:
        """Return the squared length of each column, (r,), float64."""
        return self.into.square().sum(dim=0)


def principal_basis(feats: Tensor, row_weight: Tensor, rank: int, seed: int = 0) -> Basis:
    """Return whitened principal directions of the weighted second moments of (x, 1).

    `feats` is (n, D), `row_weight` (n,). The directions lie in the span of the constant, the mean
    and: where `rank` is well below D, `rank` directions of a randomised range finder with two power
    iterations (Halko, Martinsson and Tropp, SIAM Review 2011, algorithm 4.4); else the rows where
    they are fewer than D, and everything where not. None of them is left out, however small its
    moment: the constant's, beside large features, is small too. The mean is a direction like
    others, so the penalty, which weighs the bias too, is a sum over coordinates.
    """
    share = (row_weight / row_weight.sum()).double()
    mean = torch.zeros(feats.shape[1], dtype=torch.float64, device=feats.device)
    for rows in row_blocks(*feats.shape):
        mean += share[rows] @ feats[rows].double()
    drawn, second = _moments(feats, share, mean, rank, seed)
    moment, turn = torch.linalg.eigh(second)
    into = torch.cat([drawn @ turn[:-1], turn[-1:]])
    # Blown up further, directions without any rows would be rounding; `solve` scales by curvature.
    least = torch.finfo(feats.dtype).eps ** (2 / 3) * moment[-1]
    into = (into * moment.clamp(min=least).rsqrt())[:, -len(feats) :]  # n rows span n at most
    return Basis(into.flip(1))


def _moments(
    feats: Tensor, share: Tensor, mean: Tensor, rank: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return orthonormal directions (D, k) and the second moments of (x @ directions, 1).

    Both float64, (k + 1, k + 1) the moments: the covariance, of centred rows, and the mean's part.
    """
    n, width = feats.shape

    def centred(rows: slice) -> Tensor:
        return (feats[rows].double() - mean) * share[rows].sqrt().unsqueeze(1)

    if rank + 2 < width:
        drawn = _range(feats, share.to(feats.dtype), mean.to(feats.dtype), rank, seed)
        spread = _covariance(feats, share.to(feats.dtype), mean.to(feats.dtype), drawn)
        varies, drawn = (drawn.T @ spread).double(), drawn.double()
    elif n < width:
        rows = centred(slice(n))
        drawn = torch.linalg.qr(torch.cat([rows.T, mean.unsqueeze(1)], dim=1)).Q
        varies = (rows @ drawn).T @ (rows @ drawn)
    else:
        drawn = torch.eye(width, dtype=torch.float64, device=feats.device)
        varies = torch.zeros_like(drawn)
        for block in map(centred, row_blocks(n, width)):
            varies.addmm_(block.T, block)
    far = _with_one((mean @ drawn).unsqueeze(0))
    second = far.T @ far
    second[:-1, :-1] += (varies + varies.T) / 2
    return drawn, second


def _range(feats: Tensor, share: Tensor, mean: Tensor, rank: int, seed: int) -> Tensor:
    """Return orthonormal directions (D, rank + 1): principal ones, about, and the mean."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(feats.shape[1], rank, generator=generator).to(feats)
    for _ in range(3):
        drawn = torch.linalg.qr(_covariance(feats, share, mean, drawn)).Q
    return torch.linalg.qr(torch.cat([drawn, mean.unsqueeze(1)], dim=1)).Q


def _covariance(feats: Tensor, share: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """Multiply directions (D, k) by the weighted covariance (D, D), which is never made."""
    total = torch.zeros_like(directions)
    for rows in row_blocks(*feats.shape):
        z = feats[rows] @ directions - mean @ directions
        total += feats[rows].T @ (z * share[rows].unsqueeze(1))
    return total


def _with_one(rows: Tensor) -> Tensor:
    """Return (x, 1) for each row (k, D)."""
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


@dataclass(frozen=True)
class Problem:
    """Rows in coordinates Z (n, r), labels (n,), weights (n,), stretch (r,), and base logits.

    A point (C, r) is measured from the anchor (C, r), if any, as the penalty is. So is one that
    lies outside the coordinates, but its scores stand in `base` then.
    """

    Z: Tensor
    y_idx: Tensor
    n_classes: int
    weights: Tensor
    stretch: Tensor
    base: Callable[[slice], Tensor] | None = None  # logits (k, C) added to a block's
    anchor: Tensor | None = None

    @cached_property
    def moments(self) -> Tensor:
        """Return the weighted second moment of each coordinate, (r,)."""
        total = self.weights.new_zeros(self.Z.shape[1])
        for rows in row_blocks(len(self.Z), self.Z.shape[1]):
            total += self.weights[rows].to(self.Z.dtype) @ self.Z[rows].square()
        return total

    @property
    def is_small(self) -> bool:
        """Tell whether the Hessian's blocks of all classes, (C, r, r), can be formed."""
        size = self.n_classes * self.Z.shape[1] ** 2
        return size <= BLOCK_SIZE and size * len(self.Z) <= BLOCK_WORK

    @property
    def rows_each(self) -> int:
        """Return how many rows are one block; no fewer than r / 2, as each has a gradient."""
        scores = BLOCK << 6 if self.Z.is_cuda else BLOCK
        return max(64, scores // self.n_classes, self.Z.shape[1] // 2)

    def _moved(self, point: Tensor) -> Tensor:
        """Return a point from zero instead of from the anchor, like Z."""
        return (point if self.anchor is None else point + self.anchor).to(self.Z.dtype)

    def _scores(self, rows: slice, point: Tensor, out: Tensor) -> Tensor:
        scores = torch.mm(self.Z[rows], point.T, out=out)
        return scores if self.base is None else scores.add_(self.base(rows))

    def _again(self, rows: slice, point: Tensor, lost: Tensor) -> Tensor:
        return self._scores(rows, point, point.new_empty(len(self.Z[rows]), len(point)))[lost]

    def value_and_gradient(self, point: Tensor, weight_decay: float) -> tuple[float, Tensor]:
        """Return the objective at a point (C, r) and its gradient there.

        Products in the dtype of Z; losses, penalty and sums over blocks in float64.
        """
        near = self._moved(point)
        scratch = Scratch((min(self.rows_each, len(self.Z)), len(point)), self.Z)
        loss, slope = self.sums(partial(self._part, near, scratch))
        pull = weight_decay * self.stretch * point.double()
        penalty = (pull * point).sum() / 2
        return float(loss + penalty), (slope + pull).to(point.dtype)

    def sums(self, part: Callable[[slice], tuple[Tensor, ...]]) -> list[Tensor]:
        """Return the sums over all blocks of rows, float64, of the tensors that `part` returns."""
        starts = range(0, len(self.Z), self.rows_each)
        blocks = [slice(start, min(start + self.rows_each, len(self.Z))) for start in starts]
        totals: list[Tensor] = []
        with one_thread_each(self.Z.is_cuda or len(blocks) < 4) as spread:
            for first in range(0, len(blocks), WAVE):  # so many parts are held at once
                for found in spread(part, blocks[first : first + WAVE]):
                    totals = totals or [torch.zeros_like(f, dtype=torch.float64) for f in found]
                    for total, tensor in zip(totals, found, strict=True):
                        total += tensor
        return totals

    def _part(self, point: Tensor, scratch: Scratch, rows: slice) -> tuple[Tensor, Tensor]:
        """Return a block's loss and its gradient (C, r)."""
        block, target = self.Z[rows], self.y_idx[rows]
        weight = self.weights[rows]
        share = self._scores(rows, point, scratch.block[: len(block)])
        losses = softmax_shares(share, target, partial(self._again, rows, point))
        share[torch.arange(len(block), device=block.device), target] -= 1
        return losses.double() @ weight, share.T @ (block * weight.to(block.dtype).unsqueeze(1))

    def exactly(self, point: Tensor, weight_decay: float) -> tuple[float, Tensor]:
        """Return the same in float64 throughout, small losses to all their digits; Z is float64."""
        near = self._moved(point)

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            block, weight = self.Z[rows], self.weights[rows]
            scores = self._scores(rows, near, block.new_empty(len(block), len(near)))
            losses, error = cross_entropy(scores, self.y_idx[rows])
            error *= weight.unsqueeze(1)
            return losses @ weight, error.T @ block

        loss, slope = self.sums(part)
        pull = weight_decay * self.stretch * point
        return float(loss + (pull * point).sum() / 2), slope + pull

    def excess(self, slope: Tensor, weight_decay: float) -> float:
        """Return by how much a point of this gradient (C, r) can lie above the optimum, at most.

        The penalty alone curves every direction of (W, b) by the weight decay, so the excess is at
        most ||gradient||^2 / (2 weight decay), the gradient being that in (W, b).
        """
        if weight_decay == 0:
            return math.inf
        return float((slope.double().square() / self.stretch).sum()) / (2 * weight_decay)

    def shares(self, point: Tensor) -> Callable[[slice], Tensor]:
        """Return a function from rows to their softmax shares (k, C) at a point (C, r)."""
        near = self._moved(point)

        def compute(rows: slice) -> Tensor:
            scores = self.Z.new_empty(len(self.Z[rows]), len(near))
            return torch.softmax(self._scores(rows, near, scores), dim=1)

        if len(self.Z) * len(point) > SHARES:
            return compute
        kept = torch.cat([compute(rows) for rows in row_blocks(len(self.Z), max(near.shape))])
        return kept.__getitem__


class Curvature:
    """The Hessian of a problem at a point, as products, and a stand-in that is quickly inverted."""

    def __init__(self, problem: Problem, point: Tensor, weight_decay: float) -> None:
        self.problem = problem
        self.penalty = weight_decay * problem.stretch
        self.shares = problem.shares(point)
        self._factors = self._of_classes() if problem.is_small else self._diagonal()

    def times(self, direction: Tensor) -> Tensor:
        """Return the Hessian times a direction (C, r)."""
        problem, near = self.problem, direction.to(self.problem.Z.dtype)

        def part(rows: slice) -> tuple[Tensor]:
            block, share = problem.Z[rows], self.shares(rows)
            moved = block @ near.T
            moved -= (share * moved).sum(dim=1, keepdim=True)
            moved *= share
            moved *= problem.weights[rows].to(moved.dtype).unsqueeze(1)
            return (moved.T @ block,)

        return problem.sums(part)[0] + self.penalty * direction

    def undone(self, slope: Tensor) -> Tensor:
        """Return the direction (C, r) that the stand-in takes to `slope`.

        Moving all classes alike changes no loss, only the penalty, so the optimum's mean over the
        classes is zero, and every direction's is.
        """
        if self.problem.is_small:
            found = torch.cholesky_solve(slope.unsqueeze(2), self._factors).squeeze(2)
        else:
            found = slope / self._factors
        return found - found.mean(dim=0)

    def _weight(self, rows: slice) -> Tensor:
        """Return the weight of rows in the block of every class, u p (1 - p), (k, C)."""
        share = self.shares(rows)
        return share * (1 - share) * self.problem.weights[rows].to(share.dtype).unsqueeze(1)

    def _of_classes(self) -> Tensor:
        """Return the Cholesky factors (C, r, r) of the blocks of the classes."""
        Z = self.problem.Z
        weight = self._weight(slice(len(Z))).T
        blocks = torch.stack([(Z.T * of_class) @ Z for of_class in weight]).double()
        diagonal = blocks.diagonal(dim1=1, dim2=2)
        # Rounding may leave a direction without curvature a little below zero.
        diagonal += self.penalty + torch.finfo(Z.dtype).eps * diagonal.amax(dim=1, keepdim=True)
        return torch.linalg.cholesky(blocks)

    def _diagonal(self) -> Tensor:
        problem = self.problem
        (bend,) = problem.sums(lambda rows: (self._weight(rows).T @ problem.Z[rows].square(),))
        return bend + self.penalty + torch.finfo(torch.float64).tiny


def solve(
    problem: Problem, start: Tensor, weight_decay: float, *, most: int, tolerance: float
) -> Found:
    """Minimise from a start (C, r) until the excess over the optimum is small, by L-BFGS.

    It ends where the excess is at most `tolerance`, relative to the objective, after `most`
    evaluations, or where rounding lets it go no further.
    """
    least = 1e-9 if problem.Z.dtype == torch.float32 else 0.0
    # Of a softmax over C classes that each take their share, the curvature in a coordinate is
    # about its second moment / C; with the penalty's it conditions each column.
    bend = problem.moments / len(start) + weight_decay * problem.stretch
    scale = bend.rsqrt().to(start.dtype)

    def objective(scaled: Tensor) -> tuple[float, Tensor]:
        value, slope = problem.value_and_gradient(scaled * scale, weight_decay)
        return value, slope * scale

    def done(value: float, slope: Tensor) -> bool:
        return problem.excess(slope / scale, weight_decay) <= tolerance * value

    found = minimise(objective, start / scale, done, most, least)
    return Found(found.point * scale, found.value, found.gradient / scale, found.evaluations)
