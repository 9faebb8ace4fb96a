"""The logit-adjusted loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["logit_adjusted"]


def logit_adjusted(
    logits: Tensor, labels: Tensor, counts: Tensor, tau: float, smoothing: float = 0.0
) -> Tensor:
    """Return the cross-entropy of z + tau log pi of every row, (N,), with pi = n / N.

    At tau = 1 it is `balanced_softmax`.

    Parameters
    ----------
    logits, labels
        (N, C) floats and (N,) ints in 0..C-1.
    counts
        n_c: training rows of each class, (C,) floats, at least 1 each.
    tau
        How much of the prior is taken out.
    smoothing
        See `featbank.stage1.losses.cross_entropy`.

    References
    ----------
    Menon et al., "Long-Tail Learning via Logit Adjustment" (ICLR 2021).
    """
    shifted = logits + tau * (counts / counts.sum()).log()
    return functional.cross_entropy(shifted, labels, reduction="none", label_smoothing=smoothing)
