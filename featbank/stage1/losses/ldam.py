"""The label-distribution-aware margin loss, and the classifier that it is for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NormalizedLinear", "ldam", "ldam_margins"]


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
        The logits z in [-1, 1], as `NormalizedLinear` gives them.
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


class NormalizedLinear(nn.Linear):
    """A linear layer whose logits are cosines of feature and weight row; it has no bias.

    ``NormedLinear`` in the code of Cao et al. (2019): rows start uniform in [-1, 1], at unit norm.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        """Draw new rows."""
        with torch.no_grad():
            self.weight.uniform_(-1, 1)
            self.weight.copy_(functional.normalize(self.weight))

    def forward(self, features: Tensor) -> Tensor:
        """Return cosines (N, C) of features (N, D)."""
        # In float32 even under autocast, because the loss multiplies the rounding error by s.
        with torch.autocast(features.device.type, enabled=False):
            rows = functional.normalize(self.weight)
            return functional.linear(functional.normalize(features.float()), rows)
