"""Counts and sums per class, in float64 and in one pass over the rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heads._arrays import row_blocks

__all__ = ["class_means", "class_sums", "unit_rows"]


def class_sums(
    feats: Tensor, y_idx: Tensor, n_classes: int, transform: Callable[[Tensor], Tensor]
) -> Tensor:
    """Sum the transformed rows of each class.

    Parameters
    ----------
    feats : Tensor of shape (n, D)
    y_idx : Tensor of shape (n,), int64 in [0, n_classes)
    n_classes : int
    transform : callable
        Maps a block of rows (k, D) to (k, D), row by row.

    Returns
    -------
    Tensor of shape (n_classes, D), float64; a class without rows has zeros
    """
    n_rows, width = feats.shape
    sums = torch.zeros(n_classes, width, dtype=torch.float64, device=feats.device)
    for rows in row_blocks(n_rows, width):
        sums.index_add_(0, y_idx[rows], transform(feats[rows]).double())
    return sums


def class_means(sums: Tensor, counts: Tensor) -> Tensor:
    """Divide sums (C, D) by counts (C,); a class without rows keeps its zeros."""
    return sums / counts.clamp(min=1).unsqueeze(1)


def unit_rows(rows: Tensor) -> Tensor:
    """Divide each row (n, D) by its norm; a row of zeros stays zero.

    The norm is taken in float64, so that float32 rows of any size neither over- nor underflow.
    """
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    return rows / norms.masked_fill_(norms == 0, 1).to(rows.dtype)
