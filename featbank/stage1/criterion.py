"""What is minimised: a loss by name, and the weights of the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featbank.stage1.losses import (
    balanced_softmax,
    cross_entropy,
    effective_number_weights,
    focal,
    ldam,
    ldam_margins,
    logit_adjusted,
    softmax_focal,
)
from featbank.stage1.options import Choice, parse_choice

__all__ = [
    "DEFERRALS",
    "LOSSES",
    "Criterion",
    "deferred_start",
    "make_criterion",
    "parse_defer",
    "parse_loss",
]

Loss = Callable[[Tensor, Tensor], Tensor]

_BETA = 0.9999  # Cui et al. and Cao et al. on long-tailed CIFAR

LOSSES: Mapping[str, Mapping[str, Any]] = {
    "ce": {},
    "focal": {"gamma": 2.0, "form": "sigmoid"},
    "cb-ce": {"beta": _BETA},
    "cb-focal": {"beta": _BETA, "gamma": 2.0, "form": "sigmoid"},
    "ldam": {"margin": 0.5, "scale": 30.0},
    "balanced-softmax": {},
    "logit-adjusted": {"tau": 1.0},
}
"""Losses by name, with their parameters' defaults."""

# `start` is the share of the epochs that come before: 160 of 200 in Cao et al.
DEFERRALS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "drw": {"start": 0.8, "beta": _BETA},
    "drs": {"start": 0.8},
}
"""Ways to put off re-balancing, with their parameters' defaults."""


def parse_loss(text: str) -> Choice:
    """Read ``ldam:scale=20``."""
    return parse_choice("loss", text, LOSSES)


def parse_defer(text: str) -> Choice:
    """Read ``drw:start=0.8,beta=0.9999``."""
    return parse_choice("defer", text, DEFERRALS)


@dataclass(frozen=True)
class Criterion:
    """The mean over a batch of w_y times the loss of a row.

    Attributes
    ----------
    loss
        Logits (N, C) and labels (N,) to losses (N,).
    weights
        (C,) on the device, or None for 1.
    starts
        Epoch, from 0, from which the weights count: Cao et al. (2019), deferred re-weighting.
    """

    loss: Loss
    weights: Tensor | None = None
    starts: int = 0

    def __call__(self, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Return the batch's mean loss in an epoch counted from 0."""
        losses = self.loss(logits, labels)
        if self.weights is not None and epoch >= self.starts:
            losses = losses * self.weights[labels]
        return losses.mean()


def deferred_start(defer: Choice, epochs: int) -> int:
    """Return the first epoch, from 0, of re-balancing."""
    return round(float(defer["start"]) * epochs)


def make_criterion(
    loss: Choice,
    defer: Choice,
    smoothing: float,
    counts: NDArray[np.int64],
    epochs: int,
    device: torch.device,
) -> Criterion:
    """Return the criterion of a training.

    Parameters
    ----------
    loss : Choice
        The loss and its parameters.
    defer : Choice
        Whether re-weighting begins late.
    smoothing : float
        Epsilon of label smoothing; 0 for none.
    counts : ndarray of shape (C,), int64
        Training rows of each class.
    epochs : int
        Epochs of the training.
    device : torch.device
        Where it is computed.
    """

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device)

    function = _function(loss, smoothing, counts, tensor)
    if loss.name.startswith("cb-"):
        return Criterion(function, tensor(effective_number_weights(counts, loss["beta"])))
    if defer.name == "drw":
        weights = effective_number_weights(counts, defer["beta"])
        return Criterion(function, tensor(weights), deferred_start(defer, epochs))
    return Criterion(function)


def _function(
    loss: Choice,
    smoothing: float,
    counts: NDArray[np.int64],
    tensor: Callable[[NDArray[Any]], Tensor],
) -> Loss:
    match loss.name:
        case "focal" | "cb-focal":
            return partial(
                focal if loss["form"] == "sigmoid" else softmax_focal, gamma=loss["gamma"]
            )
        case "ldam":
            margins = tensor(ldam_margins(counts, loss["margin"]))
            return partial(ldam, margins=margins, scale=loss["scale"], smoothing=smoothing)
        case "balanced-softmax":
            return partial(balanced_softmax, counts=tensor(counts), smoothing=smoothing)
        case "logit-adjusted":
            n = tensor(counts)
            return partial(logit_adjusted, counts=n, tau=loss["tau"], smoothing=smoothing)
    return partial(cross_entropy, smoothing=smoothing)
