"""The label-distribution-aware margin loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["ldam", "ldam_margins"]


def ldam_margins(counts: NDArray[np.int64], max_margin: float) -> NDArray[np.float64]:
    """Return Delta_c = K / n_c^(1/4), (C,), with K such that the largest is `max_margin`.

    References
    ----------
    Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss" (NeurIPS
    2019); ``m_list`` in ``losses.py`` of their code.
    """
    margins = counts.astype(np.float64) ** -0.25
    return np.asarray(margins * (max_margin / margins.max()))


def ldam(
    cosines: Tensor, labels: Tensor, margins: Tensor, scale: float, smoothing: float = 0.0
) -> Tensor:
    """Return the cross-entropy of s (z - Delta_y [c = y]) of every row, (N,).

    Parameters
    ----------
    cosines : Tensor of shape (N, C)
        The logits z in [-1, 1], as a `NormalizedLinear` of `featbank.backbones` gives them.
    labels : Tensor of shape (N,), int64
        The classes y, in 0..C-1.
    margins : Tensor of shape (C,)
        Delta, as `ldam_margins` gives it.
    scale : float
        The factor s of the cosines; 30 in the authors' code.
    smoothing : float
        Label smoothing epsilon, as in `featbank.stage1.losses.cross_entropy`.

    References
    ----------
    Cao et al. (2019); ``LDAMLoss`` in ``losses.py`` of their code.
    """
    shift = functional.one_hot(labels, cosines.shape[1]) * margins
    shifted = scale * (cosines.float() - shift)
    return functional.cross_entropy(shifted, labels, reduction="none", label_smoothing=smoothing)
