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
    logits : Tensor of shape (N, C)
        The logits z.
    labels : Tensor of shape (N,), int64
        The classes y, in 0..C-1.
    counts : Tensor of shape (C,)
        n_c: training rows of each class, at least 1.
    tau : float
        How strongly the logits are shifted by the class frequencies pi; 0 is cross-entropy.
    smoothing : float
        Label smoothing epsilon, as in `featbank.stage1.losses.cross_entropy`.

    References
    ----------
    Menon et al., "Long-Tail Learning via Logit Adjustment" (ICLR 2021).
    """
    shifted = logits + tau * (counts / counts.sum()).log()
    return functional.cross_entropy(shifted, labels, reduction="none", label_smoothing=smoothing)
