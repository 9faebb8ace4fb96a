"""Class-aware sampling for stage 2, as index arrays made in bulk.

Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition"
(ICLR 2020), and `data/ClassAwareSampler.py` of its code: classes come from a shuffled cycle
without replacement, and each class drawn gives `per_class` images in a row from a shuffled
cycle of its own, which carries on where it stopped.

Every shuffle is a share of one sort. A key holds, from its high bits down, which shuffle it
belongs to, random bits, and what is shuffled; sorted, the low bits are the shuffles one after
another. Two equal random strings inside one shuffle stay in storage order; with the 24 bits that
are left at the size of iNaturalist that moves any probability by less than 1e-7.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_aware_rows"]

_KEY_BITS = 63


def _bits(n_values: int) -> int:
    return max(1, (n_values - 1).bit_length())


def _shuffled(keys: NDArray[np.int64], low: int, high: int, rng: np.random.Generator) -> None:
    """Replace keys (which shuffle, zeros, what) in place by the shuffled whats."""
    middle = (1 << (_KEY_BITS - high)) - (1 << low)
    # Over the whole range of the type numpy draws raw words, four times faster than in any other.
    noise = rng.integers(-(1 << 63), 1 << 63, size=keys.shape, dtype=np.int64)
    noise &= middle
    keys |= noise
    keys.sort(axis=-1)
    keys &= (1 << low) - 1


def _class_cycles(n_cycles: int, n_classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return (n_cycles, n_classes): each row a permutation of the classes."""
    keys = np.tile(np.arange(n_classes), (n_cycles, 1))
    _shuffled(keys, _bits(n_classes), 0, rng)
    return keys


def _image_cycles(
    counts: NDArray[np.int64], n_each: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return (C, n_each) places in a list of all images sorted by class: each class's cycle."""
    n_shuffles = -(-n_each // counts)
    lengths = np.repeat(counts, n_shuffles)
    ends = np.cumsum(lengths)
    first_place = np.repeat(np.cumsum(counts) - counts, n_shuffles)
    low, high = _bits(int(counts.sum())), _bits(len(lengths))
    heads = (np.arange(len(lengths)) << (_KEY_BITS - high)) + first_place - (ends - lengths)
    keys = np.repeat(heads, lengths)
    keys += np.arange(len(keys))
    _shuffled(keys, low, high, rng)
    n_made = counts * n_shuffles
    begin = np.cumsum(n_made) - n_made
    return keys[begin[:, None] + np.arange(n_each)]


def _sorted_by_class(y_idx: NDArray[np.int64]) -> NDArray[np.int64]:
    # numpy's stable sort is a radix sort, six times faster, for 16-bit numbers only.
    narrow = y_idx.astype(np.uint16) if int(y_idx.max()) < 1 << 16 else y_idx
    return np.argsort(narrow, kind="stable")


def class_aware_rows(
    y_idx: NDArray[np.int64], n_draws: int, per_class: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw row numbers with every class equally often.

    Parameters
    ----------
    y_idx : ndarray of shape (n,), int64 >= 0
        Classes without rows are not drawn.
    n_draws : int
        How many row numbers to return.
    per_class : int
        Images in a row from each class drawn.
    rng : numpy.random.Generator
        The only source of chance.

    Returns
    -------
    ndarray of shape (n_draws,), int64
    """
    counts = np.bincount(y_idx)
    counts = counts[counts > 0]
    n_cycles = -(-n_draws // (per_class * len(counts)))
    classes = _class_cycles(n_cycles, len(counts), rng)
    places = _image_cycles(counts, per_class * n_cycles, rng)
    rows = _sorted_by_class(y_idx)[places].reshape(-1, per_class)
    # A class is drawn once in each cycle, so cycle r takes the r-th handful of each class.
    handfuls = classes * n_cycles + np.arange(n_cycles)[:, None]
    return rows.take(handfuls.ravel(), axis=0).ravel()[:n_draws]
