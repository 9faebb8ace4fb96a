"""Checks of features, labels and weights of rows, in scikit-learn's words."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data
from torch import Tensor

from heads._arrays import as_numpy, as_tensor, compute_dtype, is_finite, row_blocks
from heads.errors import HeadInputError

__all__ = [
    "check_features",
    "check_finite",
    "check_held_out",
    "check_norms",
    "check_training",
    "check_sample_weight",
    "refuse_overflow",
    "warn_of_lost_classes",
]

# Weights of rows beyond these could not be added, or not without losing digits.
_LIGHTEST, _HEAVIEST = 1e-200, 1e200
# A weight is nothing in float32 beside one that is so many times as heavy.
_WIDE = 1e30


def _float_type(X: Any) -> Any:
    """Return the dtype, or dtypes, that scikit-learn is to read X as."""
    dtype = getattr(X, "dtype", None)
    if not isinstance(dtype, np.dtype):
        return [np.float64, np.float32]
    return np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64


def _check_tensor(owner: str, X: Tensor) -> Tensor:
    """Say of a tensor what scikit-learn says of an array; it may live on any device."""
    if X.is_complex():
        message = f"Complex data not supported\n{X.dtype} tensor given to {owner}"
        raise ValueError(message)
    if X.ndim != 2:
        message = (
            f"Expected 2D array, got {X.ndim}D array instead: shape {tuple(X.shape)}. "
            "Reshape your data using reshape(1, -1) if it contains a single sample."
        )
        raise ValueError(message)
    for size, what in zip(X.shape, ("sample", "feature"), strict=True):
        if size == 0:
            message = (
                f"Found array with 0 {what}(s) (shape={tuple(X.shape)}) "
                f"while a minimum of 1 is required by {owner}."
            )
            raise ValueError(message)
    return X.detach().to(compute_dtype(X))


def check_finite(feats: Tensor) -> Tensor:
    """Return features (n, D), or refuse NaN and infinity in scikit-learn's words."""
    if not is_finite(feats):
        kind = f"infinity or a value too large for dtype('{str(feats.dtype).split('.')[-1]}')"
        message = f"Input X contains {'NaN' if bool(feats.isnan().any()) else kind}."
        raise ValueError(message)
    return feats


def check_norms(feats: Tensor) -> Tensor:
    """Return finite features (n, D), or refuse them where a row's norm is no number.

    Raises
    ------
    HeadInputError
        The norm of a row is beyond the dtype; of float64, its square is.
    """
    low, high = (float(end) for end in torch.aminmax(feats))
    most = torch.finfo(feats.dtype).max
    most = math.sqrt(most) if feats.dtype == torch.float64 else most
    if max(-low, high) * math.sqrt(feats.shape[1]) <= most:
        return feats
    for rows in row_blocks(*feats.shape):
        norms = torch.linalg.vector_norm(feats[rows].double(), dim=1)
        wrong = (~(norms <= most)).nonzero().squeeze(1)
        if len(wrong):
            message = (
                f"the norm of row {rows.start + int(wrong[0])} of X is beyond what "
                f"{str(feats.dtype).split('.')[-1]} can hold or square: scale the features down"
            )
            raise HeadInputError(message)
    return feats


def check_features(head: Any, X: Any) -> Tensor:
    """Return the features as a tensor (n, D) of floats, or say what a fitted head cannot take."""
    if isinstance(X, Tensor):
        feats = check_finite(_check_tensor(type(head).__name__, X))
        validate_data(head, X, reset=False, skip_check_array=True)
        return feats
    return as_tensor(validate_data(head, X, reset=False, dtype=_float_type(X)))


