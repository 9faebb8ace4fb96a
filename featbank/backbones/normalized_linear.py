"""The classifier of LDAM: cosines of features and weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NormalizedLinear"]


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
