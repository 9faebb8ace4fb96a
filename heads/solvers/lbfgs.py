"""L-BFGS on tensors of any shape and device, for smooth convex objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["ROUNDING", "Minimum", "Function", "minimise", "search"]

# Steps that are remembered.
MEMORY = 10
# Armijo's share of the predicted decrease, and how often a step is shortened before giving up.
SUFFICIENT, SHORTENINGS = 1e-4, 12
# Values this close, relative to their size, are taken as equal but for rounding. Then the slope
# along the step decides (Hager and Zhang, "A new conjugate gradient method with guaranteed
# descent", SIAM J. Optim. 2005, equation 4.1).
ROUNDING = 1e-14

# From a point to the value and the gradient there.
Function = Callable[[Tensor], tuple[float, Tensor]]


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended, and what it cost.

    Attributes
    ----------
    point : Tensor of any shape
    value : float
        The function's value at the point.
    gradient : Tensor of the point's shape
        The function's gradient at the point.
    evaluations : int
        How often the function was evaluated.
    """

    point: Tensor
    value: float
    gradient: Tensor
    evaluations: int


def minimise(
    function: Function,
    start: Tensor,
    done: Callable[[float, Tensor], bool],
    most: int,
    least_decrease: float = 0.0,
) -> Minimum:
    """Minimise a smooth convex function by L-BFGS.

    It ends where `done` says so, after `most` evaluations, or where no step along the quasi-Newton
    direction does better.

    Parameters
    ----------
    function : callable
        From a point to the value and the gradient there.
    start : Tensor of any shape
    done : callable
        From a value and the gradient there to whether that is good enough.
    most : int
        Evaluations of the function at most.
    least_decrease : float, default 0.0
        It also ends where three steps in a row decrease the value by no more than this part of it,
        which is for functions that rounding keeps from going further.

    References
    ----------
    Nocedal and Wright, "Numerical Optimization", algorithms 7.4 and 3.1.
    """
    memory, small = _Memory(), 0
    value, slope = function(start)
    here = Minimum(start, value, slope, 1)
    while here.evaluations < most and not done(here.value, here.gradient) and small < 3:
        direction = memory.direction(here.gradient)
        length = 1.0 if memory.pairs else 1 / max(1.0, float(here.gradient.norm()))
        there = search(function, here, direction, most, length)
        if there.point is here.point:
            return there
        small = small + 1 if here.value - there.value <= least_decrease * abs(here.value) else 0
        memory.add(there.point - here.point, there.gradient - here.gradient)
        here = there
    return here


def search(
    function: Function, here: Minimum, direction: Tensor, most: int, length: float = 1.0
) -> Minimum:
    """Return where a step along a direction leads, or the same point where no step does better.

    The step is shortened until it decreases the value enough, or until it leaves the value as it
    is, but for rounding, and makes the slope flatter.

    Parameters
    ----------
    function : callable
        From a point to the value and the gradient there.
    here : Minimum
        Where the step begins, and the evaluations spent so far.
    direction : Tensor shaped as the point
    most : int
        Evaluations at most, those spent so far included.
    length : float, default 1.0
        The part of the direction that is tried first.
    """
    spent, descent = here.evaluations, _dot(direction, here.gradient)
    for _ in range(SHORTENINGS):
        trial = here.point + length * direction
        value, slope = function(trial)
        spent += 1
        flatter = abs(_dot(slope, direction)) < abs(descent)
        level = flatter and abs(value - here.value) <= ROUNDING * abs(here.value)
        if value <= here.value + SUFFICIENT * length * descent or level or spent >= most:
            break
        length *= _shorter(here.value, value, length, descent)
    if value < here.value or level:
        return Minimum(trial, value, slope, spent)
    return replace(here, evaluations=spent)


def _shorter(value: float, new_value: float, step: float, descent: float) -> float:
    """Return the factor of a step that leads to the minimum of the parabola through its ends."""
    curvature = new_value - value - step * descent
    if not 0 < curvature < float("inf"):
        return 0.1
    return min(0.5, max(0.1, -step * descent / (2 * curvature)))


def _dot(a: Tensor, b: Tensor) -> float:
    """Return the inner product of two tensors of one shape."""
    return float(torch.dot(a.reshape(-1), b.reshape(-1)))


class _Memory:
    """The last steps and how the gradient changed along them."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, float]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        """Remember a step and the change of the gradient, unless there is no curvature in them."""
        curvature = _dot(step, change)
        if curvature > 1e-12 * _dot(change, change):
            self.pairs = [*self.pairs[-(MEMORY - 1) :], (step, change, curvature)]

    def direction(self, slope: Tensor) -> Tensor:
        """Return the quasi-Newton direction at a gradient (algorithm 7.4)."""
        towards, shares = -slope, []
        for step, change, curvature in reversed(self.pairs):
            share = _dot(step, towards) / curvature
            shares.append(share)
            towards = towards - share * change
        if self.pairs:
            _, change, curvature = self.pairs[-1]
            towards = towards * (curvature / _dot(change, change))
        for (step, change, curvature), share in zip(self.pairs, reversed(shares), strict=True):
            towards = towards + (share - _dot(change, towards) / curvature) * step
        return towards
