"""How much each class counts: what a sampler draws, times how a loss weighs it."""

from __future__ import annotations

import torch
from torch import Tensor

from heads.balancing.class_frequency import class_probabilities, effective_number

__all__ = [
    "WEIGHTINGS",
    "class_counts",
    "class_loss_share",
    "class_shares",
    "loss_factors",
    "within_class",
]

WEIGHTINGS = ("none", "class-balanced", "effective")


def class_counts(y_idx: Tensor, n_classes: int, sample_weight: Tensor | None = None) -> Tensor:
    """Return how many rows each class has (C,), or the sum of their sample weights, float64."""
    return torch.bincount(y_idx, sample_weight, minlength=n_classes)


def class_loss_share(counts: Tensor, shares: Tensor | None = None) -> Tensor:
    """Return the part of the loss that a row of each class has (C,), float64.

    It is the class's share divided by its rows `counts` (C,), and 0 for a class without rows.
    `shares` (C,) None gives all classes that have rows the same share.
    """
    n_c = counts.double()
    present = (n_c > 0).double()
    parts = present / present.sum() if shares is None else shares * present
    return parts / torch.where(n_c > 0, n_c, 1.0)


def within_class(y_idx: Tensor, n_classes: int, sample_weight: Tensor) -> Tensor:
    """Return the sample weights (n,), divided by their mean over the rows of their class."""
    n_rows = class_counts(y_idx, n_classes).clamp(min=1)
    means = class_counts(y_idx, n_classes, sample_weight) / n_rows
    return sample_weight / means[y_idx]


def loss_factors(
    counts: Tensor, q: float, weighting: str, beta: float, weighted_counts: Tensor | None = None
) -> Tensor:
    """Return the factor (C,), float64, of the loss of each class's rows.

    It is 1, 1 / n_c or 1 / E_{n_c}, scaled to a mean of 1 over what a sampler of exponent q draws.
    So the weighting says which classes count more, and lr and weight_decay keep their meaning.

    Parameters
    ----------
    counts : Tensor of shape (C,)
        Rows of each class, by which the sampler draws.
    q : float
        Classes are drawn in proportion to n_c^q.
    weighting : {"none", "class-balanced", "effective"}
        The three factors above, in this order.
    beta : float
        The base of the effective number E_n, in [0, 1): see `effective_number`.
    weighted_counts : Tensor of shape (C,), optional
        Sums of the sample weights of each class. A class then counts as this many rows, and the
        factor makes up for the sampler, which draws by `counts`.

    References
    ----------
    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019), equation 2.
    """
    if weighted_counts is not None:
        drawn = _drawn(counts, q)
        shares = class_shares(weighted_counts, q, weighting, beta)
        return torch.where(drawn > 0, shares / torch.where(drawn > 0, drawn, 1.0), 0.0)
    if weighting == "none":
        return torch.ones_like(counts, dtype=torch.float64)
    n_c = counts.double()
    size = n_c if weighting == "class-balanced" else _effective(n_c, beta)
    factors = torch.where(n_c > 0, 1 / size.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return factors / (_drawn(counts, q) * factors).sum()


def class_shares(counts: Tensor, q: float, weighting: str = "none", beta: float = 0.9999) -> Tensor:
    """Return each class's share a_c (C,), float64, of the loss in expectation; they sum to 1.

    It is the probability p_c that the sampler draws the class, times the factor of its loss.

    Parameters
    ----------
    counts, q, weighting, beta
        As in `loss_factors`.
    """
    return _drawn(counts, q) * loss_factors(counts, q, weighting, beta)


def _drawn(counts: Tensor, q: float) -> Tensor:
    """Return the probability (C,), float64, that a sampler of exponent q draws each class."""
    return torch.from_numpy(class_probabilities(counts.cpu().numpy(), q)).to(counts.device)


def _effective(counts: Tensor, beta: float) -> Tensor:
    """Return the effective number of each count (C,), float64."""
    return torch.from_numpy(effective_number(counts.cpu().numpy(), beta)).to(counts.device)
