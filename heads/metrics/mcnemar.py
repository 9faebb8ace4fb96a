"""McNemar's test: whether two classifiers err equally often on the same rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from heads.errors import HeadInputError

__all__ = ["discordant", "mcnemar"]


def discordant(one: ArrayLike, other: ArrayLike) -> tuple[int, int]:
    """Count the rows that only the one, and only the other, has right; of two masks (n,)."""
    a, b = np.asarray(one, dtype=bool), np.asarray(other, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        message = f"the same rows are needed for both: (n,) and (n,); got {a.shape} and {b.shape}"
        raise HeadInputError(message)
    return int((a & ~b).sum()), int((b & ~a).sum())


def mcnemar(only_one: int, only_other: int) -> float:
    """Return the two-sided mid-p of as many rows that only one of two classifiers has right.

    Without a difference, the smaller count x is Binomial(n, 1/2) of their sum n;
    p = 2 P(X <= x) - P(X = x), 1 where n is 0. It holds the level more closely than the exact
    p-value, which is too large (Fagerland, Lydersen and Laake, "The McNemar test for binary
    matched-pairs data: mid-p and asymptotic are better than exact conditional", BMC Medical
    Research Methodology 13:91, 2013).
    """
    if min(only_one, only_other) < 0:
        message = f"counts of rows must be at least 0; got {only_one} and {only_other}"
        raise HeadInputError(message)
    n, x = only_one + only_other, min(only_one, only_other)
    k = np.arange(1, x + 1)
    log_ratio = np.concatenate([[0.0], np.cumsum(np.log((n - k + 1) / k))])  # log of C(n, k)
    masses = np.exp(log_ratio - n * np.log(2.0))
    return float(min(1.0, 2 * masses.sum() - masses[-1]))
