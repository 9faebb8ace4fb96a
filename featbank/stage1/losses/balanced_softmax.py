"""Balanced softmax."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["balanced_softmax"]


def balanced_softmax(
    logits: Tensor, labels: Tensor, counts: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Return -log(n_y exp(z_y) / sum_c n_c exp(z_c)) of every row, (N,).

    Parameters
    ----------
    logits : Tensor of shape (N, C)
        The logits z.
    labels : Tensor of shape (N,), int64
        The classes y, in 0..C-1.
    counts : Tensor of shape (C,)
        n_c: training rows of each class, at least 1.
    smoothing : float
        Label smoothing epsilon, as in `featbank.stage1.losses.cross_entropy`.

    References
    ----------
    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition" (NeurIPS 2020).
    """
    shifted = logits + counts.log()
    return functional.cross_entropy(shifted, labels, reduction="none", label_smoothing=smoothing)
