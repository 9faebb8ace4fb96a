"""What every head shares: the scikit-learn contract around functions of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from heads._arrays import as_numpy, full_precision, match, row_blocks, to_kind
from heads._checks import (
    check_features,
    check_finite,
    check_sample_weight,
    check_training,
    refuse_overflow,
    warn_of_lost_classes,
)
from heads._labels import code_labels, code_row_numbers
from heads._save import save
from heads._stage1 import cast_stage1, check_stage1
from heads.errors import HeadInputError
from heads.solvers.linear import linear_scores
from heads.solvers.objective import natural
from heads.solvers.optimum import optimum, usual_decay
from heads.solvers.rows import TrainingRows

__all__ = ["STAGE1_WEIGHT_DECAY", "Head", "LinearHead", "Stage1Head", "as_before_on_failure"]

# The weight decay of a softmax classifier that is fitted here in stage 1's place, for features of a
# usual size.
STAGE1_WEIGHT_DECAY = 5e-4

Scorer = Callable[[Tensor], Tensor]


@contextmanager
def as_before_on_failure(some: Sequence[Head]) -> Iterator[None]:
    """Leave fitted heads as they were where fitting them anew fails."""
    before = [dict(vars(head)) for head in some]
    try:
        yield
    except BaseException:
        for head, values in zip(some, before, strict=True):
            head.__dict__.clear()
            head.__dict__.update(values)
        raise


class Head(ClassifierMixin, BaseEstimator, ABC):
    """A classifier that fits on cached features.

    X is a numpy array or a tensor (n, D) on any device; what comes back is of the same kind, on
    the same device. float32 and float64 features are computed with as they are, half precisions as
    float32, and whole numbers as float64.
    """

    _fitted: tuple[str, ...]  # what `_fit` returns, by name
    _sees_all = False  # whether `_fit` itself refuses what is not finite, at no cost of its own

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit on features X (n, D) and labels y (n,).

        Of the weights `sample_weight` (n,), a row of weight 2 counts as two rows and one of weight
        0 as none. A fit that fails leaves the head as it was.

        Raises
        ------
        ValueError
            NaN or infinity, shapes that do not match, fewer than 2 classes, a label that the
            stage-1 weight has no row for, or a parameter outside its range.
        """
        self._check_params()
        with as_before_on_failure([self]), full_precision():
            train, classes = self._training(X, y, sample_weight)
            return self._keep(self._fit(train), classes, X)

    def _training(self, X: Any, y: Any, sample_weight: Any) -> tuple[TrainingRows, NDArray[Any]]:
        """Return the checked rows without those of weight 0, and the classes (C,)."""
        feats, labels = check_training(self, X, y, finite=not self._sees_all)
        every = labels
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, labels)
            counted = sample_weight > 0
            if not counted.all():
                feats = check_finite(feats)[torch.from_numpy(counted).to(feats.device)]
                labels, sample_weight = labels[counted], sample_weight[counted]
            sample_weight = torch.from_numpy(sample_weight).to(feats.device)
        classes, coded = self._code(labels)
        if len(every) > len(labels):
            warn_of_lost_classes(every, classes)
        y_idx = torch.from_numpy(coded).to(feats.device)
        return TrainingRows(feats, y_idx, len(classes), sample_weight), classes

    def _keep(self, fitted: dict[str, Any], classes: NDArray[Any], X: Any) -> Self:
        """Store what a fit returned, tensors as the kind of X."""
        self.classes_ = classes
        self.__dict__.pop("temperature_", None)  # it was that of other scores
        self._fitted_with = self.get_params(deep=False)
        for name, value in fitted.items():
            setattr(self, name, to_kind(value, X) if isinstance(value, Tensor) else value)
        return self

    def decision_function(self, X: Any) -> Any:
        """Return scores (n, C), the larger the likelier; (n,) for 2 classes, above 0 the second."""
        feats = self._checked(X)
        scores = feats.new_empty(len(feats), len(self.classes_))
        with full_precision():
            for rows, block in self._scored(feats):
                scores[rows] = block
        return to_kind(scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores, X)

    def predict(self, X: Any) -> Any:
        """Return labels (n,); for a tensor X a tensor, unless the labels are not numbers."""
        feats = self._checked(X)
        with full_precision():
            best = self._predict_idx(feats)
        if isinstance(X, Tensor) and self.classes_.dtype.kind in "iufb":
            return torch.from_numpy(self.classes_).to(best.device)[best]
        return self.classes_[as_numpy(best)]

    def predict_proba(self, X: Any) -> Any:
        """Return probabilities (n, C): the softmax of the scores divided by the temperature.

        The temperature is 1 until `calibrate` has fitted it. Columns are in the order of
        `classes_`.
        """
        feats = self._checked(X)
        shares = feats.new_empty(len(feats), len(self.classes_))
        with full_precision():
            for rows, block in self._scored(feats):
                shares[rows] = (block / self.temperature).softmax(dim=1)
        return to_kind(shares, X)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithms (n, C) of what `predict_proba` returns, also where that is 0."""
        feats = self._checked(X)
        shares = feats.new_empty(len(feats), len(self.classes_))
        with full_precision():
            for rows, block in self._scored(feats):
                shares[rows] = (block / self.temperature).log_softmax(dim=1)
        return to_kind(shares, X)

    def calibrate(self, X: Any, y: Any) -> Self:
        """Fit the temperature on rows that the head was not fitted on; labels stay as they are.

        It minimises the mean negative log-likelihood (Guo et al., "On Calibration of Modern Neural
        Networks", ICML 2017, section 4.2), over the rows whose class the head knows. The next
        `fit` sets it to 1 again.

        Parameters
        ----------
        X : array of shape (n, D)
        y : array of shape (n,)
            Labels; of an evenly spaced part of the rows where all their scores are too many.

        Raises
        ------
        HeadInputError
            No row has a class that the head knows, or the head is right on every row, which tells
            nothing of how sure it may be.
        """
        from heads.metrics.calibration import temperature_on  # it needs no head to be imported

        self.temperature_ = temperature_on(self, X, y)
        return self

    @property
    def temperature(self) -> float:
        """What scores are divided by to give probabilities; 1 for a head that is not calibrated."""
        return float(getattr(self, "temperature_", 1.0))

    def fitted_params(self) -> dict[str, Any]:
        """Return the parameters that the head was fitted with; those it has before it is fitted.

        Predictions follow these: a parameter that is set later takes effect with the next fit.
        """
        params: dict[str, Any] = self.get_params(deep=False)
        return params | getattr(self, "_fitted_with", {})

    def save(self, path: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the fitted head to one file; see `heads.save`."""
        save(self, path, metadata)

    def _checked(self, X: Any) -> Tensor:
        """Return the checked features of a fitted head."""
        check_is_fitted(self)
        return check_features(self, X)

    def _scored(self, feats: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks of rows with their scores (k, C)."""
        score = self._scorer(feats)
        for rows in row_blocks(len(feats), max(feats.shape[1], len(self.classes_))):
            yield rows, refuse_overflow(score(feats[rows]))

    def _predict_idx(self, feats: Tensor) -> Tensor:
        return torch.cat([block.argmax(dim=1) for _, block in self._scored(feats)])

    def _code(self, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        return code_labels(labels)

    def _check_params(self) -> None:
        """Refuse a parameter outside its range."""

    def _company(self) -> Hashable | None:
        """Name the heads that can be fitted together with this one; None: it is fitted alone."""
        return None

    def _fit_together(self, heads: Sequence[Any], train: TrainingRows) -> list[dict[str, Any]]:
        """Return what `_fit` returns of each of some heads that name the same company."""
        raise NotImplementedError

    @abstractmethod
    def _fit(self, train: TrainingRows) -> dict[str, Any]:
        """Return the fitted attributes by name; tensors become the kind of X."""

    @abstractmethod
    def _scorer(self, feats: Tensor) -> Scorer:
        """Return a function from a block of rows like `feats` to its scores (k, C)."""


class LinearHead(Head):
    """A head whose scores are X W^T + b."""

    def _scorer(self, feats: Tensor) -> Scorer:
        W, b = match(self.weight_, feats), match(self.bias_, feats)
        return lambda block: linear_scores(block, W, b)

    def linear(self) -> tuple[Any, Any]:
        """Return the head as one linear layer: weight (C, D) and bias (C,)."""
        check_is_fitted(self)
        return self.weight_, self.bias_


class Stage1Head(LinearHead):
    """A head that starts from a stage-1 classifier, or from a softmax classifier of its own."""

    weight: Any
    bias: Any

    def _code(self, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        if self.weight is None and self.bias is not None:
            message = f"{type(self).__name__}: a bias without a weight; give both, or neither"
            raise HeadInputError(message)
        if self.weight is None:
            return code_labels(labels)
        W, _ = check_stage1(type(self).__name__, self.weight, self.bias, self.n_features_in_)
        return code_row_numbers(labels, len(W))

    def _stage1(self, train: TrainingRows) -> tuple[Tensor, Tensor]:
        """Return the W (C, D) and b (C,) to start from, like the features."""
        feats = train.feats
        if self.weight is None:
            given = train.sample_weight
            if given is not None:  # scaled so that no sum leaves float32
                train = replace(train, sample_weight=given / given.max())
            goal = natural(train)
            decay = usual_decay(train, goal, STAGE1_WEIGHT_DECAY)
            found = optimum(train, goal, decay)
            return found.W, found.b
        W, b = check_stage1(type(self).__name__, self.weight, self.bias, feats.shape[1])
        return cast_stage1(type(self).__name__, W, b, feats)
