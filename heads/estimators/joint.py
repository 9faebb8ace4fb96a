"""The stage-1 classifier as it is: the baseline that every other head is compared with."""

from __future__ import annotations

from typing import Any

from heads._params import MOST_DECAY, check_number
from heads.errors import HeadInputError
from heads.estimators.base import STAGE1_WEIGHT_DECAY
from heads.estimators.convex_head import ConvexHead
from heads.solvers.objective import Goal, natural
from heads.solvers.optimum import Fitted
from heads.solvers.rows import TrainingRows

__all__ = ["JointClassifier"]


class JointClassifier(ConvexHead):
    """The linear classifier that was trained jointly with the representation.

    Scores are w_c . x + b_c. Given stage 1's `weight` and `bias`, `fit` only takes them over.
    Given none, it minimises the mean over all rows of the softmax cross-entropy plus
    (weight_decay / 2) ||(W, b)||^2 to its optimum, as `ClassifierRetraining` does, or warns.

    Parameters
    ----------
    weight : array of shape (C, D), optional
        Stage 1's weight; then `classes_` is 0..C-1, even where y lacks some.
    bias : array of shape (C,), optional
        Stage 1's bias; zeros if only `weight` is given.
    weight_decay : float, optional
        How strongly weights are pulled towards zero, used only where no `weight` is given. The
        default is 5e-4 for features whose mean squared distance from their mean is about 30; for
        others it is multiplied by the square of their unit. `fit_path` chooses it on a validation
        split.

    Attributes
    ----------
    weight_, bias_ : arrays of shape (C, D) and (C,)
    weight_decay_ : float or None
        The weight decay that was used; None where stage 1's classifier was taken over.
    classes_ : ndarray of shape (C,)

    Examples
    --------
    >>> import numpy as np
    >>> from heads import JointClassifier
    >>> head = JointClassifier(weight=np.eye(2)).fit(np.eye(2), [0, 1])
    >>> head.predict(np.array([[0.2, 0.9]]))
    array([1])
    """

    _fitted = ("weight_", "bias_")
    _usual_weight_decay = STAGE1_WEIGHT_DECAY

    def __init__(
        self, weight: Any = None, bias: Any = None, weight_decay: float | None = None
    ) -> None:
        self.weight = weight
        self.bias = bias
        self.weight_decay = weight_decay

    def _check_params(self) -> None:
        super()._check_params()
        if self.weight_decay is not None:
            check_number(
                type(self).__name__, "weight_decay", self.weight_decay, low=0, high=MOST_DECAY
            )

    def _fit(self, train: TrainingRows) -> dict[str, Any]:
        if self.weight is None:
            return self._fit_exactly(train)
        W, b = self._stage1(train)
        return {"weight_": W, "bias_": b, "weight_decay_": None}

    def _goal(self, train: TrainingRows) -> Goal:
        if self.weight is not None:
            message = (
                "JointClassifier: a given weight is taken as it is, so there is no weight decay to "
                "choose: use fit, or leave the weight out"
            )
            raise HeadInputError(message)
        return natural(train)

    def _solved(self, found: Fitted) -> dict[str, Any]:
        return {"weight_": found.W, "bias_": found.b}
