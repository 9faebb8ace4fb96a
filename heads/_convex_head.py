"""What the heads share that are solutions of a convex objective: one fit, and a path."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heads._arrays import as_numpy, as_tensor
from heads._base import Stage1Head
from heads._checks import check_number, check_one_of
from heads._exact import Fitted, Goal, optimum, path, usual_decay
from heads.errors import HeadInputError
from heads.metrics import evaluate

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
            Labels 0..C-1.
        counts : array of shape (C,)
            Training rows of each class; with the thresholds as in `heads.metrics.shot_groups`.
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

        Warns
        -----
        ConvergenceWarning
            Where what is kept may lie further above its optimum than it should.
        """
        tried: list[dict[str, Any]] = []
        groups = (counts, many_above, few_below)
        for decay in weight_decays or ():
            check_number(type(self).__name__, "weight_decays", decay, low=0, above=True)
        decays = tuple(sorted(weight_decays, reverse=True)) if weight_decays else None
        held_out = as_tensor(X_val), as_numpy(y_val)
        how = partial(self._fit_path, *held_out, groups, decays, tried)
        self._fit_by(X, y, how, sample_weight)
        return tried

    def _fit_path(
        self,
        held_out: Tensor,
        labels: Any,
        groups: Any,
        weight_decays: tuple[float, ...] | None,
        tried: list[dict[str, Any]],
        feats: Tensor,
        y_idx: Tensor,
        n_classes: int,
        weights: Tensor | None = None,
    ) -> dict[str, Any]:
        if len(np.asarray(groups[0])) != n_classes:
            message = f"counts has {len(groups[0])} classes, but the labels have {n_classes}"
            raise HeadInputError(message)

        share = torch.from_numpy(row_shares(labels))

        def score(predicted: Tensor) -> tuple[float, Tensor]:
            found = predicted.cpu().numpy()
            metrics = evaluate(labels, found, *groups)
            tried.append({"metrics": metrics})
            return float(metrics["all"] or 0), share * torch.from_numpy(found == labels)

        goal = self._goal(feats, y_idx, n_classes, weights)
        found, chosen, points = path(feats, y_idx, n_classes, goal, held_out, score, weight_decays)
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
