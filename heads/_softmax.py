"""The softmax classifier: mean cross-entropy plus (weight_decay / 2) ||(W, b)||^2, solved."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from heads._arrays import one_thread_if_small, row_blocks
from heads._linear import linear_scores, softmax_error

__all__ = ["fit_softmax", "softmax_objective"]

MAX_ITERATIONS = 5000
# Largest entry of the gradient at which the fit is finished, and the relative decrease of the
# objective that is no decrease any more. float32 scores leave about 1e-8 of noise in the mean.
GRADIENT_AT_END = {torch.float32: 1e-5, torch.float64: 1e-7}
DECREASE_AT_END = {torch.float32: 1e-9, torch.float64: 1e-15}


def softmax_objective(
    feats: Tensor,
    y_idx: Tensor,
    W: Tensor,
    b: Tensor,
    weight_decay: float,
    weights: Tensor | None = None,
) -> tuple[float, Tensor, Tensor]:
    """Return the objective at W (C, D), b (C,), and its gradient in both, as float64.

    Scores are computed in the dtype of `feats`, sums over rows in float64; `weights` (n,) are those
    of the rows.
    """
    loss = feats.new_zeros((), dtype=torch.float64)
    dW, db = torch.zeros_like(W, dtype=torch.float64), torch.zeros_like(b, dtype=torch.float64)
    for rows in row_blocks(len(feats), max(W.shape)):
        block, target = feats[rows], y_idx[rows]
        scores = linear_scores(block, W.to(feats.dtype), b.to(feats.dtype))
        losses, error = softmax_error(scores, target)
        if weights is not None:
            losses = losses * weights[rows]
            error *= weights[rows].to(error.dtype).unsqueeze(1)
        loss += losses.sum(dtype=torch.float64)
        dW += error.T @ block
        db += error.sum(dim=0, dtype=torch.float64)
    penalty = (W.double().square().sum() + b.double().square().sum()) * (weight_decay / 2)
    n = len(feats) if weights is None else float(weights.sum())
    return float(loss / n + penalty), dW / n + weight_decay * W, db / n + weight_decay * b


def fit_softmax(
    feats: Tensor,
    y_idx: Tensor,
    n_classes: int,
    weight_decay: float,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise the objective from zero by L-BFGS over all rows; no chance is involved.

    Warns
    -----
    ConvergenceWarning
        When the gradient at the end is a hundred times what it should be.
    """
    width = feats.shape[1]

    def unpack(theta: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        both = torch.from_numpy(theta).to(feats.device).view(n_classes, width + 1)
        return both[:, :width], both[:, width]

    def value_and_gradient(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, dW, db = softmax_objective(feats, y_idx, *unpack(theta), weight_decay, weights)
        return value, torch.cat([dW, db.unsqueeze(1)], dim=1).cpu().numpy().ravel()

    options = {
        "maxiter": MAX_ITERATIONS,
        "maxfun": 2 * MAX_ITERATIONS,
        "gtol": GRADIENT_AT_END[feats.dtype],
        "ftol": DECREASE_AT_END[feats.dtype],
    }
    start = np.zeros(n_classes * (width + 1))
    with one_thread_if_small(len(feats) * len(start)):
        found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    _warn_if_unfinished(found, feats.dtype)
    W, b = unpack(found.x)
    return W.to(feats.dtype).contiguous(), b.to(feats.dtype).contiguous()


def _warn_if_unfinished(found: Any, dtype: torch.dtype) -> None:
    """Judge by the gradient: in float32 the line search gives up at the noise, and rightly so."""
    steepest = float(np.abs(found.jac).max())
    if steepest > 100 * GRADIENT_AT_END[dtype]:
        message = (
            f"the softmax fit stopped after {found.nit} steps with a gradient of {steepest:.1e} "
            f"({found.message}): scale the features, or raise weight_decay"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
