"""The weighted softmax objective in float64, and the one judge of how near its optimum a fit is.

    sum_i u_i CE(y_i, W x_i + b + shift) + (weight_decay / 2) ||(W, b) - anchor||^2

Whatever solved it and in whatever precision, the result is judged here, from the value and the
gradient at the weights that are handed out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from heads._arrays import row_blocks

__all__ = [
    "Judged",
    "Objective",
    "Verdict",
    "cross_entropy",
    "judge",
    "softmax_objective",
    "warn_if_unfinished",
]

# Of the terms of a softmax; a smaller one leaves the normal numbers when it is squared.
_LEAST_LOG = 0.5 * math.log(torch.finfo(torch.float64).tiny)


class Judged(Protocol):
    """A penalised objective in float64: value and gradient, in as many parts as the point has."""

    @property
    def weight_decay(self) -> float:
        """Return the weight of the penalty."""

    def __call__(self, *point: Tensor) -> tuple[float, Sequence[Tensor]]:
        """Return the value at a point, and the gradient."""


@dataclass(frozen=True)
class Objective:
    """Features (n, D), labels (n,), each row's part (n,) of the loss, and the rest of the formula.

    shift (C,) is added to the scores; anchor is the W (C, D) and b (C,) that the penalty is
    measured from, None zero.
    """

    feats: Tensor
    y_idx: Tensor
    weights: Tensor
    weight_decay: float
    shift: Tensor | None = None
    anchor: tuple[Tensor, Tensor] | None = None

    def __call__(self, *point: Tensor) -> tuple[float, tuple[Tensor, Tensor]]:
        """Return the value at W (C, D) and b (C,), and the gradient in both, in float64."""
        W, b = (part.double() for part in point)
        shifted = b if self.shift is None else b + self.shift.double()
        loss = W.new_zeros(())
        dW, db = torch.zeros_like(W), torch.zeros_like(b)
        for rows in row_blocks(len(self.feats), max(W.shape)):
            block, weight = self.feats[rows].double(), self.weights[rows]
            losses, error = cross_entropy(torch.addmm(shifted, block, W.T), self.y_idx[rows])
            error *= weight.unsqueeze(1)
            loss += losses @ weight
            dW.addmm_(error.T, block)
            db += error.sum(dim=0)
        if self.anchor is not None:
            W, b = W - self.anchor[0], b - self.anchor[1]
        penalty = (W.square().sum() + b.square().sum()) * (self.weight_decay / 2)
        return float(loss + penalty), (dW + self.weight_decay * W, db + self.weight_decay * b)


def cross_entropy(scores: Tensor, y_idx: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each row (n,) of scores (n, C), and its gradient (n, C).

    Both are good to a few roundings of their own size, however small they are: a loss of 1e-12
    is not 1 minus nearly 1.
    """
    target = y_idx.unsqueeze(1)
    lead = (scores - scores.gather(1, target)).scatter_(1, target, -torch.inf)
    most = lead.amax(dim=1).clamp_(min=0)
    others = lead.sub_(most.unsqueeze(1)).clamp_(min=_LEAST_LOG).exp_().scatter_(1, target, 0.0)
    rest, own = others.sum(dim=1), torch.exp(-most)
    losses = most + torch.log1p(torch.expm1(-most) + rest)
    error = others.div_((own + rest).unsqueeze(1))
    return losses, error.scatter_(1, target, (-rest / (own + rest)).unsqueeze(1))


@dataclass(frozen=True)
class Verdict:
    """How near its optimum an objective is at a point.

    Attributes
    ----------
    value : float
    excess : float
        How far the value lies above the optimum, at most.
    gradient : float
        The largest entry of the gradient.
    """

    value: float
    excess: float
    gradient: float

    @classmethod
    def of(
        cls, value: float, slopes: Iterable[Tensor], weight_decay: float, floor: float = -math.inf
    ) -> Verdict:
        """Judge by a value and the gradient, in as many parts as there are.

        The penalty alone curves the objective by the weight decay in every direction, so the
        optimum is nowhere more than ||gradient||^2 / (2 weight decay) below; nor is it below
        `floor`, which such a gradient at another point gave.
        """
        entries = torch.cat([slope.reshape(-1) for slope in slopes])
        square = float(entries.square().sum())
        excess = square / (2 * weight_decay) if weight_decay > 0 else math.inf
        return cls(value, max(0.0, min(excess, value - floor)), float(entries.abs().max()))

    @property
    def gap(self) -> float:
        """Return the excess in parts of the value."""
        return self.excess / self.value if self.value > 0 else self.excess


def judge(objective: Judged, point: Sequence[Tensor], floor: float = -math.inf) -> Verdict:
    """Judge a point, in as many tensors as it has, by the value and the gradient there.

    `floor` is what the optimum is known not to lie below.
    """
    value, slopes = objective(*point)
    return Verdict.of(value, slopes, objective.weight_decay, floor)


def warn_if_unfinished(
    verdict: Verdict, tolerance: float, weight_decay: float, n_steps: int
) -> None:
    """Warn where a fit may lie further above its optimum than `tolerance`, relative to it.

    Warns
    -----
    ConvergenceWarning
        With the bound reached, the gradient, and what to do.
    """
    if verdict.gap <= tolerance:  # false for NaN, too
        return
    far = f"at most {verdict.gap:.1e} of its objective above the optimum"
    if not math.isfinite(verdict.gap):
        far = "with nothing to say how far above the optimum"
    steepest = f"the largest entry of the gradient is {verdict.gradient:.1e}"
    message = (
        f"the fit at weight_decay={weight_decay:g} stopped after {n_steps} evaluations, {far}, "
        f"where {tolerance:.0e} was asked; {steepest}: "
        "raise weight_decay, or centre and scale the features"
    )
    warnings.warn(message, ConvergenceWarning, stacklevel=2)


def softmax_objective(
    feats: Tensor,
    y_idx: Tensor,
    W: Tensor,
    b: Tensor,
    weight_decay: float,
    weights: Tensor | None = None,
) -> tuple[float, Tensor, Tensor]:
    """Return the mean cross-entropy plus penalty at W (C, D), b (C,), and its gradient in both.

    Everything is float64; `weights` (n,) are those of the rows.
    """
    parts = torch.ones(len(feats), dtype=torch.float64, device=feats.device)
    parts = parts if weights is None else weights.double()
    value, (dW, db) = Objective(feats, y_idx, parts / parts.sum(), weight_decay)(W, b)
    return value, dW, db
