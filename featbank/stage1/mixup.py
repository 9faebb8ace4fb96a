"""Mixup of images and of hidden states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featbank.backbones.blocks import stage_names
from featbank.runtime.rng import numpy_generator
from featbank.stage1.options import Choice, parse_choice

if TYPE_CHECKING:
    from featbank.data.sampling import Draws
    from featbank.stage1.criterion import Criterion

__all__ = ["INPUT", "MIXUPS", "Mixup", "mix", "mixed_forward", "mixing_places", "parse_mixup"]

INPUT = ""  # the place before the first layer

# alpha: Zhang et al. on ImageNet (0.1 to 0.4), Verma et al. on CIFAR.
MIXUPS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "input": {"alpha": 0.2, "partner": "batch"},
    "manifold": {"alpha": 2.0, "partner": "batch"},
}
"""Kinds of mixup by name; `partner` is ``batch`` or the sampler that draws a second image."""


def parse_mixup(text: str) -> Choice:
    """Read ``manifold:alpha=1,partner=class``."""
    return parse_choice("mixup", text, MIXUPS)


def mix(states: Tensor, weight: float, order: Tensor | None) -> Tensor:
    """Return weight h_i + (1 - weight) h_j.

    j is ``order[i]``; without an order the first half of `states` goes with the second.
    """
    if order is not None:
        return weight * states + (1 - weight) * states[order]
    first, second = states.chunk(2)
    return weight * first + (1 - weight) * second


def mixed_forward(
    forward: Callable[..., Tensor],
    model: nn.Module,
    place: str,
    images: Tensor,
    mixed: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the logits (B, C) of images that are mixed on their way through a network.

    Parameters
    ----------
    forward : callable
        From images (B, 3, S, S) to logits: `model`, or what wraps it.
    model : Module
        The network that has the layers.
    place : str
        `INPUT`, or the name of the layer of `model` whose output is mixed.
    images : Tensor of shape (B, 3, S, S)
        The images.
    mixed : callable
        Mixes the rows of a tensor (B, ...).
    """
    if place == INPUT:
        return forward(mixed(images))
    hook = model.get_submodule(place).register_forward_hook(lambda _layer, _in, out: mixed(out))
    try:
        return forward(images)
    finally:
        hook.remove()


def mixing_places(model: nn.Module) -> list[str]:
    """Return the places of manifold mixup: the input and the first half of the stages.

    With four stages these are the set {0, 1, 2} that Verma et al. take for residual networks.
    """
    stages = stage_names(model)
    return [INPUT, *stages[: len(stages) // 2]]


@dataclass(frozen=True)
class Mixup:
    """Mixup: lambda L(z, y_i) + (1 - lambda) L(z, y_j), z the logits of the mixed states.

    lambda ~ Beta(alpha, alpha) and the place are drawn once a step, by seed, epoch and step.

    Attributes
    ----------
    draws, partner
        Of the first images, and of the second; without a partner these are the batch, permuted.
    places
        Of which one is drawn: `INPUT` alone for mixup, `mixing_places` for manifold mixup.

    References
    ----------
    Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018); Verma et al., "Manifold
    Mixup: Better Representations by Interpolating Hidden States" (ICML 2019).
    """

    draws: Draws
    criterion: Criterion
    model: nn.Module
    alpha: float
    places: Sequence[str] = (INPUT,)
    partner: Draws | None = None

    def orders(self, epoch: int) -> tuple[NDArray[np.int64], ...]:
        """Return the rows of the first images, and of the second where they have a sampler."""
        pair = (self.draws,) if self.partner is None else (self.draws, self.partner)
        return tuple(each.rows(epoch) for each in pair)

    def loss(
        self, forward: Callable[..., Tensor], images: Tensor, labels: Tensor, epoch: int, step: int
    ) -> Tensor:
        """Return the mean loss of the mixed images.

        Parameters
        ----------
        forward, images, labels, epoch, step
            As `featbank.stage1.objective.Objective.loss` takes them;
            the mixing is drawn by epoch and step.
        """
        generator = numpy_generator(self.draws.seed, "mixup", epoch, step)
        weight = float(generator.beta(self.alpha, self.alpha))
        place = self.places[int(generator.integers(len(self.places)))]
        order = None
        if self.partner is None:
            order = torch.from_numpy(generator.permutation(len(labels))).to(labels.device)
        logits = mixed_forward(
            forward, self.model, place, images, lambda states: mix(states, weight, order)
        )
        ours, theirs = labels.chunk(2) if order is None else (labels, labels[order])
        one, other = (self.criterion(logits, each, epoch) for each in (ours, theirs))
        return weight * one + (1 - weight) * other
