"""Classifier re-training (cRT): a fresh linear classifier, class-balanced unless told otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from heads._arrays import row_blocks
from heads._params import MOST_DECAY, check_number, check_one_of
from heads.balancing.weighting import (
    WEIGHTINGS,
    class_counts,
    class_shares,
    loss_factors,
)
from heads.errors import HeadInputError
from heads.estimators.convex_head import ANCHORS, ConvexHead
from heads.estimators.recipe import RecipeParams
from heads.solvers.linear import softmax_error
from heads.solvers.objective import Goal
from heads.solvers.optimum import USUAL, Fitted
from heads.solvers.rows import TrainingRows
from heads.solvers.sgd import descend_together, plan_steps
from heads.solvers.stacking import Bundle, SgdFit, bundles
from heads.solvers.sums import column_sums

__all__ = ["ClassifierRetraining"]

# Features that are so many times smaller, larger or further out than usual ones are warned of.
FAR = 30


class ClassifierRetraining(RecipeParams, ConvexHead):
    """A linear classifier trained from scratch, by default with all classes weighing the same.

    With `solver="exact"` it minimises sum_c a_c mean over class c of the cross-entropy, plus
    (weight_decay / 2) ||(W, b) - anchor||^2. a_c is what class c has of the loss in expectation:
    its share p_c of what is sampled times the factor by which the loss weighs it, 1/C by default.
    `fit` solves one point, `fit_path` chooses the weight decay on a validation split.

    With `solver="sgd"` it follows the paper's recipe: W and b start as `torch.nn.Linear` starts
    them; SGD with momentum 0.9 and weight decay 5e-4 on both; 10 epochs of int(n / 512)
    class-aware batches of 512.

    `q=0` is re-sampling, `q=1, weighting="class-balanced"` re-weighting (the same objective, but
    other batches), and `q=1` training as the data come.

    Parameters
    ----------
    solver : {"exact", "sgd"}, default "exact"
        "exact" solves the objective to its optimum, or warns; "sgd" follows the paper's recipe.
    lr : float, default 0.2
        Learning rate of the first epoch, which half a cosine takes down, a step after each epoch.
        `lr`, `batch` and `epochs` need `solver="sgd"` and are refused with "exact".
    momentum : float, default 0.9
        SGD's momentum, in [0, 1]. The exact solver does not use it.
    weight_decay : float, default 3e-3 (exact) or 5e-4 (sgd)
        How strongly weights are pulled towards zero, or towards the anchor. The exact solver's
        default holds for features whose mean squared distance from their mean is about 30; for
        others it is multiplied by the square of their unit.
    batch : int, default 512
        Rows of one SGD step.
    epochs : int, default 10
        Passes of int(n / batch) SGD steps. With fewer than 10 batches of rows at least 200 steps
        are taken in all.
    per_class : int, default 4
        How many rows SGD takes in a row from each class drawn, with `q=0`.
    random_state : int, numpy.random.Generator or None, default 0
        Seed of SGD's first weights and batches. The exact solver draws nothing.
    anchor : {"zero", "stage1"}, default "zero"
        What the exact solver's penalty pulls towards.
    q : float, default 0.0
        Classes are sampled by p_c proportional to n_c^q: 0 class-balanced, 0.5 by the square root,
        1 as they come, -1 reversed.
    weighting : {"none", "class-balanced", "effective"}, default "none"
        Factor of the loss of class c's rows: 1; 1 / n_c; 1 over the effective number of n_c rows.
        It is scaled to a mean of 1 over what is sampled, so that `lr` and `weight_decay` keep their
        meaning.
    beta : float, default 0.9999
        The base of the effective number (1 - beta^n) / (1 - beta) of n rows, in [0, 1).
    views : int, default 0
        X holds that many views of the same rows, one view after another, with y repeated: the
        fit cycles through them, a view for each pass over the data. 0: every row once.
    weight, bias : arrays of shape (C, D) and (C,), optional
        Stage 1's classifier, for `anchor="stage1"`.

    Attributes
    ----------
    weight_, bias_ : arrays of shape (C, D) and (C,)
    weight_decay_ : float
        The weight decay that was used.
    n_steps_ : int
        Steps taken; evaluations of the objective, and products with its Hessian, where it was
        solved.
    floored_ : bool
        Whether the floor on steps raised that number.
    gradient_ : float or None
        Largest entry of the gradient in W and b at the end, taken in float64.

    Raises
    ------
    HeadInputError
        In `fit`: a parameter outside its range, or one that the chosen solver does not take;
        features on which SGD diverges.

    Warns
    -----
    ConvergenceWarning
        Where the exact solver may have ended further above the optimum than 1e-9 of the objective
        (1e-6 for float32 features).

    References
    ----------
    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
    ICLR 2020, section 4.2, and equation 1 for q.
    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, equation 2.
    """

    _fitted = ("weight_", "bias_", "n_steps_", "floored_", "gradient_")

    def __init__(  # noqa: PLR0913 - an estimator's parameters are its constructor's
        self,
        solver: str = "exact",
        lr: float | None = None,
        momentum: float = 0.9,
        weight_decay: float | None = None,
        batch: int | None = None,
        epochs: int | None = None,
        per_class: int = 4,
        random_state: Any = 0,
        anchor: str = "zero",
        q: float = 0.0,
        weighting: str = "none",
        beta: float = 0.9999,
        views: int = 0,
        weight: Any = None,
        bias: Any = None,
    ) -> None:
        self.solver = solver
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch = batch
        self.epochs = epochs
        self.per_class = per_class
        self.random_state = random_state
        self.anchor = anchor
        self.q = q
        self.weighting = weighting
        self.beta = beta
        self.views = views
        self.weight = weight
        self.bias = bias

    def _check_params(self) -> None:
        super()._check_params()
        owner = type(self).__name__
        check_one_of(owner, "anchor", self.anchor, ANCHORS)
        check_number(owner, "q", self.q, low=-1e6, high=1e6)
        check_one_of(owner, "weighting", self.weighting, WEIGHTINGS)
        check_number(owner, "beta", self.beta, low=0)
        if self.beta >= 1:
            message = (
                f"The 'beta' parameter of {owner} must be below 1. Got {self.beta!r} instead: "
                "its limit at 1 is weighting='class-balanced'"
            )
            raise HeadInputError(message)
        if self.solver == "exact" and self.weight_decay is not None:
            check_number(
                owner, "weight_decay", self.weight_decay, low=0, high=MOST_DECAY, above=True
            )
        if self.solver == "sgd" and self.anchor != "zero":
            message = f"{owner}: anchor={self.anchor!r} belongs to solver='exact', not to 'sgd'"
            raise HeadInputError(message)

    def _goal(self, train: TrainingRows) -> Goal:
        counts = self._in_one_view(train, train.class_counts())
        shares = class_shares(counts, self.q, self.weighting, self.beta)
        return Goal(class_shares=shares, anchor=self._anchor_point(self.anchor, train))

    def _solved(self, found: Fitted) -> dict[str, Any]:
        return {**super()._solved(found), "floored_": False}

    def _fit(self, train: TrainingRows) -> dict[str, Any]:
        if self.solver == "exact":
            return self._fit_exactly(train)
        return self._fit_together([self], train)[0]

    def _fit_together(self, heads: Sequence[Self], train: TrainingRows) -> list[dict[str, Any]]:
        fits = [
            SgdFit(recipe, plan_steps(len(train), recipe, train.n_classes), head.random_state)
            for head, recipe in ((head, head._recipe()) for head in heads)
        ]
        factors = self._factors(heads, train).to(train.feats.dtype)
        fitted: list[dict[str, Any]] = [{} for _ in heads]
        start = partial(fresh_linear, train.feats, train.n_classes)
        for bundle in bundles(fits, train, start):
            W, b = (
                bundle.stacked(torch.stack(parts)) for parts in zip(*bundle.starts, strict=True)
            )
            retrain(W, b, train, factors[bundle.members], bundle)
            for place, weight, bias in zip(
                bundle.members.ravel(), W.flatten(0, 1), b.flatten(0, 1), strict=True
            ):
                fitted[place] = {"weight_": weight.clone(), "bias_": bias.clone()}
        warn_if_unusual(train.feats)
        return [
            {
                **values,
                "n_steps_": fit.plan.n_steps,
                "floored_": fit.plan.floored,
                "gradient_": None,
                "weight_decay_": fit.recipe.weight_decay,
            }
            for values, fit in zip(fitted, fits, strict=True)
        ]

    def _in_one_view(self, train: TrainingRows, counts: Tensor) -> Tensor:
        """Return what each class has in one view, given what it has in all views (C,)."""
        if self._first_view(train.y_idx) is train.y_idx:
            return counts
        return counts.double() / self.views

    def _factors(self, heads: Sequence[ClassifierRetraining], train: TrainingRows) -> Tensor:
        """Return the factor of the loss of each class's rows, for each head, (H, C) float64."""
        counts = self._in_one_view(train, class_counts(train.y_idx, train.n_classes))
        weighted = None
        if train.sample_weight is not None:
            weighted = self._in_one_view(train, train.class_counts())
        return torch.stack(
            [loss_factors(counts, head.q, head.weighting, head.beta, weighted) for head in heads]
        )


