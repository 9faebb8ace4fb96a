"""The plane of greatest variance: where features can be looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["grid_points", "principal_plane"]

Floats = NDArray[np.float32]

# Matrices up to this size are decomposed whole.
_DENSE = 32


def principal_plane(X: ArrayLike) -> tuple[Floats, Floats]:
    """Return the mean (D,) and two orthonormal principal directions (D, 2) of X (n, D).

    The largest entry of each direction is positive, so that the same rows give the same picture.
    With fewer than two directions in X the rest are zero.
    """
    feats = np.asarray(X, dtype=np.float64)
    mean = feats.mean(axis=0)
    centred = feats - mean
    wide = centred.shape[1] > len(centred)
    values, found = _greatest_two(centred @ centred.T if wide else centred.T @ centred)
    if wide:
        scale = np.sqrt(np.maximum(values, 0))
        found = centred.T @ np.divide(found, scale, out=np.zeros_like(found), where=scale > 0)
    basis = np.zeros((len(mean), 2))
    basis[:, : found.shape[1]] = found
    peak = np.abs(basis).argmax(axis=0)
    basis *= np.where(np.take_along_axis(basis, peak[None], axis=0) < 0, -1.0, 1.0)
    return mean.astype(np.float32), basis.astype(np.float32)


def _greatest_two(gram: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the two greatest eigenvalues and their vectors (n, 2), the greatest first."""
    if len(gram) <= _DENSE or not gram.any():
        values, found = np.linalg.eigh(gram)
    else:
        from scipy.sparse.linalg import eigsh  # Lanczos: a few products where eigh takes seconds

        # A centred Gram matrix sends the ones to zero, where Lanczos cannot begin.
        start = np.random.default_rng(0).normal(size=len(gram))
        values, found = eigsh(gram, k=2, v0=start, tol=1e-9)
    order = np.argsort(values)[::-1][:2]
    return values[order], found[:, order]


def grid_points(extent: ArrayLike, size: int) -> Floats:
    """Return size x size points of a plane, (size * size, 2), row by row upwards.

    `extent` is [left, right, bottom, top]; points are centres of the cells that tile it.
    """
    left, right, bottom, top = np.asarray(extent, dtype=np.float64)
    steps = (np.arange(size) + 0.5) / size
    across, up = np.meshgrid(left + steps * (right - left), bottom + steps * (top - bottom))
    return np.stack([across.ravel(), up.ravel()], axis=1).astype(np.float32)
