"""The stage-1 classifier as it is: the baseline that every other head is compared with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from heads._base import Stage1Head
from heads._checks import MOST_DECAY, check_number

__all__ = ["JointClassifier"]


class JointClassifier(Stage1Head):
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
    weight_decay : float, default 5e-4
        Used only where no `weight` is given.

    Attributes
    ----------
    weight_, bias_ : arrays of shape (C, D) and (C,)
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

    def __init__(self, weight: Any = None, bias: Any = None, weight_decay: float = 5e-4) -> None:
        self.weight = weight
        self.bias = bias
        self.weight_decay = weight_decay

    def _check_params(self) -> None:
        super()._check_params()
        check_number(type(self).__name__, "weight_decay", self.weight_decay, low=0, high=MOST_DECAY)

    def _fit(
        self, feats: Tensor, y_idx: Tensor, n_classes: int, weights: Tensor | None = None
    ) -> dict[str, Any]:
        W, b = self._stage1(feats, y_idx, n_classes, weights, self.weight_decay)
        return {"weight_": W, "bias_": b}
