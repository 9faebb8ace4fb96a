"""BatchNorm statistics, taken anew on class-balanced batches, of a network that is frozen.

The published cRT and LWS train with the backbone in training mode: its weights stand still, and its
running statistics move to those of class-balanced, augmented batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from featbank.data.loader import BatchPlan, Key
from featbank.data.provenance import tensors_digest
from featbank.data.sampling import epoch_indices
from featbank.errors import InputError
from featbank.runtime.rng import derive_seed

__all__ = [
    "N_BATCHES",
    "REFRESHES",
    "balanced_plan",
    "record",
    "refresh_statistics",
    "running_statistics",
]

REFRESHES = ("none", "class-balanced")
# The error of a mean over 100 batches is a tenth of what one batch, as in training, has.
N_BATCHES = 100

_Rows = NDArray[np.int64]


def running_statistics(network: nn.Module) -> dict[str, Tensor]:
    """Return the running means and variances of every BatchNorm layer, by name.

    Raises
    ------
    InputError
        The network has none.
    """
    found = {
        f"{name}.{key}": getattr(part, key)
        for name, part in network.named_modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
        for key in ("running_mean", "running_var")
    }
    if not found:
        message = f"{type(network).__name__} has no BatchNorm layers: leave --bn-refresh out"
        raise InputError(message)
    return found


def balanced_plan(labels: _Rows, rows: _Rows, seed: int, batch_size: int) -> BatchPlan:
    """Return `N_BATCHES` batches of class-balanced draws from the training images.

    Parameters
    ----------
    labels : ndarray of shape (N,), int64
        Of all rows of the train split.
    rows : ndarray of shape (n,), int64
        Those that are drawn from.
    seed : int
        Seed of the draws.
    batch_size : int
        Images in a batch.
    """
    length = N_BATCHES * batch_size
    drawn = rows[epoch_indices(labels[rows], "class", derive_seed(seed, "bn"), 0, length=length)]
    keys = [Key(int(row), 0, place) for place, row in enumerate(drawn)]
    return BatchPlan([keys[i : i + batch_size] for i in range(0, length, batch_size)])


def refresh_statistics(
    network: nn.Module, batches: Iterable[Any], run: Callable[[Any], object]
) -> None:
    """Set every BatchNorm layer's statistics to their plain mean over batches, *in place*.

    Only those layers are in training mode meanwhile; dropout and the like stand still, as they do
    when features are taken. `run` puts one batch through the network.
    """
    layers = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    before = [part.momentum for part in layers]
    for part in layers:
        part.reset_running_stats()
        part.momentum = None  # torch then keeps the mean over all batches
        part.train()
    try:
        with torch.inference_mode():
            for batch in batches:
                run(batch)
    finally:
        for part, momentum in zip(layers, before, strict=True):
            part.momentum = momentum
            part.eval()


def record(network: nn.Module, seed: int, batch_size: int) -> Mapping[str, Any]:
    """Return what a bank says of a refresh: how it was drawn, and the digest of what it gave."""
    return {
        "sampling": "class-balanced",
        "batches": N_BATCHES,
        "batch_size": batch_size,
        "seed": seed,
        "statistics": tensors_digest(running_statistics(network)),
    }
