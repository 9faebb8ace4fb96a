"""The check that curves make of rows, labels and train counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from heads._arrays import as_numpy
from heads._labels import code_known, whole_labels
from heads.errors import HeadInputError

__all__ = ["checked_rows"]


def checked_rows(
    owner: str, feats: Tensor, y: Any, counts: NDArray[Any], n_classes: int, classes: Any = None
) -> NDArray[np.int64]:
    """Return labels as rows of a weight (C, D), or say what does not belong together.

    Parameters
    ----------
    owner : str
        What the message calls the function that was given these values.
    feats : Tensor of shape (n, D)
    y : array of shape (n,)
        The label of each row.
    counts : ndarray of shape (C,)
        The training rows of each class.
    n_classes : int
        C: how many rows the weight has.
    classes : array of shape (C,), optional
        The labels of the rows of the weight, in increasing order; 0..C-1 where they are not given.

    Returns
    -------
    ndarray of shape (n,), int64
        Numbers in [0, C).

    Raises
    ------
    HeadInputError
        No rows, lengths that differ, or a label that no row of the weight has.
    """
    labels, message = as_numpy(y), ""
    if labels.shape != (len(feats),) or not len(feats):
        message = f"{len(feats)} rows of features for labels of shape {labels.shape}"
    elif counts.shape != (n_classes,):
        message = f"counts has shape {counts.shape}, but weight has {n_classes} classes"
    elif classes is not None and len(classes) != n_classes:
        message = f"classes has {len(classes)} labels, but weight has {n_classes} classes"
    if message:
        message = f"{owner}: {message}"
        raise HeadInputError(message)
    if classes is not None:
        return code_known(labels, as_numpy(classes))
    try:
        return whole_labels(labels, n_classes)
    except HeadInputError as error:
        message = f"{owner}: labels must be whole numbers in 0..{n_classes - 1}, the rows of weight"
        message += f" ({error}); give `classes`, where they are others"
        raise HeadInputError(message) from None
