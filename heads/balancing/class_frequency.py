"""Powers of the class counts, and effective numbers: what samplers and weighted losses are made of.

Plain numpy, so that stage 1 uses the same functions without loading an engine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["class_probabilities", "effective_number"]


def class_probabilities(counts: ArrayLike, q: float) -> NDArray[np.float64]:
    """Return the probability p_j = n_j^q / sum_i n_i^q of each class, (C,); 0 for an empty class.

    Parameters
    ----------
    counts : array of shape (C,)
        Training rows of each class, at least 0; one class at least has rows.
    q : float
        1 is instance-balanced, 0 class-balanced, 1/2 square-root, -1 reversed.

    References
    ----------
    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition" (ICLR
    2020), equation 1.
    """
    n_c = np.asarray(counts)
    # In logarithms: n^q of a large q overflows, but p does not.
    level = np.where(n_c > 0, q * np.log(np.where(n_c > 0, n_c, 1)), -np.inf)
    power = np.exp(level - level.max())
    return np.asarray(power / power.sum())


def effective_number(counts: ArrayLike, beta: float) -> NDArray[np.float64]:
    """Return E_n = (1 - beta^n) / (1 - beta) of each count, (C,); 0 for an empty class.

    Parameters
    ----------
    counts : array of shape (C,)
        Training rows of each class, or sums of their weights, at least 0.
    beta : float
        (N - 1) / N of the paper, in [0, 1]: 0 gives 1 for every class that has rows, and 1, the
        limit, gives the counts themselves.

    References
    ----------
    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019), equation 2.
    """
    n_c = np.asarray(counts, dtype=np.float64)
    if beta == 0:
        return (n_c > 0).astype(np.float64)
    if beta == 1:
        return n_c
    # By expm1: near beta = 1 the two differences would lose all their digits.
    log_beta = np.log(beta)
    return np.asarray(np.expm1(n_c * log_beta) / np.expm1(log_beta))
