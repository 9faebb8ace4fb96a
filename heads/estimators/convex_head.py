"""What the heads share that are solutions of a convex objective: one fit, and a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heads._arrays import full_precision
from heads._checks import check_held_out
from heads._labels import coding
from heads._params import MOST_DECAY, check_number, check_one_of
from heads.errors import HeadInputError
from heads.estimators.base import Stage1Head, as_before_on_failure
from heads.metrics import ShotGroups, evaluate
from heads.solvers.objective import Goal
from heads.solvers.optimum import Fitted, optimum, usual_decay
from heads.solvers.path import Score, path
from heads.solvers.rows import TrainingRows

__all__ = ["ANCHORS", "DEFAULT_WEIGHT_DECAY", "ConvexHead", "HeldOut", "TriedDecay"]

ANCHORS = ("zero", "stage1")
# The weight decay where none is given, and no validation split to choose it on. It holds for
# features of a usual size; for others it is multiplied by the square of their unit.
DEFAULT_WEIGHT_DECAY = 3e-3


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The validation rows that a weight decay is chosen on.

    Attributes
    ----------
    feats : Tensor of shape (m, D)
    true : ndarray of shape (m,)
        The place of each row's label among the counts.
    places : ndarray of shape (k,)
        The place of each class of the fit among the counts.
    groups : ShotGroups
        Training rows of each class (C,), and the thresholds of the shot groups.
    """

    feats: Tensor
    true: NDArray[np.int64]
    places: NDArray[np.int64]
    groups: ShotGroups

    def score(self, predicted: Tensor) -> Score:
        """Return the mean of per-class accuracies of predicted classes (m,), with all metrics."""
        found = self.places[predicted.cpu().numpy()]
        metrics = evaluate(self.true, found, self.groups)
        parts = torch.from_numpy(self._row_share * (found == self.true))
        return Score(float(metrics["all"] or 0), parts, metrics)

    @cached_property
    def _row_share(self) -> NDArray[np.float64]:
        """Return what each row adds to the score where it is right."""
        return row_shares(self.true)


@dataclass(frozen=True)
class TriedDecay:
    """A weight decay that was tried, and the accuracies by name that it gave, as fractions."""

    weight_decay: float
    metrics: Mapping[str, float | None]


class ConvexHead(Stage1Head):
    """A linear head that minimises weighted cross-entropy plus weight decay, exactly."""

    weight_decay: float | None
    anchor: Any
    _usual_weight_decay = DEFAULT_WEIGHT_DECAY

    def fit_path(
        self,
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        groups: ShotGroups | ArrayLike,
        *,
        weight_decays: Sequence[float] | None = None,
        sample_weight: Any = None,
    ) -> tuple[TriedDecay, ...]:
        """Fit along the weight-decay path and keep what is best on a validation split.

        The weight decay with the best `all` wins, of equals the strongest; it is stored in the
        parameter `weight_decay`.

        Parameters
        ----------
        X, y, X_val, y_val : arrays of shape (n, D), (n,), (m, D), (m,)
            Labels of any kind that `fit` takes; those of the validation split are classes of the
            fit, or numbers in [0, C) that `groups` counts: such a class without training rows is
            never predicted, so its rows are wrong.
        groups : ShotGroups or array of shape (C,)
            Training rows of each class, in the order of `classes_`; or, where labels are numbers
            in [0, C) and some have no training rows, of each number. The thresholds of the shot
            groups, where an array brings none, are those of Kang et al. (ICLR 2020).
        weight_decays : sequence of float, optional
            The points of the path, all of which are tried. By default it goes from 1e-1 to 1e-4 for
            features whose mean squared distance from their mean is about 30; for others these are
            multiplied by the square of their unit. It ends where val falls twice by more than the
            noise, and goes on at either end while the best point is there.
        sample_weight : array of shape (n,), optional
            As in `fit`.

        Returns
        -------
        tuple of TriedDecay
            Each point that was tried, `weight_decay` and `metrics`: those of the reduced problem's
            solution on the validation split.

        Raises
        ------
        ValueError
            As `fit`; counts or validation rows that do not belong to these classes and features;
            `solver="sgd"`, which has no path.

        Warns
        -----
        ConvergenceWarning
            Where what is kept may lie further above its optimum than it should.
        """
        owner = type(self).__name__
        if getattr(self, "solver", "exact") != "exact":
            message = f"{owner}: fit_path follows the exact optimum, so it needs solver='exact'"
            raise HeadInputError(message)
        given = () if weight_decays is None else tuple(weight_decays)
        for decay in given:
            check_number(owner, "weight_decays", decay, low=0, high=MOST_DECAY, above=True)
        decays = tuple(sorted(given, reverse=True)) or None
        self._check_params()
        with as_before_on_failure([self]), full_precision():
            train, classes = self._training(X, y, sample_weight)
            held_out = self._held_out(X_val, y_val, classes, ShotGroups.of(groups))
            goal = self._goal(train)
            found = path(train, goal, held_out.feats, held_out.score, decays)
            self.weight_decay = found.weight_decay
            fitted = self._solved(found.fitted) | {"weight_decay_": found.weight_decay}
            self._keep(fitted, classes, X)
        return tuple(TriedDecay(point.weight_decay, point.score.metrics) for point in found.points)

    def _held_out(
        self,
        X_val: Any,
        y_val: Any,
        classes: NDArray[Any],
        groups: ShotGroups,
    ) -> HeldOut:
        """Return the checked validation rows of a fit of some classes (C,)."""
        feats, labels = check_held_out(self, X_val, y_val)
        n_counts = len(groups)
        if self.weight is not None and n_counts != len(classes):
            message = f"counts has {n_counts} classes, but weight has {len(classes)}"
            raise HeadInputError(message)
        coded = coding(classes, n_counts)
        return HeldOut(feats, coded.code(labels), coded.places, groups)

    def _fit_exactly(self, train: TrainingRows) -> dict[str, Any]:
        """Return the fitted attributes of the optimum on these rows."""
        goal = self._goal(train)
        decay = self.weight_decay
        if decay is None:
            decay = usual_decay(train, goal, self._usual_weight_decay)
        found = optimum(train, goal, decay)
        return self._solved(found) | {"weight_decay_": decay}

    def _goal(self, train: TrainingRows) -> Goal:
        """Return what is minimised."""
        raise NotImplementedError

    def _anchor_point(self, anchor: str, train: TrainingRows) -> tuple[Tensor, Tensor] | None:
        """Return the W and b that the penalty is measured from; None is zero."""
        check_one_of(type(self).__name__, "anchor", anchor, ANCHORS)
        return None if anchor == "zero" else self._stage1(train)

    def _solved(self, found: Fitted) -> dict[str, Any]:
        return {
            "weight_": found.W,
            "bias_": found.b,
            "n_steps_": found.evaluations,
            "gradient_": found.verdict.gradient,
        }


def row_shares(labels: Any) -> NDArray[np.float64]:
    """Return what each row (n,) adds to the mean of per-class accuracies where it is right."""
    _, y_idx, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[y_idx])
