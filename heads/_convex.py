"""The weighted softmax objective, and its solution in well-conditioned coordinates.

    sum_i u(y_i) CE(y_i, W x_i + b + base_i) + (weight_decay / 2) ||(W, b) - anchor||^2

with a weight u for each class: 1 / (C n_c) is class-balanced sampling in expectation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from heads._arrays import Scratch, one_thread_each, row_blocks
from heads._lbfgs import Found, minimise
from heads._linear import softmax_shares
from heads._weighting import class_counts

__all__ = ["Basis", "Problem", "class_weights", "principal_basis", "row_weights", "solve"]

# Scores of one block of an evaluation (4 MB in float32), and blocks whose gradients are held.
BLOCK, WAVE = 1 << 20, 16


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
    """Coordinates z = (x - centre) @ into, (r,); scores are z U^T + v.

    W = U into^T and b = v - W centre.
    """

    centre: Tensor  # (D,)
    into: Tensor  # (D, r)

    def coordinates(self, feats: Tensor) -> Tensor:
        """Return Z (n, r) like `feats` (n, D), in blocks."""
        shift = self.centre @ self.into
        out = feats.new_empty(len(feats), self.into.shape[1])
        for rows in row_blocks(len(feats), feats.shape[1]):
            torch.addmm(-shift, feats[rows], self.into, out=out[rows])
        return out

    def linear(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return W (C, D) and b (C,) of a point (C, r + 1)."""
        W = point[:, :-1] @ self.into.T
        return W, point[:, -1] - W @ self.centre

    def point(self, W: Tensor, b: Tensor) -> Tensor:
        """Return the coordinates (C, r + 1) of W and b, where `into` has orthogonal columns."""
        scale = self.into.square().sum(dim=0)
        U = (W @ self.into) / scale
        return torch.cat([U, (b + W @ self.centre).unsqueeze(1)], dim=1)

    def metric(self) -> Tensor:
        """Return K (r + 1, r + 1), float64, with ||(W, b)||^2 = trace(point K point^T)."""
        into, centre = self.into.double(), self.centre.double()
        shift = centre @ into
        inner = into.T @ into + torch.outer(shift, shift)
        top = torch.cat([inner, -shift.unsqueeze(1)], dim=1)
        side = torch.cat([-shift, shift.new_ones(1)]).unsqueeze(0)
        return torch.cat([top, side], dim=0)


def principal_basis(
    feats: Tensor, row_weight: Tensor, rank: int, floor: float, seed: int = 0
) -> Basis:
    """Return whitened principal directions of the weighted covariance of feats (n, D).

    Directions come from a randomised range finder with two power iterations (Halko, Martinsson
    and Tropp, SIAM Review 2011, algorithm 4.4), or from all D where `rank` is as large. Each is
    divided by sqrt(variance + floor), so that directions of little variance are not blown up.
    """
    n, width = feats.shape
    share = (row_weight / row_weight.sum()).to(feats.dtype)
    centre = share @ feats

    def covariance(directions: Tensor) -> Tensor:
        """Multiply directions (D, k) by the covariance (D, D), never made."""
        total = torch.zeros_like(directions)
        for rows in row_blocks(n, width):
            z = feats[rows] @ directions - centre @ directions
            total += feats[rows].T @ (z * share[rows].unsqueeze(1))
        return total

    if rank + 32 < width:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(width, rank + 32, generator=generator).to(feats)
        for _ in range(3):
            drawn = torch.linalg.qr(covariance(drawn)).Q
    else:
        drawn = torch.eye(width, dtype=feats.dtype, device=feats.device)
    inner = drawn.T @ covariance(drawn)
    variance, turn = torch.linalg.eigh((inner + inner.T).double() / 2)
    # Directions without variance are rounding: blown up, they would only slow the search down.
    seen = int((variance > width * torch.finfo(torch.float64).eps * variance[-1]).sum())
    kept = max(1, min(rank, seen))
    variance, turn = variance.flip(0)[:kept].clamp(min=0), turn.flip(1)[:, :kept].to(feats.dtype)
    scale = (variance + floor * variance.sum() / len(variance)).clamp(min=1e-30).rsqrt()
    into = drawn @ turn * scale.to(feats.dtype)
    if kept < min(rank, width):
        into = _with_centre(into, drawn @ turn, centre)
    return Basis(centre, into)


def _with_centre(into: Tensor, directions: Tensor, centre: Tensor) -> Tensor:
    """Add what the centre has outside of orthonormal directions (D, r), as one more.

    No row varies along it, but with a weight there the penalty is shared with the bias.
    """
    rest = centre - directions @ (directions.T @ centre)
    length = rest.norm()
    if length <= 1e-6 * centre.norm():
        return into
    return torch.cat([into, (rest / length).unsqueeze(1)], dim=1)


