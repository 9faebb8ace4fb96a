"""What a step of training minimises, and on which images: an object that the session is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featbank.data.loader import Key, train_batches
from featbank.data.sampling import Draws
from featbank.data.types import ImageData
from featbank.runtime.rng import derive_seed
from featbank.stage1.bbn import Bilateral
from featbank.stage1.config import TrainConfig
from featbank.stage1.criterion import (
    Criterion,
    deferred_start,
    make_criterion,
    parse_defer,
    parse_loss,
)
from featbank.stage1.mixup import INPUT, Mixup, mixing_places, parse_mixup

__all__ = ["Objective", "Plain", "make_objective", "step_batches"]

_Ints = NDArray[np.int64]


class Objective(Protocol):
    """A recipe's two decisions in every step. It has no state: both follow from epoch and step."""

    def orders(self, epoch: int) -> tuple[_Ints, ...]:
        """Return the rows of an epoch in their order: one array, or two that go in pairs."""

    def loss(
        self, forward: Callable[..., Tensor], images: Tensor, labels: Tensor, epoch: int, step: int
    ) -> Tensor:
        """Return the mean loss of one step.

        Where `orders` gives two arrays, the first half of a batch is from the one, the second
        from the other.

        Parameters
        ----------
        forward : callable
            From images to logits (B, C): the network, or what wraps it.
        images : Tensor of shape (B, 3, S, S)
            The step's images.
        labels : Tensor of shape (B,), int64
            Their classes.
        epoch, step : int
            Which step it is, from 0.
        """


@dataclass(frozen=True)
class Plain:
    """One network, one sampler, one criterion."""

    draws: Draws
    criterion: Criterion

    def orders(self, epoch: int) -> tuple[_Ints, ...]:
        """Return the sampler's rows."""
        return (self.draws.rows(epoch),)

    def loss(
        self, forward: Callable[..., Tensor], images: Tensor, labels: Tensor, epoch: int, step: int
    ) -> Tensor:
        """Return the criterion of the network's logits.

        Parameters
        ----------
        forward, images, labels, epoch, step
            As `featbank.stage1.objective.Objective.loss` takes them.
        """
        return self.criterion(forward(images), labels, epoch)


def make_objective(
    config: TrainConfig, data: ImageData, model: nn.Module, device: torch.device
) -> Objective:
    """Return the objective that the configuration names for a network.

    Parameters
    ----------
    config : TrainConfig
        Every choice of the training.
    data : ImageData
        Its train split is drawn from.
    model : Module
        The network; manifold mixup mixes within it.
    device : torch.device
        Where the loss is computed.
    """
    labels, defer = data.splits["train"].labels, parse_defer(config.defer)
    balanced_from = deferred_start(defer, config.epochs) if defer.name == "drs" else None
    criterion = make_criterion(
        parse_loss(config.loss), defer, config.label_smoothing, data.counts, config.epochs, device
    )
    draws = Draws(labels, config.sampler, config.seed, config.epochs, balanced_from)
    mixup = parse_mixup(config.mixup)
    if config.method == "bbn":
        return Bilateral(draws, _second(draws, "reversed"), criterion)
    if mixup.name == "none":
        return Plain(draws, criterion)
    partner = None if mixup["partner"] == "batch" else _second(draws, mixup["partner"])
    places = mixing_places(model) if mixup.name == "manifold" else [INPUT]
    return Mixup(draws, criterion, model, mixup["alpha"], places, partner)


def _second(draws: Draws, sampler: str) -> Draws:
    """Return the draws of the other image of a pair, which do not follow the first one's."""
    seed = derive_seed(draws.seed, "second sampler")
    return Draws(draws.labels, sampler, seed, draws.epochs)


def step_batches(orders: tuple[_Ints, ...], epoch: int, batch_size: int) -> list[list[Key]]:
    """Cut an epoch into steps; of two orders, a step has `batch_size` images of each.

    The second order's positions follow the first's, so that no two images share their draws.
    """
    parts = [
        [[key._replace(position=key.position + i * len(order)) for key in batch] for batch in cut]
        for i, order in enumerate(orders)
        for cut in [train_batches(order, epoch, batch_size)]
    ]
    return [list(chain(*batches)) for batches in zip(*parts, strict=True)]
