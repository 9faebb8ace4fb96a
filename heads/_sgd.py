"""The paper's stage-2 training, on cached features: SGD over batches by class frequency.

Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition"
(ICLR 2020); the numbers are those of its code's `config/ImageNet_LT/cls_crt_*.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heads._arrays import one_thread_if_small
from heads._sampling import rows_by_q
from heads.errors import HeadInputError

__all__ = ["FLOOR_STEPS", "Plan", "Recipe", "descend", "plan_steps", "sampled_rows"]

# int(N / batch) steps an epoch are 0 on a small data set, and a handful trains next to nothing.
# Below this many batches of data a fit takes at least this many steps in all.
SMALL_BATCHES, FLOOR_STEPS = 10, 200


@dataclass(frozen=True)
class Recipe:
    """The numbers of one SGD fit; `lr` is the rate of the first epoch."""

    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 512
    epochs: int = 10
    per_class: int = 4
    q: float = 0.0

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch: half a cosine from `lr` towards zero."""
        return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))


@dataclass(frozen=True)
class Plan:
    """How many steps a fit takes, and whether the floor raised that number."""

    steps_per_epoch: int
    n_steps: int
    floored: bool


def plan_steps(n_rows: int, recipe: Recipe) -> Plan:
    """Return int(N / batch) steps an epoch, or what reaches the floor where N is small."""
    steps = n_rows // recipe.batch
    small = n_rows < SMALL_BATCHES * recipe.batch
    floored = small and steps * recipe.epochs < FLOOR_STEPS
    if floored:
        steps = math.ceil(FLOOR_STEPS / recipe.epochs)
    return Plan(steps, steps * recipe.epochs, floored)


def sampled_rows(y_idx: Tensor, recipe: Recipe, plan: Plan, rng: np.random.Generator) -> Tensor:
    """Draw every batch of the fit: row numbers (n_steps, batch) on the device of `y_idx`."""
    n_draws = plan.n_steps * recipe.batch
    rows = rows_by_q(y_idx.cpu().numpy(), recipe.q, n_draws, recipe.per_class, rng)
    return torch.from_numpy(rows).to(y_idx.device).view(plan.n_steps, recipe.batch)


def descend(
    params: Sequence[Tensor],
    gradient: Callable[[Tensor], Sequence[Tensor]],
    batches: Tensor,
    recipe: Recipe,
    plan: Plan,
) -> None:
    """Move `params` in place by SGD with momentum and weight decay, as `torch.optim.SGD` does.

    Parameters
    ----------
    params : sequence of tensors
    gradient : callable
        From the rows of a batch to the gradient of its mean loss in each of `params`.
    batches : Tensor of shape (n_steps, batch), int64
    recipe, plan : Recipe, Plan

    Raises
    ------
    HeadInputError
        The parameters are not finite at the end.
    """
    velocity = [torch.zeros_like(param) for param in params]
    with one_thread_if_small(batches.shape[1] * sum(param.numel() for param in params)):
        for step, rows in enumerate(batches):
            rate = recipe.rate(step // plan.steps_per_epoch)
            for param, speed, slope in zip(params, velocity, gradient(rows), strict=True):
                speed.mul_(recipe.momentum).add_(slope).add_(param, alpha=recipe.weight_decay)
                param.sub_(speed, alpha=rate)
    if not all(bool(torch.isfinite(param).all()) for param in params):
        message = f"training diverged at lr={recipe.lr:g}: lower lr, or scale the features down"
        raise HeadInputError(message)
