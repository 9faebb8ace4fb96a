"""Linear scores and the gradient of the cross-entropy in them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["linear_scores", "softmax_error"]


def linear_scores(feats: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Return feats W^T + b, (n, C), of feats (n, D), W (C, D) and b (C,)."""
    return torch.addmm(b, feats, W.T)


def softmax_error(scores: Tensor, y_idx: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each row (n,), and its gradient in the scores (n, C).

    The gradient is softmax(scores) minus the one-hot labels. From elementary operations: those
    run small batches on one thread, where `torch.softmax` wakes them all, and on a machine that
    is busy waits for each.
    """
    rows = torch.arange(len(y_idx), device=scores.device)
    error = scores - scores.amax(dim=1, keepdim=True)
    target = error[rows, y_idx]
    # A smaller term is nothing beside the largest, 1, but it or a product with it would leave the
    # normal numbers, where everything is twenty times slower.
    error.clamp_(min=0.5 * math.log(torch.finfo(error.dtype).tiny))
    total = error.exp_().sum(dim=1, keepdim=True)
    error /= total
    error[rows, y_idx] -= 1
    return total.squeeze(1).log() - target, error