def warn_if_unusual(feats: Tensor) -> None:
    """Warn where features (n, D) are too small, too large or too far out for the recipe's rates."""
    mean = column_sums(feats) / len(feats)
    size = float(torch.linalg.vector_norm(mean))
    spread = sum(
        float((feats[rows].double() - mean).square().sum(dtype=torch.float64))
        for rows in row_blocks(*feats.shape)
    ) / len(feats)
    if USUAL / FAR**2 < spread < USUAL * FAR**2 and size**2 < FAR**2 * spread:
        return
    message = (
        f"solver='sgd' takes steps for features of a usual size; these lie {spread**0.5:.1e} from "
        f"their mean, and that lies {size:.1e} from the origin: standardise them, or use "
        "solver='exact'"
    )
    warnings.warn(message, UserWarning, stacklevel=2)


def fresh_linear(feats: Tensor, n_classes: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw W (C, D) and b (C,) uniformly within 1/sqrt(D), as `torch.nn.Linear` does."""
    width = feats.shape[1]
    both = rng.uniform(-1, 1, size=(n_classes, width + 1)) / np.sqrt(width)
    drawn = torch.from_numpy(both).to(feats)
    return drawn[:, :width].contiguous(), drawn[:, width].contiguous()


def retrain(
    W: Tensor,
    b: Tensor,
    train: TrainingRows,
    factors: Tensor,
    bundle: Bundle[tuple[Tensor, Tensor]],
) -> None:
    """Train a stack of classifiers in place by SGD.

    What is descended is the mean over a batch of the factor of the row's class, times the row's
    weight within its class, times the cross-entropy.

    Parameters
    ----------
    W, b : Tensors of shape (S, H, C, D) and (S, H, C)
        The classifiers of H fits on each of S streams of batches.
    train : TrainingRows
    factors : Tensor of shape (S, H, C)
        What the loss of each class's rows is multiplied by.
    bundle : Bundle
        The batches of every step, and what each fit does.
    """
    feats, y_idx, within = train.feats, train.y_idx, train.sample_weight_in_class()

    def gradient(params: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
        W, b = params
        n_streams, n_heads, n_classes, width = W.shape
        block = feats.index_select(0, rows.reshape(-1)).view(*rows.shape, width)
        flat = W.view(n_streams, -1, width)
        scores = torch.baddbmm(b.view(n_streams, 1, -1), block, flat.transpose(1, 2))
        target = y_idx[rows].unsqueeze(2).expand(-1, -1, n_heads)
        _, error = softmax_error(scores.view(-1, n_classes), target.reshape(-1))
        factor = factors[:, :n_heads].gather(2, target.transpose(1, 2)).transpose(1, 2)
        if within is not None:
            factor = factor * within[rows].unsqueeze(2)
        error *= factor.reshape(-1, 1) / rows.shape[1]
        error = error.view(scores.shape)
        return torch.bmm(error.transpose(1, 2), block).view_as(W), error.sum(dim=1).view_as(b)

    descend_together([W, b], gradient, bundle.batches, bundle.schedule)
