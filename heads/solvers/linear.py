"""Linear scores, and the cross-entropy of scores with its gradient in them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["cross_entropy_and_error", "linear_scores", "softmax_error", "softmax_shares"]

# A softmax share below this has lost digits in float32, or is zero.
_LEAST_SHARE = 1e-30
# Softmax shares are raised to this: it is nothing beside 1, and no product with it leaves the
# normal numbers, outside which processors compute twenty times slower.
_NOTHING = 1e-19
# The logarithm that terms of a softmax are raised to: a smaller term would leave the normal numbers
# of float64 when it is squared.
_LEAST_LOG = 0.5 * math.log(torch.finfo(torch.float64).tiny)


def linear_scores(feats: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Return feats W^T + b, (n, C), of feats (n, D), W (C, D) and b (C,)."""
    return torch.addmm(b, feats, W.T)


def softmax_error(scores: Tensor, y_idx: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each row (n,), and its gradient in the scores (n, C).

    The gradient is softmax(scores) minus the one-hot labels. It is made of elementary operations,
    because those run small batches on one thread: `torch.softmax` starts all threads, and on a
    busy machine waits for each.
    """
    rows = torch.arange(len(y_idx), device=scores.device)
    error = scores - scores.amax(dim=1, keepdim=True)
    target = error[rows, y_idx]
    # A smaller term is nothing beside the largest, 1, but it or a product with it would leave the
    # normal numbers, outside which processors compute twenty times slower.
    error.clamp_(min=0.5 * math.log(torch.finfo(error.dtype).tiny))
    total = error.exp_().sum(dim=1, keepdim=True)
    error /= total
    error[rows, y_idx] -= 1
    return total.squeeze(1).log() - target, error


def softmax_shares(scores: Tensor, y_idx: Tensor, again: Callable[[Tensor], Tensor]) -> Tensor:
    """Turn scores (n, C) into softmax shares in place; return the cross-entropy of each row (n,).

    It is fused and works in one buffer, so it is several times faster than `softmax_error` on
    blocks that a core's cache holds. Where the share of the true class is next to nothing, the loss
    is computed from the scores, which `again` gives for row numbers (k,).
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


def cross_entropy_and_error(scores: Tensor, y_idx: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each row (n,) of scores (n, C), and its gradient (n, C).

    Both are good to a few roundings of their own size, however small they are, because no small
    number is computed as 1 minus nearly 1.
    """
    target = y_idx.unsqueeze(1)
    lead = (scores - scores.gather(1, target)).scatter_(1, target, -torch.inf)
    most = lead.amax(dim=1).clamp_(min=0)
    others = lead.sub_(most.unsqueeze(1)).clamp_(min=_LEAST_LOG).exp_().scatter_(1, target, 0.0)
    rest, own = others.sum(dim=1), torch.exp(-most)
    losses = most + torch.log1p(torch.expm1(-most) + rest)
    error = others.div_((own + rest).unsqueeze(1))
    return losses, error.scatter_(1, target, (-rest / (own + rest)).unsqueeze(1))
