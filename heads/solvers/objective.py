"""The softmax objective that the linear heads minimise: value, gradient and Hessian products."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from heads._arrays import Scratch, one_thread_each, row_blocks
from heads.balancing.weighting import class_shares
from heads.solvers.coordinates import Basis, FeaturesAndOne, as_one
from heads.solvers.linear import cross_entropy_and_error, linear_scores, softmax_shares
from heads.solvers.rows import TrainingRows

__all__ = [
    "KEPT",
    "Goal",
    "SoftmaxObjective",
    "added_up",
    "natural",
]

# Scores of one block of an evaluation (4 MB in float32), and blocks whose gradients are held.
BLOCK, WAVE = 1 << 20, 16
# Softmax shares kept while a system is solved. Above, they are computed for every product.
SHARES = 1 << 28
# Logits of an anchor kept in memory up to this many numbers. Above, they are computed block by
# block.
KEPT = 1 << 28

Spread = Callable[..., Iterable[Any]]
# From a slice of rows to their softmax (k, C).
Probabilities = Callable[[slice], Tensor]


@dataclass(frozen=True, eq=False)
class Goal:
    """What a softmax head minimises, apart from the rows and the weight decay.

    Attributes
    ----------
    class_shares : Tensor of shape (C,), optional
        Each class's part of the loss, summing to 1; None gives all classes with rows the same.
    log_prior : Tensor of shape (C,), optional
        Added to every row's scores in training: balanced softmax's log n_c.
    anchor : tuple of Tensors of shape (C, D) and (C,), optional
        The W and b that the penalty is measured from; None is zero.
    """

    class_shares: Tensor | None = None
    log_prior: Tensor | None = None
    anchor: tuple[Tensor, Tensor] | None = None

    def loss_shares(self, train: TrainingRows) -> Tensor:
        """Return each row's part u_i of the loss (n,), float64."""
        return train.loss_shares(self.class_shares)


def natural(train: TrainingRows) -> Goal:
    """Return the goal of the mean cross-entropy over all rows as they come, by sample weight."""
    return Goal(class_shares(train.class_counts(), 1.0))


