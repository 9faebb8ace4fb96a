"""Weights by the effective number of samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heads.balancing.class_frequency import effective_number

__all__ = ["effective_number_weights"]


def effective_number_weights(counts: NDArray[np.int64], beta: float) -> NDArray[np.float64]:
    """Return (1 - beta) / (1 - beta^n_c), scaled so that they sum to C; (C,).

    1 everywhere at beta = 0, and 1/n_c (scaled) as beta goes to 1, which beta = 1 stands for.

    Parameters
    ----------
    counts : ndarray of shape (C,)
        n_c: training rows of each class, at least 1.
    beta : float
        In [0, 1]; (N - 1) / N of the paper, with N the number of distinct samples possible.

    References
    ----------
    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019).
    """
    weights = 1 / effective_number(counts, beta)
    return np.asarray(weights * len(weights) / weights.sum())
