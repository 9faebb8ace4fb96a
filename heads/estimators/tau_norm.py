"""Tau-normalisation of a linear classifier."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from heads._arrays import as_tensor, match, row_blocks, to_kind
from heads._checks import refuse_overflow
from heads._params import check_flag, check_number
from heads.curves.families import MOST_TAU, TauLines, scaled_scores, tau_scale
from heads.estimators.base import Scorer, Stage1Head
from heads.solvers.rows import TrainingRows

__all__ = ["TauNorm"]

# The number of rows, evenly spaced, on which it is seen what dropping the bias does, and the number
# below which rows tell too little.
LOOKED_AT, FEWEST = 1024, 100


class TauNorm(Stage1Head):
    """The stage-1 classifier with its rows divided by their norms to the power tau.

    Scores are (w_c / ||w_c||^tau) . x, computed as (w_c . x) ||w_c||^-tau; the bias is dropped,
    as in the code of the paper, unless `keep_bias` adds it unscaled. tau = 0 gives W back,
    tau = 1 rows of norm 1; a row of zeros stays zero.

    Parameters
    ----------
    tau : float, default 1.0
        How strongly rows are normalised, at least 0. A tau for which a scale leaves the normal
        numbers of the dtype is refused.
    keep_bias : bool, default False
        Whether the bias is added, unscaled, rather than dropped.
    weight, bias : arrays of shape (C, D) and (C,), optional
        Stage 1's classifier; without one, `fit` fits the softmax classifier that
        `JointClassifier` describes.

    Attributes
    ----------
    weight_, bias_ : arrays of shape (C, D) and (C,)
        The classifier that is normalised, not yet scaled; `bias_` is zeros where it is dropped.
    scale_ : array of shape (C,)
        ||w_c||^-tau.

    Raises
    ------
    HeadInputError
        In `fit`: a parameter outside its range.

    Warns
    -----
    UserWarning
        In `fit`: where the classifier hardly tells the classes without its bias.

    References
    ----------
    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
    ICLR 2020, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from heads import TauNorm
    >>> head = TauNorm(weight=np.diag([4.0, 1.0])).fit(np.eye(2), [0, 1])
    >>> head.predict(np.array([[0.5, 0.9]]))
    array([1])
    """

    _fitted = ("weight_", "bias_", "scale_")

    def __init__(
        self, tau: float = 1.0, keep_bias: bool = False, weight: Any = None, bias: Any = None
    ) -> None:
        self.tau = tau
        self.keep_bias = keep_bias
        self.weight = weight
        self.bias = bias

    def _check_params(self) -> None:
        super()._check_params()
        check_number(type(self).__name__, "tau", self.tau, low=0, high=MOST_TAU)
        check_flag(type(self).__name__, "keep_bias", self.keep_bias)

    def _fit(self, train: TrainingRows) -> dict[str, Any]:
        W, b = self._stage1(train)
        bias = b if self.keep_bias else torch.zeros_like(b)
        if not self.keep_bias:
            warn_if_bias_decides(train, W, b)
        return {"weight_": W, "bias_": bias, "scale_": tau_scale(W, self.tau)}

    def _scorer(self, feats: Tensor) -> Scorer:
        W, b, scale = (match(part, feats) for part in (self.weight_, self.bias_, self.scale_))
        return lambda block: scaled_scores(block @ W.T, scale, b)

    def _predict_idx(self, feats: Tensor) -> Tensor:
        used = self.fitted_params()
        if used["keep_bias"]:
            return super()._predict_idx(feats)
        lines = TauLines(match(self.weight_, feats))
        blocks = row_blocks(len(feats), max(lines.weight.shape))
        products = (lines.products(feats[rows]) for rows in blocks)
        return torch.cat([lines.winners(refuse_overflow(z), used["tau"]) for z in products])

    def linear(self) -> tuple[Any, Any]:
        """Return the head as one linear layer: weight (C, D) and bias (C,)."""
        check_is_fitted(self)
        W = as_tensor(self.weight_)
        return to_kind(W * match(self.scale_, W).unsqueeze(1), self.weight_), self.bias_


def warn_if_bias_decides(train: TrainingRows, W: Tensor, b: Tensor) -> None:
    """Warn where the classifier W (C, D), b (C,) tells the classes by its bias, which is dropped.

    That happens where features lie far from the origin, compared with what sets the classes apart.
    """
    some = slice(None, None, max(1, len(train) // LOOKED_AT))
    scores, labels = train.feats[some] @ W.T, train.y_idx[some]
    plain, whole = (
        float((given.argmax(dim=1) == labels).double().mean()) for given in (scores, scores + b)
    )
    if len(labels) >= FEWEST and plain < whole / 3:
        message = (
            f"tau-norm drops the bias, without which the classifier tells {100 * plain:.0f} % of "
            f"the training rows instead of {100 * whole:.0f} %: centre the features, or keep the "
            "bias"
        )
        warnings.warn(message, UserWarning, stacklevel=2)
