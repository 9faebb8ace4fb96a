"""Learnable weight scaling: one scale for each class of a frozen classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from heads._arrays import as_tensor, match, one_thread_each, row_blocks, to_kind
from heads._base import Scorer, Stage1Head
from heads._convex import row_weights
from heads._exact import KEPT, ROWS_PER_CLASS, few_rows
from heads._lbfgs import Found, minimise
from heads._linear import linear_scores, softmax_error
from heads._recipe import RecipeParams
from heads._sgd import Schedule, descend_together, plan_steps
from heads._streams import bundles
from heads._weighting import within_class

__all__ = ["LearnableWeightScaling"]

# Logits from which the optimum is first sought on a few rows of each class.
MANY_LOGITS = 1 << 22
# Logits of one piece of element-wise work: 1 MB in float32.
PIECE = 1 << 18


class LearnableWeightScaling(RecipeParams, Stage1Head):
    """The stage-1 classifier with a learned factor for each class.

    Scores are s_c (w_c . x + b_c): W and b are frozen. With `solver="exact"` s minimises
    sum_c (1/C) mean over class c of the cross-entropy, plus (weight_decay / 2) ||s||^2, by L-BFGS
    in C numbers on logits that are computed once. With `solver="sgd"` s starts at 1 and is
    trained on class-aware batches, as the paper's recipe does.

    Parameters
    ----------
    solver : {"exact", "sgd"}, default "exact"
    lr : float, default 0.2
        Rate of the first epoch; half a cosine takes it down, a step after each epoch.
    momentum : float, default 0.9
    weight_decay : float, default 5e-4
    batch : int, default 512
    epochs : int, default 5
        Of int(n / batch) steps; with fewer than 10 batches of rows at least 200 steps in all.
    per_class : int, default 4
        Rows in a row from each class drawn.
    random_state : int, numpy.random.Generator or None, default 0
    weight, bias : arrays of shape (C, D) and (C,), optional
        Stage 1's classifier; without one, `fit` fits the softmax classifier that
        `JointClassifier` describes.

    Attributes
    ----------
    weight_, bias_, scale_ : arrays of shape (C, D), (C,) and (C,)
    n_steps_ : int
        Steps taken; evaluations of the objective where it was solved.
    floored_ : bool
        Whether the floor on steps raised that number.
    gradient_ : float or None
        Largest entry of the exact solver's gradient at the end.

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
        self.weight = weight
        self.bias = bias

    def _fit(
        self, feats: Tensor, y_idx: Tensor, n_classes: int, weights: Tensor | None = None
    ) -> dict[str, Any]:
        if self.solver == "exact":
            W, b = self._stage1(feats, y_idx, n_classes, weights)
            found = best_scale(feats, y_idx, W, b, self._recipe().weight_decay, weights)
            return {
                "weight_": W,
                "bias_": b,
                "scale_": found.point.to(feats.dtype),
                "n_steps_": found.evaluations,
                "floored_": False,
                "gradient_": float(found.gradient.abs().max()),
            }
        return self._fit_together([self], feats, y_idx, n_classes, weights)[0]

    def _fit_together(
        self,
        heads: Sequence[Self],
        feats: Tensor,
        y_idx: Tensor,
        n_classes: int,
        weights: Tensor | None = None,
    ) -> list[dict[str, Any]]:
        W, b = self._stage1(feats, y_idx, n_classes, weights)
        within = None if weights is None else within_class(y_idx, n_classes, weights).to(feats)
        scores_of = _scores_of_rows(feats, W, b)
        recipes = [head._recipe() for head in heads]
        plans = [plan_steps(len(feats), recipe) for recipe in recipes]
        states = [head.random_state for head in heads]
        scales: list[Tensor] = [b] * len(heads)
        for bundle in bundles(recipes, plans, states, y_idx, feats, lambda rng: None):
            scale = feats.new_ones(*bundle.members.shape, n_classes)
            learn_scale(scale, scores_of, y_idx, within, bundle.batches, bundle.plan)
            for place, found in zip(bundle.members.ravel(), scale.flatten(0, 1), strict=True):
                scales[place] = found.clone()
        return [
            {
                "weight_": W.clone(),
                "bias_": b.clone(),
                "scale_": scale,
                "n_steps_": plan.n_steps,
                "floored_": plan.floored,
                "gradient_": None,
            }
            for scale, plan in zip(scales, plans, strict=True)
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
    """Return a function from row numbers to frozen scores: looked up unless wider than `feats`."""
    if len(W) > feats.shape[1]:
        return lambda rows: linear_scores(feats[rows], W, b)
    blocks = row_blocks(len(feats), feats.shape[1])
    return torch.cat([linear_scores(feats[rows], W, b) for rows in blocks]).__getitem__


def best_scale(
    feats: Tensor,
    y_idx: Tensor,
    W: Tensor,
    b: Tensor,
    weight_decay: float,
    weights: Tensor | None = None,
) -> Found:
    """Minimise the class-balanced objective in the factors (C,).

    Where there is much data, the optimum of a few rows of each class is the start; else 1.
    """
    start = torch.ones(len(W), dtype=torch.float64, device=feats.device)
    few = few_rows(y_idx, len(W), ROWS_PER_CLASS)
    if len(feats) * len(W) > MANY_LOGITS and 3 * len(few) < len(feats):
        of_few = row_weights(y_idx[few], len(W), None, None if weights is None else weights[few])
        start = _best_scale(feats[few], y_idx[few], W, b, weight_decay, start, of_few).point
    of_all = row_weights(y_idx, len(W), None, weights)
    return _best_scale(feats, y_idx, W, b, weight_decay, start, of_all)


def _best_scale(
    feats: Tensor,
    y_idx: Tensor,
    W: Tensor,
    b: Tensor,
    weight_decay: float,
    start: Tensor,
    weights: Tensor,
) -> Found:
    """Minimise from a start (C,), the loss of each row by its weight (n,).

    The logits are computed once and kept where they fit in memory, else block by block again.
    """
    kept = None if len(feats) * len(W) > KEPT else linear_scores(feats, W, b)
    # Element-wise work on one thread, in pieces that stay in a core's cache: shared out operation
    # by operation it took ten times as long on two busy cores.
    rows_each = max(64, PIECE // len(W))
    blocks = [slice(s, s + rows_each) for s in range(0, len(feats), rows_each)]

    def bend() -> Tensor:
        """Return the Hessian's diagonal at the start, by which the factors are conditioned."""
        total = torch.full((len(W),), weight_decay, dtype=torch.float64, device=feats.device)
        for rows in blocks:
            frozen = linear_scores(feats[rows], W, b) if kept is None else kept[rows]
            share = (frozen * start.to(frozen.dtype)).softmax(dim=1)
            share -= share.square()
            weight = weights[rows]
            total += weight.to(share.dtype) @ share.mul_(frozen).mul_(frozen)
        return total.clamp_(min=float(total.mean()) * 1e-2)

    def part(scale: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        frozen = linear_scores(feats[rows], W, b) if kept is None else kept[rows]
        losses, error = softmax_error(frozen * scale, y_idx[rows])
        weight = weights[rows]
        return (losses * weight).sum(), weight.to(error.dtype) @ error.mul_(frozen)

    def objective(scale: Tensor) -> tuple[float, Tensor]:
        near = scale.to(feats.dtype)
        parts = list(spread(lambda rows: part(near, rows), blocks))  # summed in their order
        loss = float(torch.stack([value for value, _ in parts]).sum())
        slope = torch.stack([slope for _, slope in parts]).sum(dim=0, dtype=torch.float64)
        return loss + weight_decay / 2 * float(scale @ scale), slope + weight_decay * scale

    tolerance = 1e-7 if feats.dtype == torch.float32 else 1e-10
    least = 1e-11 if feats.dtype == torch.float32 else 1e-15
    with one_thread_each(feats.is_cuda or len(blocks) < 4) as spread:
        unit = bend().rsqrt()

        def conditioned(point: Tensor) -> tuple[float, Tensor]:
            value, slope = objective(point * unit)
            return value, slope * unit

        found = minimise(
            conditioned,
            start / unit,
            lambda slope: float((slope / unit).abs().max()) <= tolerance,
            200,
            least,
        )
    return Found(found.point * unit, found.value, found.gradient / unit, found.evaluations)


def learn_scale(
    scale: Tensor,
    scores_of: Callable[[Tensor], Tensor],
    y_idx: Tensor,
    within: Tensor | None,
    batches: Tensor,
    plan: Schedule,
) -> None:
    """Train a stack of factors (S, H, C) in place; batches are rows (n_steps, S, batch)."""

    def gradient(params: Sequence[Tensor], rows: Tensor) -> tuple[Tensor]:
        (scale,) = params
        n_heads, n_classes = scale.shape[1:]
        frozen = scores_of(rows.reshape(-1)).view(*rows.shape, 1, n_classes)
        target = y_idx[rows].unsqueeze(2).expand(-1, -1, n_heads)
        scores = frozen * scale.unsqueeze(1)
        _, error = softmax_error(scores.view(-1, n_classes), target.reshape(-1))
        error = error.view(scores.shape) * frozen
        if within is not None:
            error *= within[rows].view(*rows.shape, 1, 1)
        return (error.mean(dim=1),)

    descend_together([scale], gradient, batches, plan)
