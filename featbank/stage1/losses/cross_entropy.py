"""Cross-entropy of the softmax, with label smoothing."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["cross_entropy"]


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return -sum_c q_c log p_c of every row, (N,), with p the softmax.

    Parameters
    ----------
    logits : Tensor of shape (N, C)
        The logits z.
    labels : Tensor of shape (N,), int64
        The classes y, in 0..C-1.
    smoothing : float
        Label smoothing epsilon in [0, 1): q = (1 - epsilon) [c = y] + epsilon / C.

    References
    ----------
    Smoothing: Szegedy et al., "Rethinking the Inception Architecture" (CVPR 2016).
    """
    return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
