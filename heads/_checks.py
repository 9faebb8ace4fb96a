"""Checks of parameters, features, labels and stage-1 classifiers, in scikit-learn's words."""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data
from torch import Tensor

from heads._arrays import as_numpy, as_tensor, compute_dtype, is_finite
from heads.errors import HeadInputError

__all__ = [
    "MOST_DECAY",
    "check_features",
    "check_finite",
    "check_flag",
    "check_held_out",
    "check_number",
    "check_one_of",
    "check_random_state",
    "check_stage1",
    "check_training",
    "check_weights",
    "code_labels",
    "code_row_numbers",
    "cast_stage1",
    "refuse_overflow",
    "warn_of_lost_classes",
]


# The smallest normal number and the largest number of float32.
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
# A weight decay beyond this leaves weights that are nothing but rounding.
MOST_DECAY = 1e12
# Weights of rows beyond these could not be added, or not without losing digits.
_LIGHTEST, _HEAVIEST = 1e-200, 1e200
# A weight is nothing in float32 beside one that is so many times as heavy.
_WIDE = 1e30


def check_one_of(owner: str, name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a `value` that is not one of the words `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        words = ", ".join(allowed)
        message = (
            f"The {name!r} parameter of {owner} must be one of: {words}. Got {value!r} instead."
        )
        raise HeadInputError(message)


def check_number(
    owner: str,
    name: str,
    value: object,
    *,
    low: float,
    high: float = math.inf,
    whole: bool = False,
    above: bool = False,
) -> None:
    """Refuse a `value` that is no number from `low` (with `above`: above it) to `high`.

    And one that float32 cannot hold: features are most often computed in it, where 1e39 is
    infinity and 1e-50 is 0.
    """
    kind = Integral if whole else Real
    good = isinstance(value, kind) and not isinstance(value, bool | np.bool_)
    number = _as_float(value) if good else math.nan
    held = number == 0 or _LEAST <= abs(number) <= _MOST  # NaN and infinity are not
    if held and low <= number <= high and not (above and number == low):
        return
    what = "a whole number" if whole else "a number"
    bound = f"above {low:g}" if above else f"of at least {low:g}"
    bound += f" and at most {high:g}" if number > high else ""
    if math.isfinite(number) and number >= low and not held:
        bound += f", and one that float32 can hold: 0, or from {_LEAST:.1e} to {_MOST:.1e} in size"
    shown = f"{value!r}" if len(f"{value!r:.60}") < 60 else f"{value!r:.60}..."
    message = f"The {name!r} parameter of {owner} must be {what} {bound}. Got {shown} instead."
    raise HeadInputError(message)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more digits than a float has room for
        return math.inf if value > 0 else -math.inf


def check_random_state(owner: str, value: object) -> None:
    """Refuse what is no seed: None, a whole number from 0, or a generator of numpy's."""
    whole = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
    if whole and int(value) >= 0:  # type: ignore[call-overload]
        return
    generators = (np.random.Generator, np.random.BitGenerator, np.random.SeedSequence)
    if value is None or isinstance(value, (*generators, np.random.RandomState)):
        return
    message = (
        f"The 'random_state' parameter of {owner} must be None, a generator of numpy's or a whole "
        f"number of at least 0. Got {value!r} instead."
    )
    raise HeadInputError(message)


def check_flag(owner: str, name: str, value: object) -> None:
    """Refuse a `value` that is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        message = f"The {name!r} parameter of {owner} must be True or False. Got {value!r} instead."
        raise HeadInputError(message)


def _float_type(X: Any) -> Any:
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

    `reset` notes the width in `n_features_in_`, else it is compared. Without `finite` the caller
    looks for NaN and infinity.
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


def check_weights(sample_weight: Any, labels: NDArray[Any]) -> NDArray[np.float64]:
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
        warnings.warn(message, UserWarning, stacklevel=5)


def _unique(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Do as `np.unique` does; whole numbers close together are counted, which sorts nothing."""
    if labels.dtype.kind in "iu":
        low, span = int(labels.min()), int(labels.max()) - int(labels.min()) + 1
        if span <= 4 * len(labels) and -(2**62) < low < 2**62:
            shifted = labels.astype(np.int64) - low
            seen = np.bincount(shifted, minlength=span) > 0
            classes = (np.flatnonzero(seen) + low).astype(labels.dtype)
            return classes, (np.cumsum(seen) - 1)[shifted]
    classes, y_idx = np.unique(labels, return_inverse=True)
    return classes, y_idx


def code_labels(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted classes (C,) of `labels`, and each label's place among them (n,)."""
    classes, y_idx = _unique(labels)
    if len(classes) < 2:
        message = f"a head needs at least 2 classes; got 1 class, {classes[0]}"
        raise HeadInputError(message)
    return classes, y_idx.astype(np.int64, copy=False)


def code_row_numbers(
    labels: NDArray[Any], n_classes: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read `labels` as rows 0..n_classes-1 of a stage-1 weight, or say which one is not."""
    whole = labels.astype(np.int64) if labels.dtype.kind in "iufb" else np.full(len(labels), -1)
    wrong = np.flatnonzero((whole < 0) | (whole >= n_classes))
    if wrong.size:
        message = (
            f"label {labels[wrong[0]]} (row {wrong[0]}) is outside 0..{n_classes - 1}: with a "
            f"stage-1 weight of {n_classes} rows, a label is a row number"
        )
        raise HeadInputError(message)
    return np.arange(n_classes), whole


def check_stage1(owner: str, weight: Any, bias: Any, n_features: int) -> tuple[Tensor, Tensor]:
    """Return a stage-1 weight (C, D) and bias (C,) as tensors; no bias means zeros.

    Raises
    ------
    HeadInputError
        What holds no real numbers, shapes that do not belong together, a width other than
        `n_features`, one class, or a number that is not finite.
    """
    W = _real_numbers(owner, "weight", weight)
    message = ""
    if W.ndim != 2 or len(W) < 2:
        message = f"weight must be (C, D) with at least 2 classes; got shape {tuple(W.shape)}"
    elif W.shape[1] != n_features:
        message = f"weight has {W.shape[1]} columns, but X has {n_features} features"
        if len(W) == n_features:
            message += f": it is (C, D), a row for each class, and {tuple(W.shape)} looks turned"
    if not message:
        b = torch.zeros(len(W), dtype=W.dtype)
        b = b if bias is None else _real_numbers(owner, "bias", bias)
        if tuple(b.shape) != (len(W),):
            message = f"bias has shape {tuple(b.shape)}, but weight has {len(W)} classes"
        elif not (is_finite(W) and is_finite(b)):
            message = "weight and bias must be finite; they hold NaN or infinity"
    if message:
        message = f"{owner}: {message}"
        raise HeadInputError(message)
    return W, b


def _real_numbers(owner: str, name: str, array: Any) -> Tensor:
    """Return an array as a tensor of whole or floating numbers, or say that it is none."""
    try:
        given = array if isinstance(array, Tensor) else np.asarray(array)
        kind = given.dtype.kind if isinstance(given, np.ndarray) else str(given.dtype)
        if kind in ("torch.bool", *"bcUSOmMV") or "complex" in kind:
            raise TypeError(kind)
        return as_tensor(given)
    except (TypeError, ValueError) as error:
        message = f"{owner}: {name} must be an array of real numbers; got {type(array).__name__}"
        message += f" ({' '.join(str(error).split())})"
        raise HeadInputError(message) from error


def cast_stage1(owner: str, W: Tensor, b: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return a stage-1 weight and bias in the dtype to compute in, on the device of `like`.

    Copies: what is fitted must not follow later changes to what was given, and one layout in
    memory gives one result to the last bit.

    Raises
    ------
    HeadInputError
        A number that is not finite in that dtype.
    """
    dtype = compute_dtype(like)
    W, b = (
        part.to(device=like.device, dtype=dtype).clone(memory_format=torch.contiguous_format)
        for part in (W, b)
    )
    if not (is_finite(W) and is_finite(b)):
        message = (
            f"{owner}: weight and bias must be finite in {str(dtype).split('.')[-1]}, the "
            "precision of X; they hold larger numbers"
        )
        raise HeadInputError(message)
    return W, b


def refuse_overflow(scores: Tensor) -> Tensor:
    """Return `scores`, or refuse them where finite features gave a number that is not."""
    if not is_finite(scores):
        message = (
            f"scores are not finite in {str(scores.dtype).split('.')[-1]}: "
            "scale the features down, or pass them as float64"
        )
        raise HeadInputError(message)
    return scores
