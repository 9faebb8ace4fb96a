"""What a page shows by class: who is in which group, and curves over classes by size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.data.sampling import strategy_probabilities
from featbank.report.pack import smallest
from featbank.results.cell import BankRecord
from heads.metrics.shots import Shots

__all__ = [
    "BINS",
    "STRATEGIES",
    "ClassSet",
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


@dataclass(frozen=True, eq=False)
class ClassSet:
    """The classes of a bank, and the curves over them.

    Attributes
    ----------
    names : tuple of C strings
    counts : ndarray of shape (C,)
        The training rows of each class.
    group : ndarray of shape (C,)
        The shot group of each class.
    rows : ndarray of shape (C,)
        The rows of each class in the reported split.
    shots : Shots
        The thresholds of the shot groups.
    size : ndarray
        The training rows, from the largest class to the smallest, as `by_size` draws them.
    sampling : mapping
        The probability of drawing a class, in the same order, by sampling strategy.
    """

    names: tuple[str, ...]
    counts: NDArray[np.uint32]
    group: NDArray[np.uint8]
    rows: NDArray[Any]
    shots: Shots
    size: NDArray[np.float32]
    sampling: Mapping[str, NDArray[np.float32]]

    def same(self, other: ClassSet) -> bool:
        """Tell whether another bank has the same classes, of the same sizes and groups."""
        return (self.names, self.shots) == (other.names, other.shots) and all(
            np.array_equal(mine, its)
            for mine, its in ((self.counts, other.counts), (self.rows, other.rows))
        )


def class_set(bank: BankRecord, labels: Ints) -> ClassSet:
    """Return the classes of a bank, of which `labels` (n,) are in the reported split."""
    counts = np.asarray(bank.class_counts, dtype=np.int64)
    return ClassSet(
        names=bank.class_names,
        counts=counts.astype(np.uint32),
        group=groups_of(bank),
        rows=smallest(np.bincount(labels, minlength=len(counts))),
        shots=bank.shots,
        size=by_size(counts, counts),
        sampling=sampling_curves(counts),
    )


def groups_of(bank: BankRecord) -> NDArray[np.uint8]:
    """Return the shot group of each class of a bank's record, (C,)."""
    return bank.groups().astype(np.uint8)


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
