"""A head and the normalisation of its images as layers of a network, for exporting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featbank.data.transforms import InputSpec
from heads import NearestClassMean
from heads.estimators.ncm import row_transform

__all__ = ["LinearScores", "MeanScores", "Normalise", "Served", "as_linear", "head_layer"]

Floats = NDArray[np.float32]


class Normalise(nn.Module):
    """From uint8 pixels (B, 3, H, W) to what the backbone sees, as torchvision computes it."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32 images (B, 3, H, W)."""
        # The product is float32. An exported `pixels.to(…)` would be tied to the CPU.
        scaled = pixels * (1.0 / 255)
        return (scaled - self.mean) / self.std


class LinearScores(nn.Module):
    """Scores X W^T + b."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Any, bias: Any) -> None:
        super().__init__()
        self.register_buffer("weight", torch.as_tensor(np.asarray(weight, np.float32)).clone())
        self.register_buffer("bias", torch.as_tensor(np.asarray(bias, np.float32)).clone())

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (B, C) of features (B, D)."""
        return nn.functional.linear(features, self.weight, self.bias)


class MeanScores(nn.Module):
    """The scores of `NearestClassMean`, whatever its transform and metric.

    Squared distances are taken from the middle of the class means, where rounding costs least:
    ||x - c||^2 is the same when both are moved, and the terms that cancel are smaller.
    """

    mean: Tensor
    middle: Tensor
    centroids: Tensor

    def __init__(self, head: NearestClassMean) -> None:
        super().__init__()
        used = head.fitted_params()
        self.transform, self.metric = used["transform"], used["metric"]
        centroids = torch.as_tensor(np.asarray(head.centroids_, np.float32)).clone()
        if self.metric == "cosine":
            centroids = row_transform("l2n", None)(centroids)
        middle = centroids.double().mean(dim=0).float()
        if self.metric != "l2":
            middle = torch.zeros_like(middle)
        mean = np.zeros(centroids.shape[1]) if head.mean_ is None else head.mean_
        self.register_buffer("mean", torch.as_tensor(np.asarray(mean, np.float32)).clone())
        self.register_buffer("middle", middle)
        self.register_buffer("centroids", centroids - middle)

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (B, C) of features (B, D)."""
        queries = features - self.mean if self.transform == "cl2n" else features
        queries = queries if self.transform == "un" else unit(queries)
        if self.metric != "l2":
            queries = unit(queries) if self.metric == "cosine" else queries
            return queries @ self.centroids.T
        queries = queries - self.middle
        lengths = (queries * queries).sum(dim=1, keepdim=True)
        return 2 * (queries @ self.centroids.T) - self.centroids.square().sum(dim=1) - lengths


class Served(nn.Module):
    """From uint8 pixels (B, 3, H, W) to logits (B, C), probabilities (B, C), features (B, D).

    Parameters
    ----------
    spec : InputSpec
        Whose mean and standard deviation normalise the pixels.
    backbone : Module
        From normalised images (B, 3, H, W) to features (B, D).
    head : Module
        From features to logits.
    temperature : float
        What logits are divided by before the softmax.
    """

    def __init__(
        self, spec: InputSpec, backbone: nn.Module, head: nn.Module, temperature: float
    ) -> None:
        super().__init__()
        self.normalise, self.backbone, self.head = Normalise(spec), backbone, head
        self.temperature = temperature

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three outputs."""
        features = self.backbone(self.normalise(pixels))
        logits = self.head(features)
        return logits, (logits / self.temperature).softmax(dim=1), features


def unit(rows: Tensor) -> Tensor:
    """Divide rows (B, D) by their norms; a row of zeros stays zero."""
    norms = rows.square().sum(dim=1, keepdim=True).sqrt()
    return rows / torch.where(norms == 0, torch.ones_like(norms), norms)


def head_layer(head: Any) -> nn.Module:
    """Return a fitted head as a layer from features (B, D) to scores (B, C)."""
    if isinstance(head, NearestClassMean):
        return MeanScores(head)
    return LinearScores(*map(_numpy, head.linear()))


def as_linear(head: Any) -> tuple[Floats, Floats] | None:
    """Return weight (C, D) and bias (C,) that give a head's labels and probabilities.

    None where no linear layer does: a head that divides features by their norms. The scores of
    nearest means by squared distance, -||x - c||^2 = 2 c.x - ||c||^2 - ||x||^2, lose what is the
    same for all classes: ||x||^2, and the part of 2 c.x that all class means have in common, since
    large numbers would round off what sets the classes apart.
    """
    if not isinstance(head, NearestClassMean):
        weight, bias = map(_numpy, head.linear())
        return weight, bias
    used, centroids = head.fitted_params(), _numpy(head.centroids_)
    if used["transform"] != "un" or used["metric"] == "cosine":
        return None
    if used["metric"] == "dot":
        return centroids, np.zeros(len(centroids), np.float32)
    exact = centroids.astype(np.float64)
    lengths = np.square(exact).sum(axis=1)
    weight, bias = 2 * (exact - exact.mean(axis=0)), lengths.mean() - lengths
    return weight.astype(np.float32), bias.astype(np.float32)


def _numpy(array: Any) -> Floats:
    """Return an array on the host, float32."""
    return np.asarray(array.cpu() if isinstance(array, Tensor) else array, dtype=np.float32)
