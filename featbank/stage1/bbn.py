"""BBN, the bilateral-branch network: Zhou et al. (CVPR 2020)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featbank.backbones.backbones import split_classifier
from featbank.backbones.blocks import last_block
from featbank.data.transforms import Size

if TYPE_CHECKING:
    from featbank.data.sampling import Draws
    from featbank.stage1.criterion import Criterion

__all__ = ["Bilateral", "BilateralNetwork", "cumulative_alpha"]


def cumulative_alpha(epoch: int, epochs: int) -> float:
    """Return alpha = 1 - (t / T)^2 with t the epoch from 0 of T: from 1 down, never 0."""
    return 1 - (epoch / epochs) ** 2


class _Branches(nn.Module):
    """Two blocks in the place of one; `only` says which one runs, None both."""

    def __init__(self, conventional: nn.Module, rebalancing: nn.Module) -> None:
        super().__init__()
        self.conventional, self.rebalancing = conventional, rebalancing
        self.only: str | None = None

    def forward(self, states: Tensor) -> Tensor:
        """Return the block's output (N, …); of both (2 N, …), the conventional one's first.

        Along the batch, because whatever follows treats each row alone.
        """
        if self.only is not None:
            output: Tensor = getattr(self, self.only)(states)
            return output
        return torch.cat((self.conventional(states), self.rebalancing(states)))


class BilateralNetwork(nn.Module):
    """A network whose last block is there twice, with one classifier over both features.

    z = 2 (alpha W_c f_c + (1 - alpha) W_r f_r) + b. In inference alpha = 1/2 and f_c and f_r are
    of the same image, so the features (N, 2 D) are f_c beside f_r and (W_c, W_r), b are an
    ordinary linear classifier on them. The factor 2 and the one bias are the authors' code's
    (``lib/core/combiner.py``, ``lib/net/network.py``); the paper has no factor.

    Parameters
    ----------
    model
        The network to begin from; it is taken apart.
    other
        A second last block, for the re-balancing branch.
    image_size
        Size of the images in pixels.
    """

    def __init__(self, model: nn.Module, other: nn.Module, image_size: Size) -> None:
        super().__init__()
        parts, self.block = split_classifier(model, image_size), last_block(model)
        model.set_submodule(self.block, _Branches(model.get_submodule(self.block), other))
        self.backbone = parts.backbone
        n_features, n_classes = parts.classifier.in_features, parts.classifier.out_features
        self.classifier: nn.Module = nn.Linear(2 * n_features, n_classes)

    def forward(
        self, images: Tensor, reversed_images: Tensor | None = None, alpha: Tensor | float = 0.5
    ) -> Tensor:
        """Return logits (N, C) of images (N, 3, S, S), or in training of pairs of them."""
        if reversed_images is None:
            both, n = self._features(images, None), images.shape[0]
            conventional, rebalancing = both[:n], both[n:]  # chunk(2) fixes n in an export
        else:
            conventional = self._features(images, "conventional")
            rebalancing = self._features(reversed_images, "rebalancing")
        mixed = 2 * torch.cat((alpha * conventional, (1 - alpha) * rebalancing), dim=1)
        logits: Tensor = self.classifier(mixed)
        return logits

    def _features(self, images: Tensor, only: str | None) -> Tensor:
        """Run the trunk and one branch, or both: each pass has its own batch statistics."""
        cast(_Branches, self.backbone.get_submodule(self.block)).only = only
        features: Tensor = self.backbone(images)
        return features


@dataclass(frozen=True)
class Bilateral:
    """BBN's training: alpha L(z, y_c) + (1 - alpha) L(z, y_r), alpha by `cumulative_alpha`.

    Attributes
    ----------
    draws, reversed_draws
        Of the conventional branch (instance-balanced) and of the re-balancing one (reversed).
    """

    draws: Draws
    reversed_draws: Draws
    criterion: Criterion

    def orders(self, epoch: int) -> tuple[NDArray[np.int64], ...]:
        """Return the rows of both branches."""
        return self.draws.rows(epoch), self.reversed_draws.rows(epoch)

    def loss(
        self, forward: Callable[..., Tensor], images: Tensor, labels: Tensor, epoch: int, step: int
    ) -> Tensor:
        """Return the mean loss of a step's pairs.

        Parameters
        ----------
        forward, images, labels, epoch, step
            As `featbank.stage1.objective.Objective.loss` takes them;
            `forward` runs the two-branch network.
        """
        alpha = cumulative_alpha(epoch, self.draws.epochs)
        ours, theirs = images.chunk(2)
        # As a tensor, because a number that changes would be compiled anew.
        logits = forward(ours, theirs, torch.tensor(alpha, device=images.device))
        one, other = (self.criterion(logits, each, epoch) for each in labels.chunk(2))
        return alpha * one + (1 - alpha) * other
