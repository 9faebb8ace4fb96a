"""Newton's method on smooth convex objectives, with a linear solver that needs products only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from heads.solvers.lbfgs import ROUNDING, Function, Minimum, search

__all__ = ["conjugate_gradients", "newton"]

# The part of the gradient that a step may leave unsolved, and the products with the Hessian that a
# step may take.
REST, PRODUCTS = 1e-2, 300

# From a direction to a direction.
Operator = Callable[[Tensor], Tensor]


def newton(
    function: Function,
    curvature_at: Callable[[Tensor], tuple[Operator, Operator]],
    excess: Callable[[Tensor], float],
    start: Tensor,
    *,
    aim: float,
    most: int,
) -> tuple[Minimum, float]:
    """Minimise by Newton's method, whose systems are solved by conjugate gradients.

    Parameters
    ----------
    function : callable
        From a point to the value and the gradient there, both float64.
    curvature_at : callable
        From a point to two functions: the product of the Hessian there with a direction, and the
        inverse of something near the Hessian.
    excess : callable
        From a gradient to how far above the optimum its point lies at most. Where that is infinite,
        Newton's own estimate is taken: what the step before was to gain.
    start : Tensor of any shape, float64
    aim : float
        It ends where the excess is at most this part of the value, or where no step does better.
    most : int
        Evaluations and products with the Hessian, together, after which it ends.

    Returns
    -------
    Minimum, float
        Where it ended, and the excess there.

    References
    ----------
    Nocedal and Wright, "Numerical Optimization", algorithm 7.1.
    """
    value, slope = function(start)
    here, promised = Minimum(start, value, slope, 1), math.inf

    def known() -> float:
        """Return how far above the optimum the point lies, as far as it is known."""
        bound = excess(here.gradient)
        return bound if math.isfinite(bound) else promised

    while here.evaluations < most and not known() <= aim * here.value:
        times, undone = curvature_at(here.point)
        direction, cost = conjugate_gradients(times, undone, here.gradient)
        there = search(function, here, direction, most)
        before, promised = known(), -_dot(direction, here.gradient) / 2 or math.inf
        stuck = there.point is here.point
        here = replace(there, evaluations=there.evaluations + cost)
        if stuck or (promised <= ROUNDING * abs(here.value) and known() > before / 2):
            break
    return here, known()


def conjugate_gradients(
    times: Operator, undone: Operator, slope: Tensor, rest: float = REST, most: int = PRODUCTS
) -> tuple[Tensor, int]:
    """Solve H x = -slope for a positive H that is known by its products.

    Parameters
    ----------
    times : callable
        From a direction to H times it.
    undone : callable
        The inverse of something near H, applied to a gradient.
    slope : Tensor of any shape
    rest : float
        It ends when the norm of the residual, in the metric of `undone`, is this part of what it
        was at x = 0.
    most : int
        Products after which it ends.

    Returns
    -------
    Tensor, int
        x, and the number of products.

    References
    ----------
    Nocedal and Wright, "Numerical Optimization", algorithm 5.3.
    """
    found, left = torch.zeros_like(slope), -slope
    towards = near = undone(left)
    length = start = _dot(left, near)
    for n_products in range(most):
        if not length > rest**2 * start:
            return found, n_products
        bent = times(towards)
        curvature = _dot(towards, bent)
        if not curvature > 0:  # rounding is all that is left
            return found, n_products + 1
        found = found + (length / curvature) * towards
        left = left - (length / curvature) * bent
        near = undone(left)
        before, length = length, _dot(left, near)
        towards = near + (length / before) * towards
    return found, most


def _dot(a: Tensor, b: Tensor) -> float:
    """Return the inner product of two tensors of one shape."""
    return float(torch.dot(a.reshape(-1), b.reshape(-1)))
