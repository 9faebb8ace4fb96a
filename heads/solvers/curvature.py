"""What stands in for the Hessian of a softmax objective where it has to be inverted."""

from __future__ import annotations

import torch
from torch import Tensor

from heads.solvers.objective import Probabilities, SoftmaxObjective

__all__ = ["HessianStandIn", "is_small"]

# Multiplications up to which the Hessian's block of every class is formed and factored, and the
# numbers in those blocks. Beyond either, the Hessian's diagonal stands for it.
BLOCK_WORK, BLOCK_SIZE = 1 << 33, 1 << 27


def is_small(objective: SoftmaxObjective) -> bool:
    """Tell whether the Hessian's blocks of all classes, (C, r, r), can be formed."""
    n_rows, width = objective.Z.shape
    size = objective.n_classes * width**2
    return size <= BLOCK_SIZE and size * n_rows <= BLOCK_WORK


class HessianStandIn:
    """A matrix that is near the Hessian of a softmax objective and quickly inverted.

    Where the problem is small that is the Hessian's diagonal blocks (r, r), one for each class;
    else it is the Hessian's diagonal. `probabilities` are those of the objective at the point.
    """

    def __init__(self, objective: SoftmaxObjective, probabilities: Probabilities) -> None:
        self.objective, self.probabilities = objective, probabilities
        self.penalty = objective.weight_decay * objective.stretch
        self.has_blocks = is_small(objective)
        self._factors = self._of_classes() if self.has_blocks else self._diagonal()

    def undone(self, gradient: Tensor) -> Tensor:
        """Return the direction (C, r) that the stand-in takes to `gradient`.

        Moving all classes alike changes the penalty but no loss. So the optimum's mean over the
        classes is zero, and the mean of this direction is made so.
        """
        if self.has_blocks:
            found = torch.cholesky_solve(gradient.unsqueeze(2), self._factors).squeeze(2)
        else:
            found = gradient / self._factors
        return found - found.mean(dim=0)

    def _bend(self, rows: slice) -> Tensor:
        """Return what rows add to the curvature of every class, u p (1 - p), (k, C)."""
        p = self.probabilities(rows)
        return p * (1 - p) * self.objective.loss_share[rows].to(p.dtype).unsqueeze(1)

    def _of_classes(self) -> Tensor:
        """Return the Cholesky factors (C, r, r) of the blocks of the classes."""
        everything = slice(len(self.objective.Z))
        Z, bend = self.objective.Z[everything], self._bend(everything).T
        blocks = torch.stack([(Z.T * of_class) @ Z for of_class in bend]).double()
        diagonal = blocks.diagonal(dim1=1, dim2=2)
        # Rounding may leave a direction without curvature a little below zero.
        diagonal += self.penalty + torch.finfo(Z.dtype).eps * diagonal.amax(dim=1, keepdim=True)
        return torch.linalg.cholesky(blocks)

    def _diagonal(self) -> Tensor:
        """Return the diagonal of the Hessian, (C, r), above 0."""
        objective = self.objective
        (bend,) = objective.sums(lambda rows: (self._bend(rows).T @ objective.Z[rows].square(),))
        return bend + self.penalty + torch.finfo(torch.float64).tiny