def check_training(
    head: Any, X: Any, y: Any, *, reset: bool = True, finite: bool = True
) -> tuple[Tensor, NDArray[Any]]:
    """Return features (n, D) and labels (n,) to fit on.

    Parameters
    ----------
    head : estimator
        Its `n_features_in_` is set, or compared with the width of X.
    X : array of shape (n, D)
    y : array of shape (n,)
    reset : bool, default True
        Whether the width is noted in `n_features_in_`, rather than compared with it.
    finite : bool, default True
        Whether NaN, infinity and rows of infinite norm are refused. Without it the caller refuses
        them.

    Raises
    ------
    ValueError
        In scikit-learn's words where it has some.
    """
    labels = as_numpy(y) if isinstance(y, Tensor) else y
    if isinstance(X, Tensor):
        feats = _check_tensor(type(head).__name__, X)
        feats = check_finite(feats) if finite else feats
        validate_data(head, X, labels, reset=reset, skip_check_array=True)
        labels = column_or_1d(labels, warn=True)
        assert_all_finite(labels, input_name="y")
        if len(labels) != len(feats):
            sizes = [len(feats), len(labels)]
            message = f"Found input variables with inconsistent numbers of samples: {sizes}"
            raise ValueError(message)
    else:
        checked, labels = validate_data(
            head, X, labels, reset=reset, dtype=_float_type(X), ensure_all_finite=finite
        )
        feats = as_tensor(checked)
    feats = check_norms(feats) if finite else feats
    if labels.dtype.kind not in "iu":  # whole numbers are classes; the check sorts them
        check_classification_targets(labels)
    return feats, labels


def check_held_out(head: Any, X: Any, y: Any) -> tuple[Tensor, NDArray[Any]]:
    """Return features (m, D) and labels (m,) of a validation split, of the width of the fit."""
    feats, labels = check_features(head, X), as_numpy(y)
    if labels.shape != (len(feats),):
        message = f"{len(feats)} rows of X_val for labels y_val of shape {labels.shape}"
        raise HeadInputError(message)
    return feats, labels


def check_sample_weight(sample_weight: Any, labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return weights (n,) of rows, none below zero and not all of them zero.

    Raises
    ------
    ValueError
        In scikit-learn's words; or where the heaviest is so heavy, or so light, that sums of
        weights would not be numbers.

    Warns
    -----
    UserWarning
        Where the lightest rows are nothing beside the heaviest in float32.
    """
    given = as_numpy(sample_weight) if isinstance(sample_weight, Tensor) else sample_weight
    checked = np.asarray(
        _check_sample_weight(given, labels, dtype=np.float64, ensure_non_negative=True)
    )
    lightest, heaviest = float(checked[checked > 0].min()), float(checked.max())
    if not _LIGHTEST <= heaviest <= _HEAVIEST:
        message = (
            f"the largest sample_weight is {heaviest:.1e}: scale the weights, to a mean of about 1"
        )
        raise HeadInputError(message)
    if heaviest / _WIDE > lightest:
        message = (
            f"sample_weight reaches from {lightest:.1e} to {heaviest:.1e}: beside the heaviest "
            "rows the lightest weigh nothing in float32"
        )
        warnings.warn(message, UserWarning, stacklevel=4)
    return checked


def warn_of_lost_classes(labels: NDArray[Any], classes: NDArray[Any]) -> None:
    """Warn of labels (n,) that are none of the classes (C,): all their rows have weight 0."""
    lost = np.setdiff1d(labels, classes)
    if len(lost):
        message = (
            f"sample_weight is 0 on every row of class {lost[0]} ({len(lost)} of "
            f"{len(lost) + len(classes)} classes): left out, as if there were no such rows"
        )
        warnings.warn(message, UserWarning, stacklevel=4)


def refuse_overflow(scores: Tensor) -> Tensor:
    """Return `scores`, or refuse them where finite features gave a number that is not."""
    if not is_finite(scores):
        message = (
            f"scores are not finite in {str(scores.dtype).split('.')[-1]}: "
            "scale the features down, or pass them as float64"
        )
        raise HeadInputError(message)
    return scores
