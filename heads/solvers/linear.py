"""Linear scores and the gradient of the cross-entropy in them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["linear_scores", "softmax_error", "softmax_shares"]

# A share below this has lost digits in float32, or is zero.
_LEAST_SHARE = 1e-30
# A share is raised to this: it is nothing beside 1, and no product with it leaves the normal
# numbers, where everything is twenty times slower.
_NOTHING = 1e-19


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


def softmax_shares(scores: Tensor, y_idx: Tensor, again: Callable[[Tensor], Tensor]) -> Tensor:
    """Turn scores (n, C) into softmax shares in place; return the cross-entropy of each row (n,).

    Fused and in one buffer, so several times faster than `softmax_error` on blocks that a core's
    cache holds. Where the share of the true class is next to nothing its loss is computed from
    the scores, which `again` gives for row numbers (k,).
    """
    target = y_idx.unsqueeze(1)
    torch.softmax(scores, dim=1, out=scores)
    share = scores.gather(1, target).squeeze(1)
    losses = -share.log()
    lost = (share < _LEAST_SHARE).nonzero().squeeze(1)
    if len(lost):
        anew = again(lost)
        losses[lost] = torch.logsumexp(anew, dim=1) - anew.gather(1, target[lost]).squeeze(1)
    scores.clamp_(min=_NOTHING)
    return losses
