"""What a page shows by class: who is in which group, and curves over classes by size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.data.sampling import strategy_probabilities
from heads.metrics.shots import Shots

__all__ = [
    "BINS",
    "STRATEGIES",
    "by_size",
    "class_set",
    "groups_of",
    "hits_by_class",
    "sampling_curves",
]

Ints = NDArray[np.int64]

# A curve over more classes than this is drawn through means of as many runs of neighbours.
BINS = 250

# The strategies of stage 1 whose probabilities are drawn; progressive at its middle epoch.
STRATEGIES = ("instance", "sqrt", "class", "progressive", "reversed")


def class_set(bank: dict[str, Any], labels: Ints) -> dict[str, Any]:
    """Return names, training counts (C,), shot groups (C,) and rows of the reported split (C,)."""
    counts = np.asarray(bank["class_counts"], dtype=np.int64)
    return {
        "names": [str(name) for name in bank["class_names"]],
        "counts": counts,
        "group": groups_of(bank),
        "rows": np.bincount(labels, minlength=len(counts)),
        "shots": bank["shots"],
    }


def groups_of(bank: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the shot group of each class of a bank's record, (C,)."""
    shots = Shots(int(bank["shots"]["many_above"]), int(bank["shots"]["few_below"]))
    return shots.groups(bank["class_counts"]).astype(np.uint8)


def hits_by_class(labels: Ints, predicted: Ints, n_classes: int) -> Ints:
    """Return how many rows of each class were predicted as it, (C,)."""
    return np.bincount(labels[labels == predicted], minlength=n_classes)


def by_size(counts: Ints, values: NDArray[Any], bins: int = BINS) -> NDArray[np.float32]:
    """Return values (C,) from the largest class to the smallest, at most `bins` of them.

    More classes than that are cut into `bins` runs of neighbours in that order, as even as they
    can be, and each run gives its mean. Classes of one size keep their order.
    """
    ordered = np.asarray(values, dtype=np.float64)[np.argsort(-counts, kind="stable")]
    if len(ordered) <= bins:
        return ordered.astype(np.float32)
    starts = np.arange(bins) * len(ordered) // bins
    sizes = np.diff(np.append(starts, len(ordered)))
    return (np.add.reduceat(ordered, starts) / sizes).astype(np.float32)


def sampling_curves(counts: Ints) -> dict[str, NDArray[np.float32]]:
    """Return the probability of drawing a class under each strategy, by size, as `by_size`."""
    return {
        name: by_size(counts, strategy_probabilities(counts, name, 1, 2)) for name in STRATEGIES
    }
