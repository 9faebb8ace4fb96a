"""The rows that a fit learns from, as every head and every solver takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from heads.balancing.weighting import class_counts, class_loss_share, within_class

__all__ = ["TrainingRows"]


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Features, labels and weights of the rows of one fit; they travel together.

    Attributes
    ----------
    feats : Tensor of shape (n, D)
        Finite features in the dtype and on the device that the fit computes in.
    y_idx : Tensor of shape (n,), int64
        The place of each row's label among the classes, in 0..n_classes-1.
    n_classes : int
        The number C of classes. Some have no rows where a stage-1 classifier names the classes.
    sample_weight : Tensor of shape (n,), float64, optional
        The weights that the user gave, none below 0: a row of weight 2 counts as two rows. None
        means that every row counts once.
    """

    feats: Tensor
    y_idx: Tensor
    n_classes: int
    sample_weight: Tensor | None = None

    def __len__(self) -> int:
        """Return the number n of rows."""
        return len(self.feats)

    def some(self, rows: Tensor) -> TrainingRows:
        """Return the same record of some rows, given by their numbers (k,)."""
        given = self.sample_weight
        sample_weight = None if given is None else given[rows]
        return replace(
            self, feats=self.feats[rows], y_idx=self.y_idx[rows], sample_weight=sample_weight
        )

    def class_counts(self) -> Tensor:
        """Return how many rows each class has (C,), or the sum of their sample weights."""
        return class_counts(self.y_idx, self.n_classes, self.sample_weight)

    def loss_shares(self, class_shares: Tensor | None = None) -> Tensor:
        """Return each row's part u_i of the loss (n,), float64; they sum to 1.

        It is the share of the row's class times the part that the row's sample weight has of the
        weights of its class. `class_shares` (C,) None gives all classes that have rows the same.
        """
        of_class = class_loss_share(self.class_counts(), class_shares)[self.y_idx]
        return of_class if self.sample_weight is None else of_class * self.sample_weight

    def sample_weight_in_class(self) -> Tensor | None:
        """Return the sample weights (n,) over their mean in the row's class, like the features."""
        if self.sample_weight is None:
            return None
        return within_class(self.y_idx, self.n_classes, self.sample_weight).to(self.feats)
