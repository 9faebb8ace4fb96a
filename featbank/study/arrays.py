"""A bank's arrays where heads are fitted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import heads
from featbank.bank.bank import Bank
from featbank.errors import InputError
from featbank.results.records import SplitScore, intervals
from featbank.runtime.progress import Reporter
from featbank.study.rows import row_order
from heads import metrics
from heads.estimators.convex_head import TriedDecay

__all__ = ["BankArrays", "StandIn", "TrainRows", "on_host"]


@dataclass(frozen=True, eq=False)
class TrainRows:
    """The rows that a head is fitted on.

    Attributes
    ----------
    X, y : arrays of shape (n, D), (n,)
    sample_weight : array of shape (n,), optional
        A row of weight 2 counts as two rows.
    """

    X: Any
    y: Any
    sample_weight: Any = None

    def fit(self, head: Any) -> Any:
        """Fit a head; see its `fit`."""
        return head.fit(self.X, self.y, self.sample_weight)

    def fit_path(
        self,
        head: Any,
        held_out: tuple[Any, Any],
        groups: metrics.ShotGroups,
        weight_decays: Sequence[float] | None = None,
    ) -> tuple[TriedDecay, ...]:
        """Fit a head along its path, and keep what is best on held-out rows; see its `fit_path`.

        Parameters
        ----------
        head : ConvexHead
        held_out : tuple of arrays of shape (m, D), (m,)
            Features and labels.
        groups : ShotGroups
            Training rows of each class, and the thresholds of the shot groups.
        weight_decays : sequence of float, optional
            The points of the path.
        """
        tried: tuple[TriedDecay, ...] = head.fit_path(
            self.X, self.y, *held_out, groups,
            weight_decays=weight_decays, sample_weight=self.sample_weight,
        )  # fmt: skip
        return tried


@dataclass(frozen=True)
class StandIn:
    """A linear classifier that stands in for stage 1's, and the weight decays that were tried."""

    head: heads.JointClassifier
    path: tuple[TriedDecay, ...]


@dataclass
class BankArrays:
    """A bank's arrays on the device where heads are fitted, each read once.

    Attributes
    ----------
    bank : Bank
    device : str
        Where heads are fitted: ``cpu``, or a CUDA device by its torch name.
    select : str, optional
        The split on which the weight decay of a linear classifier is chosen that is fitted here
        because stage 1 left none. Where it is None, the weight decay for the features' scale is
        taken.
    stand_in : StandIn, optional
        That classifier, once there is one.
    cache : dict
        Features (N, D) float32 and labels (N,) that have been read, by split, and by split and
        views.
    linear : tuple of two arrays, optional
        Weight (C, D) and bias (C,) of stage 1's classifier or its stand-in, once they were asked
        for.
    shown : Path, optional
        The path that is recorded, where the bank is moved there before anyone reads it.
    sample_weight : ndarray of shape (N,), optional
        The weight of each training row, where rows are weighted.
    """

    bank: Bank
    device: str
    select: str | None = None
    stand_in: StandIn | None = None
    cache: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    linear: tuple[Any, Any] | None = None
    shown: Path | None = None
    sample_weight: NDArray[Any] | None = None

    @property
    def path(self) -> str:
        """The bank's path as it is recorded."""
        return str(self.shown or self.bank.path)

    def __getitem__(self, split: str) -> tuple[Any, Any]:
        """Return features (N, D) float32 and labels (N,) of a split."""
        if split not in self.cache:
            part = self.bank[split]
            self.cache[split] = self.place(part.read("float32")), self.place(part.labels)
        return self.cache[split]

    def train(self, head: Any = None) -> TrainRows:
        """Return the training rows that a head wants: plain, or its number of views of them."""
        views = getattr(head, "views", 0)
        if not views:
            return TrainRows(*self["train"], self.sample_weight)
        name = f"train, {views} views"
        if name not in self.cache:
            part = self.bank["train"]
            if views > part.n_views:
                message = (
                    f"{self.bank.path} has {part.n_views} views of its training images, and "
                    f"views={views} asks for more: extract with --views {views}"
                )
                raise InputError(message)
            X = np.concatenate([part.view(k).read("float32") for k in range(views)])
            self.cache[name] = self.place(X), self.place(np.tile(part.labels, views))
        weight = None if self.sample_weight is None else np.tile(self.sample_weight, views)
        return TrainRows(*self.cache[name], weight)

    def place(self, array: Any) -> Any:
        """Put an array where the fitting happens: a CUDA tensor there, numpy on the CPU."""
        if self.device == "cpu":
            return array
        import torch

        return torch.from_numpy(array).to(self.device)

    def classifier(self, reporter: Reporter) -> tuple[Any, Any]:
        """Return stage 1's weight and bias, or those of a linear classifier fitted here."""
        if self.linear is None:
            stored = self.bank.classifier
            if stored is None:
                head = self.fitted_here(reporter).head
                stored = head.weight_, head.bias_
            self.linear = stored
        return self.linear

    def fitted_here(self, reporter: Reporter) -> StandIn:
        """Return the linear classifier that stands in for stage 1's; it is fitted once."""
        if self.stand_in is None:
            reporter.say("the bank has no stage-1 classifier: fitting a linear one first")
            head, path = heads.JointClassifier(), None
            if self.select is None:
                self.train().fit(head)
            else:
                path = self.train().fit_path(head, self[self.select], self.groups)
            self.stand_in = StandIn(head, path or ())
        return self.stand_in

    def score(self, predicted: Any, split: str, seed: int = 0) -> SplitScore:
        """Evaluate the labels (n,) that a head gives a split; `seed` is that of the intervals.

        Rows are resampled in the order of their ids, so that the same rows in another order give
        the same intervals.
        """
        order = row_order(self.bank[split].ids.tolist())
        predicted, labels = predicted[order], on_host(self[split][1])[order]
        return SplitScore(
            metrics.evaluate(labels, predicted, self.groups),
            intervals(metrics.confidence_interval(labels, predicted, self.groups, seed=seed)),
        )

    def measure(self, head: Any, split: str) -> dict[str, float | None]:
        """Return the metrics of a fitted head on a split."""
        X, y = self[split]
        return metrics.evaluate(on_host(y), on_host(head.predict(X)), self.groups)

    @property
    def groups(self) -> metrics.ShotGroups:
        """Train counts and the bank's thresholds, as the metrics take them."""
        return metrics.ShotGroups(np.asarray(self.bank.class_counts), self.bank.shots)


def on_host(values: Any) -> np.ndarray[Any, Any]:
    """Bring labels or predictions to the host."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)
