"""What computes a model's scores from pixels; here, a network and a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featbank.data.transforms import InputSpec
from featbank.serving.layers import Normalise
from featbank.serving.record import ModelRecord

__all__ = ["Backend", "Floats", "HeadBackend", "Loaded", "two_columns"]

Floats = NDArray[np.float32]


class Backend(Protocol):
    """From uint8 pixels (B, 3, H, W) to scores (B, C) and features (B, D)."""

    def __call__(self, pixels: Tensor) -> tuple[Floats, Floats]:
        """Return scores and features of a batch."""


@dataclass(frozen=True)
class Loaded:
    """What a model is made of.

    Attributes
    ----------
    record : ModelRecord
        What its numbers mean, and where they come from.
    backend : Backend or None
        What computes scores; None for a head without its network.
    head : Head or None
        The head, where features are to be labelled too.
    """

    record: ModelRecord
    backend: Backend | None
    head: Any = None


class HeadBackend:
    """A frozen backbone and a fitted head, as extraction and evaluation run them.

    Parameters
    ----------
    spec : InputSpec
        Whose mean and standard deviation normalise the pixels.
    backbone : Module
        From normalised images (B, 3, H, W) to features (B, D).
    head : Head
        Fitted.
    device : torch.device
        Where the backbone runs.
    """

    def __init__(
        self, spec: InputSpec, backbone: nn.Module, head: Any, device: torch.device
    ) -> None:
        self.normalise = Normalise(spec).to(device).eval()
        self.backbone, self.head, self.device = backbone.to(device).eval(), head, device

    def __call__(self, pixels: Tensor) -> tuple[Floats, Floats]:
        """Return scores and features of a batch."""
        with torch.inference_mode():
            given = pixels.to(self.device, non_blocking=True)
            features = self.backbone(self.normalise(given)).float().cpu().numpy()
        return two_columns(self.head.decision_function(features)), features


def two_columns(scores: Any) -> Floats:
    """Return scores (n, C); those of two classes, (n,), become the columns 0 and themselves."""
    array = np.asarray(scores, dtype=np.float32)
    return array if array.ndim == 2 else np.stack([np.zeros_like(array), array], axis=1)
