"""Checks of the stage-1 classifier that a head starts from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from heads._arrays import as_tensor, compute_dtype, is_finite
from heads.errors import HeadInputError

__all__ = ["cast_stage1", "check_stage1"]


def check_stage1(owner: str, weight: Any, bias: Any, n_features: int) -> tuple[Tensor, Tensor]:
    """Return a stage-1 weight (C, D) and bias (C,) as tensors.

    Parameters
    ----------
    owner : str
        The class that takes them, for the message.
    weight, bias : arrays of shape (C, D) and (C,)
        A bias of None means zeros.
    n_features : int
        The width D that the features have.

    Raises
    ------
    HeadInputError
        An array that holds no real numbers, shapes that do not belong together, a width other
        than `n_features`, one class, or a number that is not finite.
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

    They are copied, because a fitted head must not follow later changes to what was given, and
    because one layout in memory gives one result to the last bit.

    Parameters
    ----------
    owner : str
        The class that takes them, for the message.
    W, b : Tensors of shape (C, D) and (C,)
    like : Tensor
        The features that they will be used with.

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
