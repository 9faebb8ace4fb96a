"""The one judge of how near its optimum a fit is, whatever solved it and in whatever precision.

The judgement is made from the value and the gradient, in float64, at the weights that are handed
out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

__all__ = ["PenalisedObjective", "Verdict", "judge", "warn_if_unfinished"]


class PenalisedObjective(Protocol):
    """What the solvers minimise: a convex loss plus (weight_decay / 2) times a squared norm."""

    @property
    def weight_decay(self) -> float:
        """Return the weight of the penalty."""

    def value_and_gradient(self, point: Tensor) -> tuple[float, Tensor]:
        """Return the value and the gradient at a point, with products in the rows' precision."""

    def exactly(self, point: Tensor) -> tuple[float, Tensor]:
        """Return the value and the gradient at a point, in float64 throughout."""

    def hessian_product(self, point: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from a direction to the Hessian at a point times it."""

    def excess(self, gradient: Tensor) -> float:
        """Return how far a point of this gradient lies above the optimum, at most."""


@dataclass(frozen=True)
class Verdict:
    """How near its optimum an objective is at a point.

    Attributes
    ----------
    value : float
        The objective at the point.
    excess : float
        How far the value lies above the optimum, at most.
    gradient : float
        The largest entry of the gradient, in size.
    """

    value: float
    excess: float
    gradient: float

    @classmethod
    def of(
        cls, value: float, gradient: Tensor, weight_decay: float, floor: float = -math.inf
    ) -> Verdict:
        """Judge by a value and the gradient there, float64.

        Parameters
        ----------
        value : float
        gradient : Tensor of any shape
            The gradient in (W, b), or in whatever the penalty is the squared norm of.
        weight_decay : float
            The penalty alone curves the objective by this in every direction, so the optimum is
            nowhere more than ||gradient||^2 / (2 weight_decay) below.
        floor : float, optional
            What the optimum is known not to lie below, by such a bound at another point.
        """
        square = float(gradient.square().sum())
        excess = square / (2 * weight_decay) if weight_decay > 0 else math.inf
        return cls(value, max(0.0, min(excess, value - floor)), float(gradient.abs().max()))

    @property
    def gap(self) -> float:
        """Return the excess in parts of the value."""
        return self.excess / self.value if self.value > 0 else self.excess


def judge(objective: PenalisedObjective, point: Tensor, floor: float = -math.inf) -> Verdict:
    """Judge a point by the value and the gradient of an objective there, in float64.

    `floor` is what the optimum is known not to lie below.
    """
    value, gradient = objective.exactly(point)
    return Verdict.of(value, gradient, objective.weight_decay, floor)


def warn_if_unfinished(
    verdict: Verdict, tolerance: float, weight_decay: float, n_steps: int
) -> None:
    """Warn where a fit may lie further above its optimum than was asked.

    Parameters
    ----------
    verdict : Verdict
    tolerance : float
        How far above the optimum the fit may lie, in parts of the objective.
    weight_decay : float
        What the fit used, for the message.
    n_steps : int
        Evaluations that the fit took, for the message.

    Warns
    -----
    ConvergenceWarning
        With the bound that was reached, the gradient, and what to do.
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
