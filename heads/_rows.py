"""The check that curves make of rows, labels and train counts."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from heads.errors import HeadInputError

__all__ = ["check_rows"]


def check_rows(
    owner: str, feats: Tensor, labels: NDArray[Any], counts: NDArray[Any], n_classes: int
) -> None:
    """Refuse features (n, D), labels (n,) and train counts (C,) that do not belong together."""
    message = ""
    if labels.shape != (len(feats),) or not len(feats):
        message = f"{len(feats)} rows of features for labels of shape {labels.shape}"
    elif counts.shape != (n_classes,):
        message = f"counts has shape {counts.shape}, but weight has {n_classes} classes"
    elif labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= n_classes:
        message = f"labels must be whole numbers in 0..{n_classes - 1}, the rows of weight"
    if message:
        message = f"{owner}: {message}"
        raise HeadInputError(message)