@dataclass(frozen=True)
class Problem:
    """Rows in coordinates Z (n, r), labels (n,), weights (n,), metric, and base logits."""

    Z: Tensor
    y_idx: Tensor
    n_classes: int
    weights: Tensor
    metric: Tensor
    base: Callable[[slice], Tensor] | None = None  # logits (k, C) added to a block's

    @cached_property
    def moments(self) -> Tensor:
        """Return the weighted second moment of each coordinate and of the constant, (r + 1,)."""
        weight = self.weights
        total = weight.new_zeros(self.Z.shape[1] + 1)
        for rows in row_blocks(len(self.Z), self.Z.shape[1]):
            total[:-1] += weight[rows].to(self.Z.dtype) @ self.Z[rows].square()
        total[-1] = weight.sum()
        return total

    @property
    def rows_each(self) -> int:
        """Return how many rows are one block; no fewer than r / 2, as each has a gradient."""
        scores = BLOCK << 6 if self.Z.is_cuda else BLOCK
        return max(64, scores // self.n_classes, self.Z.shape[1] // 2)

    def _scores(self, rows: slice, point: Tensor, out: Tensor) -> Tensor:
        scores = torch.addmm(point[:, -1], self.Z[rows], point[:, :-1].T, out=out)
        return scores if self.base is None else scores.add_(self.base(rows))

    def _again(self, rows: slice, point: Tensor, lost: Tensor) -> Tensor:
        return self._scores(rows, point, point.new_empty(len(self.Z[rows]), len(point)))[lost]

    def value_and_gradient(self, point: Tensor, weight_decay: float) -> tuple[float, Tensor]:
        """Return the objective at a point (C, r + 1) and its gradient there.

        Products in the dtype of Z; losses, penalty and sums over blocks in float64.
        """
        near = point.to(self.Z.dtype)
        loss = point.new_zeros((), dtype=torch.float64)
        slope = torch.zeros_like(point, dtype=torch.float64)
        blocks = [
            slice(start, min(start + self.rows_each, len(self.Z)))
            for start in range(0, len(self.Z), self.rows_each)
        ]
        scratch = Scratch((blocks[0].stop, len(point)), self.Z)
        with one_thread_each(self.Z.is_cuda or len(blocks) < 4) as spread:
            for first in range(0, len(blocks), WAVE):  # so many parts are held at once
                wave = blocks[first : first + WAVE]
                for value, part in spread(partial(self._part, near, scratch), wave):
                    loss += value
                    slope += part
        pull = weight_decay * (point.double() @ self.metric)
        penalty = (pull * point).sum() / 2
        return float(loss + penalty), (slope + pull).to(point.dtype)

    def _part(self, point: Tensor, scratch: Scratch, rows: slice) -> tuple[Tensor, Tensor]:
        """Return a block's loss and its gradient (C, r + 1)."""
        block, target = self.Z[rows], self.y_idx[rows]
        weight = self.weights[rows]
        share = self._scores(rows, point, scratch.block[: len(block)])
        losses = softmax_shares(share, target, partial(self._again, rows, point))
        share[torch.arange(len(block), device=block.device), target] -= 1
        near = weight.to(block.dtype)
        slope = torch.empty_like(point)
        torch.mm(share.T, block * near.unsqueeze(1), out=slope[:, :-1])
        slope[:, -1] = near @ share
        return losses.double() @ weight, slope


def solve(
    problem: Problem,
    start: Tensor,
    weight_decay: float,
    *,
    most: int,
    tolerance: float,
    decrease: float = 0.0,
) -> Found:
    """Minimise from a start (C, r + 1) until no entry of the gradient exceeds `tolerance`."""
    least = 1e-9 if problem.Z.dtype == torch.float32 else 0.0
    # Of a softmax over C classes that each take their share, the curvature in a coordinate is
    # about its second moment / C; with the penalty's it conditions each column.
    bend = problem.moments / len(start) + weight_decay * problem.metric.diagonal()
    scale = bend.rsqrt().to(start.dtype)

    def objective(scaled: Tensor) -> tuple[float, Tensor]:
        value, slope = problem.value_and_gradient(scaled * scale, weight_decay)
        return value, slope * scale

    found = minimise(
        objective,
        start / scale,
        lambda slope: float((slope / scale).abs().max()) <= tolerance,
        most,
        max(least, decrease),
    )
    return Found(found.point * scale, found.value, found.gradient / scale, found.evaluations)
