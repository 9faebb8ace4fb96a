"""Learnable weight scaling: one scale for each class of a frozen classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from heads._arrays import as_tensor, match, row_blocks, to_kind
from heads.estimators.base import Scorer, Stage1Head
from heads.estimators.recipe import RecipeParams
from heads.solvers.linear import linear_scores, softmax_error
from heads.solvers.rows import TrainingRows
from heads.solvers.scale_only import best_scale
from heads.solvers.sgd import descend_together, plan_steps
from heads.solvers.stacking import Bundle, SgdFit, bundles

__all__ = ["LearnableWeightScaling"]


class LearnableWeightScaling(RecipeParams, Stage1Head):
    """The stage-1 classifier with a learned factor for each class.

    Scores are s_c (w_c . x + b_c): W and b are frozen. With `solver="exact"` s minimises
    sum_c (1/C) mean over class c of the cross-entropy, plus (weight_decay / 2) ||s||^2, by
    second-order steps in C numbers on logits that are computed once. With `solver="sgd"` s starts
    at 1 and is trained on class-aware batches, as the paper's recipe does.

    Parameters
    ----------
    solver : {"exact", "sgd"}, default "exact"
        "exact" solves the objective to its optimum, or warns; "sgd" follows the paper's recipe.
    lr : float, default 0.2
        Learning rate of the first epoch, which half a cosine takes down, a step after each epoch.
        `lr`, `batch` and `epochs` need `solver="sgd"` and are refused with "exact".
    momentum : float, default 0.9
        SGD's momentum, in [0, 1]. The exact solver does not use it.
    weight_decay : float, default 5e-4
        How strongly the factors are pulled towards zero.
    batch : int, default 512
        Rows of one SGD step.
    epochs : int, default 5
        Passes of int(n / batch) SGD steps. With fewer than 10 batches of rows at least 200 steps
        are taken in all.
    per_class : int, default 4
        How many rows SGD takes in a row from each class drawn.
    random_state : int, numpy.random.Generator or None, default 0
        Seed of SGD's batches. The exact solver draws nothing.
    views : int, default 0
        X holds that many views of the same rows, one view after another, with y repeated: the
        fit cycles through them, a view for each pass over the data. 0: every row once.
    weight, bias : arrays of shape (C, D) and (C,), optional
        Stage 1's classifier; without one, `fit` fits the softmax classifier that
        `JointClassifier` describes.

    Attributes
    ----------
    weight_, bias_, scale_ : arrays of shape (C, D), (C,) and (C,)
    n_steps_ : int
        Steps taken; evaluations of the objective, and products with its Hessian, where it was
        solved.
    floored_ : bool
        Whether the floor on steps raised that number.
    gradient_ : float or None
        Largest entry of the exact solver's gradient at the end, taken in float64.

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
    ICLR 2020, section 4.2, and `models/TauNormClassifier.py` of its code, which scales the bias.
    """

    _fitted = ("weight_", "bias_", "scale_", "n_steps_", "floored_", "gradient_")
    _default_epochs = 5

    def __init__(
        self,
        solver: str = "exact",
        lr: float | None = None,
        momentum: float = 0.9,
        weight_decay: float | None = None,
        batch: int | None = None,
        epochs: int | None = None,
        per_class: int = 4,
        random_state: Any = 0,
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
        self.views = views
        self.weight = weight
        self.bias = bias

    def _fit(self, train: TrainingRows) -> dict[str, Any]:
        if self.solver == "exact":
            self._first_view(train.y_idx)
            W, b = self._stage1(train)
            found = best_scale(train, W, b, self._recipe().weight_decay)
            return {
                "weight_": W,
                "bias_": b,
                "scale_": found.scale,
                "n_steps_": found.evaluations,
                "floored_": False,
                "gradient_": found.verdict.gradient,
            }
        return self._fit_together([self], train)[0]

    def _fit_together(self, heads: Sequence[Self], train: TrainingRows) -> list[dict[str, Any]]:
        self._first_view(train.y_idx)
        W, b = self._stage1(train)
        scores_of = _scores_of_rows(train.feats, W, b)
        fits = [
            SgdFit(recipe, plan_steps(len(train), recipe, train.n_classes), head.random_state)
            for head, recipe in ((head, head._recipe()) for head in heads)
        ]
        scales: list[Tensor] = [b] * len(heads)
        for bundle in bundles(fits, train, lambda rng: None):
            scale = train.feats.new_ones(*bundle.members.shape, train.n_classes)
            learn_scale(scale, train, scores_of, bundle)
            for place, found in zip(bundle.members.ravel(), scale.flatten(0, 1), strict=True):
                scales[place] = found.clone()
        return [
            {
                "weight_": W.clone(),
                "bias_": b.clone(),
                "scale_": scale,
                "n_steps_": fit.plan.n_steps,
                "floored_": fit.plan.floored,
                "gradient_": None,
            }
            for scale, fit in zip(scales, fits, strict=True)
        ]

    def _scorer(self, feats: Tensor) -> Scorer:
        W, b, scale = (match(part, feats) for part in (self.weight_, self.bias_, self.scale_))
        return lambda block: linear_scores(block, W, b) * scale

    def linear(self) -> tuple[Any, Any]:
        """Return the head as one linear layer: weight (C, D) and bias (C,)."""
        check_is_fitted(self)
        W = as_tensor(self.weight_)
        scale, b = match(self.scale_, W), match(self.bias_, W)
        return to_kind(W * scale.unsqueeze(1), self.weight_), to_kind(b * scale, self.weight_)


def _scores_of_rows(feats: Tensor, W: Tensor, b: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function from row numbers to frozen scores.

    Scores are kept and looked up, unless they take more memory than the features.
    """
    if len(W) > feats.shape[1]:
        return lambda rows: linear_scores(feats[rows], W, b)
    blocks = row_blocks(len(feats), feats.shape[1])
    return torch.cat([linear_scores(feats[rows], W, b) for rows in blocks]).__getitem__


def learn_scale(
    scale: Tensor, train: TrainingRows, scores_of: Callable[[Tensor], Tensor], bundle: Bundle[None]
) -> None:
    """Train a stack of factors in place by SGD.

    Parameters
    ----------
    scale : Tensor of shape (S, H, C)
        The factors of H fits on each of S streams of batches.
    train : TrainingRows
    scores_of : callable
        From row numbers (k,) to the frozen scores of those rows, (k, C).
    bundle : Bundle
        The batches of every step, and what each fit does.
    """
    within = train.sample_weight_in_class()

    def gradient(params: Sequence[Tensor], rows: Tensor) -> tuple[Tensor]:
        (scale,) = params
        n_heads, n_classes = scale.shape[1:]
        frozen = scores_of(rows.reshape(-1)).view(*rows.shape, 1, n_classes)
        target = train.y_idx[rows].unsqueeze(2).expand(-1, -1, n_heads)
        scores = frozen * scale.unsqueeze(1)
        _, error = softmax_error(scores.view(-1, n_classes), target.reshape(-1))
        error = error.view(scores.shape) * frozen
        if within is not None:
            error *= within[rows].view(*rows.shape, 1, 1)
        return (error.mean(dim=1),)

    descend_together([scale], gradient, bundle.batches, bundle.schedule)
