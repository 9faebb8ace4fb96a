"""What the heads share that are solutions of a convex objective: one fit, and a path."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heads._checks import MOST_DECAY, check_held_out, check_number, check_one_of
from heads._labels import coding
from heads.errors import HeadInputError
from heads.estimators._base import Stage1Head
from heads.metrics import evaluate
from heads.solvers.path import Fitted, Goal, optimum, path, usual_decay

__all__ = ["ANCHORS", "DEFAULT_WEIGHT_DECAY", "ConvexHead"]

ANCHORS = ("zero", "stage1")
# Used where none is given and there is no validation split to choose it on, for features of a usual
# size; for others it goes with the square of their unit.
DEFAULT_WEIGHT_DECAY = 3e-3


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
        counts: ArrayLike,
        many_above: int = 100,
        few_below: int = 20,
        *,
        weight_decays: Sequence[float] | None = None,
        sample_weight: Any = None,
    ) -> list[dict[str, Any]]:
        """Fit along the weight-decay path and keep what is best on a validation split.

        The weight decay with the best `all` wins, of equals the strongest; it is stored in the
        parameter `weight_decay`.

        Parameters
        ----------
        X, y, X_val, y_val : arrays of shape (n, D), (n,), (m, D), (m,)
            Labels of any kind that `fit` takes; those of the validation split are classes of the
            fit, or numbers in [0, C) that `counts` counts: such a class without training rows is
            never predicted, so its rows are wrong.
        counts : array of shape (C,)
            Training rows of each class, in the order of `classes_`; or, where labels are numbers
            in [0, C) and some have no training rows, of each number. With the thresholds as in
            `heads.metrics.shot_groups`.
        weight_decays : sequence of float, optional
            The points of the path, all of which are tried. Else, for features whose mean squared
            distance from their mean is about 30, 1e-1 to 1e-4, and for others what that is in
            their unit, until val falls twice by more than the noise; and on at either end while
            the best is there.
        sample_weight : array of shape (n,), optional
            As in `fit`.

        Returns
        -------
        list of dict
            {"weight_decay", "metrics"} of each point that was tried; metrics are those on the
            validation split of the reduced problem's solution.

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
        tried: list[dict[str, Any]] = []
        how = partial(
            self._fit_path, (X_val, y_val), (counts, many_above, few_below), decays, tried
        )
        self._fit_by(X, y, how, sample_weight)
        return tried

    def _fit_path(
        self,
        held_out: tuple[Any, Any],
        groups: tuple[ArrayLike, int, int],
        weight_decays: tuple[float, ...] | None,
        tried: list[dict[str, Any]],
        feats: Tensor,
        y_idx: Tensor,
        classes: NDArray[Any],
        weights: Tensor | None = None,
    ) -> dict[str, Any]:
        val_feats, labels = check_held_out(self, *held_out)
        n_counts = len(np.asarray(groups[0]))
        if self.weight is not None and n_counts != len(classes):
            message = f"counts has {n_counts} classes, but weight has {len(classes)}"
            raise HeadInputError(message)
        coded = coding(classes, n_counts)
        true = coded.code(labels)

        share = torch.from_numpy(row_shares(true))

        def score(predicted: Tensor) -> tuple[float, Tensor]:
            found = coded.places[predicted.cpu().numpy()]
            metrics = evaluate(true, found, *groups)
            tried.append({"metrics": metrics})
            return float(metrics["all"] or 0), share * torch.from_numpy(found == true)

        n_classes = len(classes)
        goal = self._goal(feats, y_idx, n_classes, weights)
        found, chosen, points = path(feats, y_idx, n_classes, goal, val_feats, score, weight_decays)
        for point, entry in zip(points, tried, strict=True):
            entry["weight_decay"] = point.weight_decay
        self.weight_decay = chosen
        return self._solved(found) | {"weight_decay_": chosen}

    def _fit_exactly(
        self, feats: Tensor, y_idx: Tensor, n_classes: int, weights: Tensor | None
    ) -> dict[str, Any]:
        goal = self._goal(feats, y_idx, n_classes, weights)
        decay = self.weight_decay
        if decay is None:
            decay = usual_decay(feats, y_idx, n_classes, goal, self._usual_weight_decay)
        found = optimum(feats, y_idx, n_classes, goal, decay)
        return self._solved(found) | {"weight_decay_": decay}

    def _goal(self, feats: Tensor, y_idx: Tensor, n_classes: int, weights: Tensor | None) -> Goal:
        """Return what is minimised."""
        raise NotImplementedError

    def _anchor_point(
        self, anchor: str, feats: Tensor, y_idx: Tensor, n_classes: int, weights: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        check_one_of(type(self).__name__, "anchor", anchor, ANCHORS)
        return None if anchor == "zero" else self._stage1(feats, y_idx, n_classes, weights)

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
