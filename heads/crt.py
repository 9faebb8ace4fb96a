"""Classifier re-training (cRT): a fresh linear classifier, class-balanced."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from heads._base import LinearHead
from heads._linear import linear_scores, softmax_error
from heads._recipe import RecipeParams
from heads._sgd import Plan, Recipe, descend, plan_steps, sampled_rows

__all__ = ["ClassifierRetraining"]


class ClassifierRetraining(RecipeParams, LinearHead):
    """A linear classifier trained from scratch on class-aware batches of cached features.

    The paper's recipe: W and b start as `torch.nn.Linear` starts them; SGD with momentum 0.9 and
    weight decay 5e-4 on both; 10 epochs of int(n / 512) batches of 512.

    Parameters
    ----------
    solver : {"sgd"}, default "sgd"
    lr : float, default 0.2
        Rate of the first epoch; half a cosine takes it down, a step after each epoch.
    momentum : float, default 0.9
    weight_decay : float, default 5e-4
    batch : int, default 512
    epochs : int, default 10
        Of int(n / batch) steps; with fewer than 10 batches of rows at least 200 steps in all.
    per_class : int, default 4
        Rows in a row from each class drawn.
    random_state : int, numpy.random.Generator or None, default 0

    Attributes
    ----------
    weight_, bias_ : arrays of shape (C, D) and (C,)
    n_steps_ : int
        Steps taken.
    floored_ : bool
        Whether the floor on steps raised that number.

    References
    ----------
    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
    ICLR 2020, section 4.2.
    """

    _fitted = ("weight_", "bias_", "n_steps_", "floored_")

    def __init__(
        self,
        solver: str = "sgd",
        lr: float | None = None,
        momentum: float = 0.9,
        weight_decay: float | None = None,
        batch: int | None = None,
        epochs: int | None = None,
        per_class: int = 4,
        random_state: Any = 0,
    ) -> None:
        self.solver = solver
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch = batch
        self.epochs = epochs
        self.per_class = per_class
        self.random_state = random_state

    def _fit(self, feats: Tensor, y_idx: Tensor, n_classes: int) -> dict[str, Any]:
        recipe, rng = self._recipe(), np.random.default_rng(self.random_state)
        plan = plan_steps(len(feats), recipe)
        W, b = fresh_linear(feats, n_classes, rng)
        batches = sampled_rows(y_idx, recipe, plan, rng)
        retrain(W, b, feats, y_idx, batches, recipe, plan)
        return {"weight_": W, "bias_": b, "n_steps_": plan.n_steps, "floored_": plan.floored}


def fresh_linear(feats: Tensor, n_classes: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw W (C, D) and b (C,) uniformly within 1/sqrt(D), as `torch.nn.Linear` does."""
    width = feats.shape[1]
    both = rng.uniform(-1, 1, size=(n_classes, width + 1)) / np.sqrt(width)
    drawn = torch.from_numpy(both).to(feats)
    return drawn[:, :width].contiguous(), drawn[:, width].contiguous()


def retrain(
    W: Tensor,
    b: Tensor,
    feats: Tensor,
    y_idx: Tensor,
    batches: Tensor,
    recipe: Recipe,
    plan: Plan,
) -> None:
    """Train W (C, D) and b (C,) in place on batches of row numbers (n_steps, batch)."""

    def gradient(rows: Tensor) -> tuple[Tensor, Tensor]:
        block = feats[rows]
        _, error = softmax_error(linear_scores(block, W, b), y_idx[rows])
        error /= len(rows)
        return error.T @ block, error.sum(dim=0)

    descend([W, b], gradient, batches, recipe, plan)
