"""Which rows stage 2's batches hold, as index arrays made in bulk.

Classes are drawn by p_j proportional to n_j^q: Kang et al., "Decoupling Representation and
Classifier for Long-Tailed Recognition" (ICLR 2020), equation 1. q = 0 is the sampler of their
code, `data/ClassAwareSampler.py`: classes come from a shuffled cycle without replacement, and each
class drawn gives `per_class` images in a row from a shuffled cycle of its own, which carries on
where it stopped. q = 1 is one shuffle of all rows after another. Any other q draws rows one by
one: a class by its probability, then one of its rows.

Every sampler is the beginning of an endless stream: fewer draws from the same seed are the first
of more. So fits that differ in their epochs alone share their batches.

A shuffle is a share of one sort. A key holds, from its high bits down, which shuffle it belongs
to, random bits, and what is shuffled; sorted, the low bits are the shuffles one after another.
Two equal random strings inside one shuffle stay in storage order; with the 24 bits that are left
at the size of iNaturalist that moves any probability by less than 1e-7.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heads.balancing.class_frequency import class_probabilities

__all__ = ["class_aware_rows", "rows_by_q"]

_KEY_BITS = 63
# Shuffles in one sort: a number that does not depend on how many there are, so that a shuffle's
# random bits do not either.
_SHUFFLE_BITS = 20


def rows_by_q(
    y_idx: NDArray[np.int64], q: float, n_draws: int, per_class: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw row numbers with classes by p_j proportional to n_j^q.

    Parameters
    ----------
    y_idx : ndarray of shape (n,), int64 >= 0
    q : float
        0 is class-balanced, 1 natural.
    n_draws : int
        How many row numbers to return.
    per_class : int
        Images in a row from each class drawn; used with q = 0 alone.
    rng : numpy.random.Generator
        The only source of chance.

    Returns
    -------
    ndarray of shape (n_draws,), int64
    """
    if q == 0:
        return class_aware_rows(y_idx, n_draws, per_class, rng)
    if q == 1:
        n_rows = np.array([len(y_idx)])
        return _image_cycles(n_rows, n_draws, rng)[0]
    return _independent_rows(y_idx, q, n_draws, rng)


def class_aware_rows(
    y_idx: NDArray[np.int64], n_draws: int, per_class: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw row numbers with every class equally often; classes without rows are not drawn.

    Parameters
    ----------
    y_idx : ndarray of shape (n,), int64 >= 0
    n_draws : int
        How many row numbers to return.
    per_class : int
        Row numbers in a row from each class drawn.
    rng : numpy.random.Generator
        The only source of chance.

    Returns
    -------
    ndarray of shape (n_draws,), int64
    """
    counts = np.bincount(y_idx)
    counts = counts[counts > 0]
    n_cycles = -(-n_draws // (per_class * len(counts)))
    class_rng, image_rng = _two(rng)
    classes = _class_cycles(n_cycles, len(counts), class_rng)
    places = _image_cycles(counts, per_class * n_cycles, image_rng)
    rows = _sorted_by_class(y_idx)[places].reshape(-1, per_class)
    # A class is drawn once in each cycle, so cycle r takes the r-th handful of each class.
    handfuls = classes * n_cycles + np.arange(n_cycles)[:, None]
    return rows.take(handfuls.ravel(), axis=0).ravel()[:n_draws]


def _independent_rows(
    y_idx: NDArray[np.int64], q: float, n_draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw row numbers one by one: a class by its probability, then one of its rows."""
    counts = np.bincount(y_idx)
    begin = np.cumsum(counts) - counts
    class_rng, row_rng = _two(rng)
    edges = np.cumsum(class_probabilities(counts, q))
    # The edges are divided by the last, so that this is exactly 1 and no draw lies beyond it.
    classes = np.searchsorted(edges / edges[-1], class_rng.random(n_draws), side="right")
    within = (row_rng.random(n_draws) * counts[classes]).astype(np.int64)
    return _sorted_by_class(y_idx)[begin[classes] + within]


def _two(rng: np.random.Generator) -> tuple[np.random.Generator, np.random.Generator]:
    """Return a generator for classes and one for rows, so that neither draw moves the other."""
    first, second = rng.integers(1 << 63, size=2)
    return np.random.default_rng(first), np.random.default_rng(second)


def _class_cycles(n_cycles: int, n_classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return (n_cycles, n_classes): each row a permutation of the classes."""
    keys = np.tile(np.arange(n_classes), (n_cycles, 1))
    _shuffle(keys, _bits(n_classes), 0, rng)
    return keys


def _image_cycles(
    counts: NDArray[np.int64], n_each: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return (C, n_each) places in a list of all images sorted by class: each class's cycle."""
    n_shuffles = -(-n_each // counts)
    lengths = np.repeat(counts, n_shuffles)
    begin_of_class = np.repeat(np.cumsum(n_shuffles) - n_shuffles, n_shuffles)
    already = (np.arange(len(lengths)) - begin_of_class) * lengths
    # Shuffles stand in the order in which draws reach them, so that more draws add some at the end.
    order = np.argsort(already, kind="stable")
    first_place = np.repeat(np.cumsum(counts) - counts, n_shuffles)
    made = _shuffles(lengths[order], first_place[order], int(counts.sum()), rng)
    begin = np.empty_like(lengths)
    begin[order] = np.cumsum(lengths[order]) - lengths[order]
    used = np.minimum(lengths, n_each - already)
    source = np.repeat(begin - (np.cumsum(used) - used), used)
    source += np.arange(len(source))
    return made[source].reshape(len(counts), n_each)


def _shuffles(
    lengths: NDArray[np.int64], first: NDArray[np.int64], n_places: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return one shuffle after another, of `lengths` places that count up from `first`."""
    parts = []
    for start in range(0, len(lengths), 1 << _SHUFFLE_BITS):
        some = slice(start, start + (1 << _SHUFFLE_BITS))
        parts.append(_keyed(lengths[some], first[some]))
        _shuffle(parts[-1], _bits(n_places), _SHUFFLE_BITS, rng)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _keyed(lengths: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return keys of (which shuffle, zeros, place), with places counting up from `first`."""
    ends = np.cumsum(lengths)
    tops = (np.arange(len(lengths)) << (_KEY_BITS - _SHUFFLE_BITS)) + first - (ends - lengths)
    keys = np.repeat(tops, lengths)
    keys += np.arange(len(keys))
    return keys


def _shuffle(keys: NDArray[np.int64], low: int, high: int, rng: np.random.Generator) -> None:
    """Replace keys (which shuffle, zeros, what) in place by the shuffled whats."""
    middle = (1 << (_KEY_BITS - high)) - (1 << low)
    # numpy draws raw words over the whole range of the type, four times faster than over any other.
    noise = rng.integers(-(1 << 63), 1 << 63, size=keys.shape, dtype=np.int64)
    noise &= middle
    keys |= noise
    keys.sort(axis=-1)
    keys &= (1 << low) - 1


def _bits(n_values: int) -> int:
    """Return how many bits hold so many values."""
    return max(1, (n_values - 1).bit_length())


def _sorted_by_class(y_idx: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row numbers in order of class, and in a class as stored."""
    # For 16-bit numbers alone numpy's stable sort is a radix sort, which is six times faster.
    narrow = y_idx.astype(np.uint16) if int(y_idx.max()) < 1 << 16 else y_idx
    return np.argsort(narrow, kind="stable")
