"""Post-hoc logit adjustment of a linear classifier."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from heads._arrays import as_tensor, match, row_blocks, to_kind
from heads._checks import refuse_overflow
from heads._params import check_number
from heads.curves.families import AdjustLines, log_prior
from heads.estimators.base import Scorer, Stage1Head
from heads.solvers.rows import TrainingRows

__all__ = ["LogitAdjustment"]

# A larger tau, in size, times the log shares leaves nothing of the logits in float32.
MOST_ADJUSTMENT = 1e4


class LogitAdjustment(Stage1Head):
    """The stage-1 classifier minus tau times the logarithm of each class's share in training.

    Scores are f_c(x) - tau log pi_c with f the stage-1 logits, bias included, and pi_c the share
    of class c among the labels that `fit` sees; a class without rows counts as one row. tau = 0
    gives stage 1 back; tau = 1 is consistent for the balanced error.

    Parameters
    ----------
    tau : float, default 1.0
        How strongly frequent classes are held back, at most 10,000 in size.
    weight, bias : arrays of shape (C, D) and (C,), optional
        Stage 1's classifier; without one, `fit` fits the softmax classifier that
        `JointClassifier` describes.

    Attributes
    ----------
    weight_, bias_ : arrays of shape (C, D) and (C,)
        Stage 1's classifier as it is.
    log_prior_ : array of shape (C,)
        log pi_c.

    References
    ----------
    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 9.

    Examples
    --------
    >>> import numpy as np
    >>> from heads import LogitAdjustment
    >>> head = LogitAdjustment(weight=np.eye(2)).fit(np.ones((4, 2)), [0, 0, 0, 1])
    >>> head.predict(np.array([[0.5, 0.0]]))
    array([1])
    """

    _fitted = ("weight_", "bias_", "log_prior_")

    def __init__(self, tau: float = 1.0, weight: Any = None, bias: Any = None) -> None:
        self.tau = tau
        self.weight = weight
        self.bias = bias

    def _check_params(self) -> None:
        super()._check_params()
        check_number(
            type(self).__name__, "tau", self.tau, low=-MOST_ADJUSTMENT, high=MOST_ADJUSTMENT
        )

    def _fit(self, train: TrainingRows) -> dict[str, Any]:
        W, b = self._stage1(train)
        prior = log_prior(train.class_counts())
        return {"weight_": W, "bias_": b, "log_prior_": prior.to(W.device)}

    def _lines(self, feats: Tensor) -> AdjustLines:
        """Return the scores as lines in tau, like the features."""
        prior = as_tensor(self.log_prior_).to(feats.device)
        return AdjustLines(match(self.weight_, feats), match(self.bias_, feats), prior)

    def _scorer(self, feats: Tensor) -> Scorer:
        lines, tau = self._lines(feats), self.fitted_params()["tau"]
        return lambda block: lines.scores(lines.products(block), tau)

    def _predict_idx(self, feats: Tensor) -> Tensor:
        lines, tau = self._lines(feats), self.fitted_params()["tau"]
        blocks = row_blocks(len(feats), max(lines.weight.shape))
        products = (lines.products(feats[rows]) for rows in blocks)
        return torch.cat([lines.winners(refuse_overflow(f), tau) for f in products])

    def linear(self) -> tuple[Any, Any]:
        """Return the head as one linear layer: weight (C, D) and bias (C,)."""
        check_is_fitted(self)
        b, tau = as_tensor(self.bias_), self.fitted_params()["tau"]
        return self.weight_, to_kind(b - match(tau * self.log_prior_, b), self.bias_)
