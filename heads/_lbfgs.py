"""L-BFGS on tensors of any shape and device, for smooth convex objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Found", "minimise"]

MEMORY = 10
# Armijo's share of the predicted decrease, and how often a step is shortened before giving up.
SUFFICIENT, SHORTENINGS = 1e-4, 12
# Values this close are equal but for rounding; then the slope along the step decides (Hager and
# Zhang, "A new conjugate gradient method with guaranteed descent", SIAM J. Optim. 2005, eq. 4.1).
ROUNDING = 1e-14

Objective = Callable[[Tensor], tuple[float, Tensor]]


@dataclass(frozen=True)
class Found:
    """Where a minimisation ended: the point, its value, its gradient, and what it cost."""

    point: Tensor
    value: float
    gradient: Tensor
    evaluations: int


def minimise(
    objective: Objective,
    start: Tensor,
    done: Callable[[Tensor], bool],
    most: int,
    least_decrease: float = 0.0,
) -> Found:
    """Minimise until `done` says so of a gradient, or `most` evaluations are spent.

    A step of length 1 along the quasi-Newton direction is shortened until it decreases the value
    enough, or leaves it as it is and the slope flatter. The search also ends where no shortening
    does, or where three steps in a row decrease the value by less than `least_decrease` relative
    to it: rounding sets that limit.

    Source: Nocedal and Wright, "Numerical Optimization", algorithms 7.4 and 3.1.
    """
    point, memory = start, _Memory()
    value, slope = objective(point)
    spent, small = 1, 0
    while spent < most and not done(slope) and small < 3:
        direction = memory.direction(slope)
        step = 1.0 if memory.pairs else 1 / max(1.0, float(slope.norm()))
        descent = _dot(direction, slope)
        for _ in range(SHORTENINGS):
            trial = point + step * direction
            new_value, new_slope = objective(trial)
            spent += 1
            flatter = abs(_dot(new_slope, direction)) < abs(descent)
            level = flatter and abs(new_value - value) <= ROUNDING * abs(value)
            lower = new_value <= value + SUFFICIENT * step * descent
            if lower or level or spent >= most:
                break
            step *= _shorter(value, new_value, step, descent)
        if not (new_value < value or level):
            break
        small = small + 1 if value - new_value <= least_decrease * abs(value) else 0
        memory.add(trial - point, new_slope - slope)
        point, value, slope = trial, new_value, new_slope
    return Found(point, value, slope, spent)


def _shorter(value: float, new_value: float, step: float, descent: float) -> float:
    """Return the factor that leads to the minimum of the parabola through what is known."""
    curvature = new_value - value - step * descent
    if not 0 < curvature < float("inf"):
        return 0.1
    return min(0.5, max(0.1, -step * descent / (2 * curvature)))


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.reshape(-1), b.reshape(-1)))


class _Memory:
    """The last steps and how the gradient changed along them."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, float]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        curvature = _dot(step, change)
        if curvature > 1e-12 * _dot(change, change):
            self.pairs = [*self.pairs[-(MEMORY - 1) :], (step, change, curvature)]

    def direction(self, slope: Tensor) -> Tensor:
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
