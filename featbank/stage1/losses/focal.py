"""The focal loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["focal", "softmax_focal"]


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return sum_c -(1 - p_c)^gamma log p_c of every row, (N,), with one sigmoid for each class.

    p_c = sigmoid(z_c) for the row's class and sigmoid(-z_c) for the others.

    Parameters
    ----------
    logits : Tensor of shape (N, C)
        The logits z.
    labels : Tensor of shape (N,), int64
        The classes y, in 0..C-1.
    gamma : float
        How much less an example counts the surer its class is, 0 or more; 0 gives sigmoid
        cross-entropy.

    References
    ----------
    Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), without its alpha; summed over
    classes as the focal loss of Cui et al., "Class-Balanced Loss" (CVPR 2019).
    """
    own = functional.one_hot(labels, logits.shape[1]).bool()
    log_p = functional.logsigmoid(torch.where(own, logits, -logits).float())
    return _modulated(log_p, gamma).sum(dim=1)


def softmax_focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return -(1 - p_y)^gamma log p_y of every row, (N,), with p the softmax.

    References
    ----------
    ``FocalLoss`` in the code of Cao et al. (LDAM-DRW, NeurIPS 2019) and of many after them.
    """
    log_p = logits.float().log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
    return _modulated(log_p, gamma)


def _modulated(log_p: Tensor, gamma: float) -> Tensor:
    """Return -(1 - p)^gamma log p; 1 - p as a difference of logarithms keeps its precision."""
    # At gamma < 1 the slope of the power is infinite at 0, where gradients would be NaN.
    wrong = -torch.expm1(log_p.clamp(max=-1e-12))
    return -(wrong**gamma) * log_p