@dataclass(frozen=True, eq=False)
class SoftmaxObjective:
    """The penalised softmax cross-entropy of a linear classifier, for every head that solves one.

    The classifier is A + T: an anchor A (C, r), zero where there is none, and the point T (C, r)
    that is sought. Of rows z_i (r,) with labels y_i, the objective is::

        f(T) = sum_i u_i CE(y_i, s_i) + (weight_decay / 2) sum_cj stretch_j T_cj^2
        s_i = (A + T) z_i + offset_i                      the scores of a row, (C,)
        CE(y, s) = log(sum_c exp(s_c)) - s_y

    With p_i = softmax(s_i), (C,), and e_y the one-hot label, its gradient (C, r) and the product of
    its Hessian with a direction V (C, r) are::

        G(T) = sum_i u_i (p_i - e_{y_i}) z_i^T + weight_decay T diag(stretch)
        H(T) V = sum_i u_i (diag(p_i) - p_i p_i^T) V z_i z_i^T + weight_decay V diag(stretch)

    Two choices of the rows describe the same problem. `on_features` takes z = (x, 1) and stretch 1:
    then A + T is (W, b), and the penalty is (weight_decay / 2) ||(W, b) - A||^2, in which the bias
    counts as W does. `in_coordinates` takes the rows in a `Basis`, where solvers go faster.

    The parts u_i are at least 0 and sum to 1, so the loss is a weighted mean, and the weight decay
    has the same meaning for any number of rows. Each head sets them and the rest as follows, with
    w_i the sample weight (1 where none is given) and W_c the sum of w_i in class c:

    - joint: u_i = w_i / sum_k w_k.
    - cRT: u_i = a_c w_i / W_c for a row of class c, with a_c the class's share of the loss; 1 / C
      is class-balanced sampling in expectation.
    - balanced softmax: joint's u_i, and offset_i = log(W_c / sum_k W_k) for class c.
    - anchored: any of these with A, for example stage 1's classifier.

    Attributes
    ----------
    Z : Tensor of shape (n, r), or `FeaturesAndOne`
        The rows z_i, float32 or float64.
    y_idx : Tensor of shape (n,), int64 in 0..C-1
    n_classes : int
    loss_share : Tensor of shape (n,), float64
        u_i.
    weight_decay : float
        At least 0. Without one the objective may have no minimum.
    stretch : Tensor of shape (r,), float64
    offset : callable, optional
        From a slice of rows to what is added to their scores, (k, C) or (C,), in the dtype of Z.
    anchor : Tensor of shape (C, r), float64, optional
        A. An anchor that lies outside the coordinates has its scores in `offset` instead.

    References
    ----------
    Bishop, "Pattern Recognition and Machine Learning" (2006), equations 4.108 to 4.110. Kang et
    al., "Decoupling Representation and Classifier for Long-Tailed Recognition" (ICLR 2020),
    equation 1, for the class shares. Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual
    Recognition" (NeurIPS 2020), equation 3, for the offset.
    """

    Z: Tensor | FeaturesAndOne
    y_idx: Tensor
    n_classes: int
    loss_share: Tensor
    weight_decay: float
    stretch: Tensor
    offset: Callable[[slice], Tensor] | None = None
    anchor: Tensor | None = None

    @classmethod
    def on_features(cls, train: TrainingRows, goal: Goal, weight_decay: float) -> SoftmaxObjective:
        """Return the objective in (W, b) itself, (C, D + 1), in float64 throughout."""
        Z = FeaturesAndOne(train.feats)
        stretch = torch.ones(Z.shape[1], dtype=torch.float64, device=train.feats.device)
        offset = score_offset(train.feats, replace(goal, anchor=None), torch.float64)
        anchor = None if goal.anchor is None else as_one(*goal.anchor)
        share = goal.loss_shares(train)
        return cls(Z, train.y_idx, train.n_classes, share, weight_decay, stretch, offset, anchor)

    @classmethod
    def in_coordinates(
        cls,
        train: TrainingRows,
        goal: Goal,
        weight_decay: float,
        basis: Basis,
        dtype: torch.dtype,
    ) -> SoftmaxObjective:
        """Return the objective in the coordinates of a basis.

        Parameters
        ----------
        train : TrainingRows
        goal : Goal
        weight_decay : float
        basis : Basis
            Where it spans all directions, or all rows, the anchor becomes a point of it.
        dtype : torch.dtype
            What the rows are stored in, and products are computed in.
        """
        Z, anchor = basis.coordinates(train.feats, dtype), None
        if goal.anchor is not None and Z.shape[1] in (len(train), train.feats.shape[1] + 1):
            # The coordinates span the rows, so they can hold the scores of the anchor. Kept apart
            # from those of the point, both would be large and cancel.
            anchor = basis.point(as_one(*goal.anchor))
            goal = replace(goal, anchor=None)
        offset = score_offset(train.feats, goal, dtype)
        share = goal.loss_shares(train)
        return cls(
            Z, train.y_idx, train.n_classes, share, weight_decay, basis.stretch, offset, anchor
        )

    def point(self, W: Tensor, b: Tensor) -> Tensor:
        """Return the point (C, D + 1) of W (C, D) and b (C,), of an objective `on_features`."""
        linear = as_one(W, b)
        return linear if self.anchor is None else linear - self.anchor

    def at(self, weight_decay: float) -> SoftmaxObjective:
        """Return the objective with another weight decay."""
        return replace(self, weight_decay=weight_decay)

    @cached_property
    def moments(self) -> Tensor:
        """Return the second moment of each coordinate, (r,), each row by its part of the loss."""
        total = self.loss_share.new_zeros(self.Z.shape[1])
        for rows in row_blocks(len(self.Z), self.Z.shape[1]):
            total += self.loss_share[rows].to(self.Z.dtype) @ self.Z[rows].square()
        return total

    @property
    def blocks(self) -> list[slice]:
        """Cut the rows into blocks of no fewer than r / 2 rows, as each has a gradient."""
        if isinstance(self.Z, FeaturesAndOne):
            return list(row_blocks(len(self.Z), max(self.n_classes, self.Z.shape[1])))
        scores = BLOCK << 6 if self.Z.is_cuda else BLOCK
        each = max(64, scores // self.n_classes, self.Z.shape[1] // 2)
        return [slice(s, min(s + each, len(self.Z))) for s in range(0, len(self.Z), each)]

    def value_and_gradient(self, point: Tensor) -> tuple[float, Tensor]:
        """Return the objective at a point (C, r) and its gradient there, (C, r).

        Products are in the dtype of Z; losses, penalty and sums over blocks in float64. Rows that
        are put together from features are read in float64 as in `exactly`.
        """
        if isinstance(self.Z, FeaturesAndOne):
            return self.exactly(point)
        near = self._moved(point)
        scratch = Scratch((self.blocks[0].stop, len(point)), self.Z)
        return self._penalised(point, self.sums(partial(self._part, near, scratch)))

    def exactly(self, point: Tensor) -> tuple[float, Tensor]:
        """Return the same in float64 throughout, with all digits of small losses.

        The value is that of the given rows only where Z is float64 or `FeaturesAndOne`.
        """
        near = self._moved(point)

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            block, share = self.Z[rows], self.loss_share[rows]
            scores = self._scores(block, rows, near)
            losses, error = cross_entropy_and_error(scores, self.y_idx[rows])
            error *= share.unsqueeze(1)
            return losses @ share, error.T @ block

        return self._penalised(point, self.sums(part))

    def hessian_product(
        self, point: Tensor, probabilities: Probabilities | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Return the function from a direction (C, r) to the Hessian at a point (C, r) times it.

        `probabilities` are what the method of that name gives for the point, where they are known.
        """
        softmax = self.probabilities(point) if probabilities is None else probabilities

        def times(direction: Tensor) -> Tensor:
            near = direction.to(self.Z.dtype)

            def part(rows: slice) -> tuple[Tensor]:
                block, p = self.Z[rows], softmax(rows)
                moved = block @ near.T
                moved -= (p * moved).sum(dim=1, keepdim=True)
                moved *= p
                moved *= self.loss_share[rows].to(moved.dtype).unsqueeze(1)
                return (moved.T @ block,)

            return self.sums(part)[0] + self.weight_decay * self.stretch * direction

        return times

    def excess(self, gradient: Tensor) -> float:
        """Return by how much a point of this gradient (C, r) can lie above the optimum, at most.

        The penalty alone curves every direction of (W, b) by the weight decay, so the excess is at
        most ||gradient||^2 / (2 weight_decay), the gradient being that in (W, b).
        """
        if self.weight_decay == 0:
            return math.inf
        square = float((gradient.double().square() / self.stretch).sum())
        return square / (2 * self.weight_decay)

    def probabilities(self, point: Tensor) -> Probabilities:
        """Return a function from rows to their softmax (k, C) at a point (C, r)."""
        near = self._moved(point)

        def compute(rows: slice) -> Tensor:
            return torch.softmax(self._scores(self.Z[rows], rows, near), dim=1)

        if len(self.Z) * len(point) > SHARES:
            return compute
        kept = torch.cat([compute(rows) for rows in row_blocks(len(self.Z), max(near.shape))])
        return kept.__getitem__

    def _moved(self, point: Tensor) -> Tensor:
        """Return the classifier A + T of a point T, in the dtype of Z."""
        return (point if self.anchor is None else point + self.anchor).to(self.Z.dtype)

    def _scores(
        self, block: Tensor, rows: slice, near: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """Return the scores (k, C) of a block of rows (k, r), at a classifier (C, r)."""
        scores = torch.mm(block, near.T, out=out)
        return scores if self.offset is None else scores.add_(self.offset(rows))

    def _part(self, near: Tensor, scratch: Scratch, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the loss of a block of rows and its gradient (C, r)."""
        block, target, share = self.Z[rows], self.y_idx[rows], self.loss_share[rows]
        error = self._scores(block, rows, near, scratch.block[: len(block)])

        def again(lost: Tensor) -> Tensor:
            return self._scores(block, rows, near)[lost]

        losses = softmax_shares(error, target, again)
        error[torch.arange(len(block), device=block.device), target] -= 1
        return losses.double() @ share, error.T @ (block * share.to(block.dtype).unsqueeze(1))

    def _penalised(self, point: Tensor, sums: list[Tensor]) -> tuple[float, Tensor]:
        """Add the penalty to the loss and its gradient at a point (C, r)."""
        loss, gradient = sums
        pull = self.weight_decay * self.stretch * point.double()
        return float(loss + (pull * point).sum() / 2), (gradient + pull).to(point.dtype)

    def sums(self, part: Callable[[slice], tuple[Tensor, ...]]) -> list[Tensor]:
        """Return the sums over all blocks of rows, float64, of the tensors that `part` returns."""
        blocks = self.blocks
        if isinstance(self.Z, FeaturesAndOne):  # large blocks, of which one at a time is held
            return added_up(part, blocks, map)
        with one_thread_each(self.Z.is_cuda or len(blocks) < 4) as spread:
            return added_up(part, blocks, spread)


def added_up(
    part: Callable[[slice], tuple[Tensor, ...]], blocks: list[slice], spread: Spread
) -> list[Tensor]:
    """Return the sums over blocks of rows, float64, of the tensors that `part` returns of each.

    `spread` is a `map`, which may work on several blocks at once; `WAVE` results are held at most.
    """
    totals: list[Tensor] = []
    for first in range(0, len(blocks), WAVE):
        for found in spread(part, blocks[first : first + WAVE]):
            totals = totals or [torch.zeros_like(f, dtype=torch.float64) for f in found]
            for total, tensor in zip(totals, found, strict=True):
                total += tensor
    return totals


def score_offset(feats: Tensor, goal: Goal, dtype: torch.dtype) -> Callable[[slice], Tensor] | None:
    """Return the function from rows to what a goal adds to their scores, or None for nothing.

    That is the log prior and the scores of the anchor, of features (n, D), in `dtype`.
    """
    prior = None if goal.log_prior is None else goal.log_prior.to(dtype)
    if goal.anchor is None:
        return None if prior is None else lambda rows: prior
    W, b = (part.to(dtype) for part in goal.anchor)
    b = b if prior is None else b + prior
    if len(feats) * len(W) > KEPT:
        return lambda rows: linear_scores(feats[rows].to(dtype), W, b)
    return linear_scores(feats.to(dtype), W, b).__getitem__
