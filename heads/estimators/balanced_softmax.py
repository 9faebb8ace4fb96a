"""Balanced softmax: natural sampling, with the class counts inside the loss."""

from __future__ import annotations

from typing import Any

from heads._params import MOST_DECAY, check_number, check_one_of
from heads.balancing.weighting import class_shares
from heads.curves.families import log_prior
from heads.errors import HeadInputError
from heads.estimators.convex_head import ANCHORS, ConvexHead
from heads.solvers.objective import Goal
from heads.solvers.rows import TrainingRows

__all__ = ["BalancedSoftmax"]


class BalancedSoftmax(ConvexHead):
    """A linear classifier that minimises the cross-entropy of W x + b + log n_c.

    The mean runs over all rows as they come; the counts in the loss do the balancing, so
    class-balanced sampling on top would count it twice and is refused. Predictions use W x + b.
    The objective adds (weight_decay / 2) ||(W, b) - anchor||^2 and is solved to its optimum.

    Parameters
    ----------
    weight_decay : float, default 3e-3
        How strongly weights are pulled towards the anchor. The default holds for features whose
        mean squared distance from their mean is about 30; for others it is multiplied by the square
        of their unit. `fit_path` chooses it on a validation split.
    anchor : {"zero", "stage1"}, optional
        What the penalty pulls towards; stage 1's classifier where a `weight` is given, else zero.
    sampling : {"instance"}, default "instance"
        How the rows are sampled. "class" is refused: with it the balance would count twice.
    weight, bias : arrays of shape (C, D) and (C,), optional
        Stage 1's classifier, for `anchor="stage1"`.

    Attributes
    ----------
    weight_, bias_ : arrays of shape (C, D) and (C,)
    weight_decay_ : float
        The weight decay that was used.
    n_steps_ : int
        Evaluations of the objective, and products with its Hessian.
    gradient_ : float
        Largest entry of the gradient in W and b at the end, taken in float64.

    Raises
    ------
    HeadInputError
        In `fit`: a parameter outside its range, or class-balanced sampling.

    Warns
    -----
    ConvergenceWarning
        Where the fit may have ended further above the optimum than 1e-9 of the objective (1e-6 for
        float32 features).

    References
    ----------
    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020,
    equation 3.
    """

    _fitted = ("weight_", "bias_", "n_steps_", "gradient_")

    def __init__(
        self,
        weight_decay: float | None = None,
        anchor: str | None = None,
        sampling: str = "instance",
        weight: Any = None,
        bias: Any = None,
    ) -> None:
        self.weight_decay = weight_decay
        self.anchor = anchor
        self.sampling = sampling
        self.weight = weight
        self.bias = bias

    def _check_params(self) -> None:
        owner = type(self).__name__
        if self.weight_decay is not None:
            check_number(
                owner, "weight_decay", self.weight_decay, low=0, high=MOST_DECAY, above=True
            )
        if self.anchor is not None:
            check_one_of(owner, "anchor", self.anchor, ANCHORS)
        if isinstance(self.sampling, str) and self.sampling == "class":
            message = (
                "balanced softmax with class-balanced sampling counts the balance twice: "
                "leave sampling at 'instance', or use ClassifierRetraining"
            )
            raise HeadInputError(message)
        check_one_of(owner, "sampling", self.sampling, ("instance",))

    def _fit(self, train: TrainingRows) -> dict[str, Any]:
        return self._fit_exactly(train)

    def _goal(self, train: TrainingRows) -> Goal:
        counts = train.class_counts()
        anchor = self.anchor or ("zero" if self.weight is None else "stage1")
        return Goal(
            class_shares=class_shares(counts, 1.0),
            log_prior=log_prior(counts).to(train.feats),
            anchor=self._anchor_point(anchor, train),
        )
