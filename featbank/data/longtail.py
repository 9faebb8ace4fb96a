"""Long-tailed subsets of a balanced data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError
from featbank.runtime.names import require_known
from featbank.runtime.rng import numpy_generator

__all__ = ["longtail_counts", "random_ranks"]

PROFILES = ("exponential", "step")


def longtail_counts(
    n_max: int, imbalance: float, n_classes: int, profile: str = "exponential"
) -> NDArray[np.int64]:
    """Return how many images each class keeps, (C,) int64, never rising from class 0 to C-1.

    Parameters
    ----------
    n_max : int
        Images of class 0, the largest.
    imbalance : float
        Images of the first class over those of the last, at least 1.
    n_classes : int
        The number of classes, C.
    profile : {"exponential", "step"}
        ``exponential``: n_c = n_max * imbalance^(-c / (C-1)), Cui et al., "Class-Balanced Loss
        Based on Effective Number of Samples" (CVPR 2019), section 5. ``step``: n_max for the first
        half of the classes and n_max / imbalance for the rest, Buda et al. (2018).

    Notes
    -----
    Counts are rounded down, as every public CIFAR-LT does (``int(...)``), and are at least 1.
    """
    require_known("long-tail profile", profile, PROFILES)
    if n_max < 1 or n_classes < 1 or not 1 <= imbalance < np.inf:
        message = (
            "a long tail needs n_max >= 1, classes >= 1 and a finite imbalance >= 1; "
            f"got n_max={n_max}, classes={n_classes}, imbalance={imbalance}"
        )
        raise InputError(message)
    classes = np.arange(n_classes)
    if profile == "exponential":
        exponent = classes / max(n_classes - 1, 1)
    else:
        exponent = (classes >= (n_classes + 1) // 2).astype(float)
    # Computed in Python floats and in this order, because others round some counts differently.
    kept = [int(n_max * (1.0 / imbalance) ** float(e)) for e in exponent]
    return np.maximum(kept, 1).astype(np.int64)


def random_ranks(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return each row's place (N,) in a random order of its own class: 0 .. n_c - 1.

    Rows of rank below k are k random rows of each class, and nested for growing k.
    """
    keys = numpy_generator(seed, "ranks").random(len(labels))
    order = np.lexsort((keys, labels))
    counts = np.bincount(labels)
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks
