"""Which training rows an epoch sees, and in which order.

Every order is a pure function of (labels, strategy, seed, epoch): it does not matter how often,
in which process or after which interruption it is asked for, so no sampler has state to save.

Strategies: ``instance`` (each row once), ``class``, ``sqrt`` and ``q=0.3`` (p_j proportional to
n_j^q; Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR
2020, section 3), ``progressive`` (there, from instance to class over the epochs), ``reversed``
(Zhou et al., "BBN", CVPR 2020) and ``class-aware`` (the sampler in the code of Kang et al.).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError
from featbank.runtime.names import require_known
from featbank.runtime.rng import derive_seed, numpy_generator
from heads.balancing.class_frequency import class_probabilities

__all__ = [
    "Draws",
    "PER_CLASS",
    "STRATEGIES",
    "ClassIndex",
    "check_strategy",
    "class_aware_draws",
    "drawn_rows",
    "epoch_indices",
    "permuted_rows",
    "strategy_probabilities",
]

STRATEGIES = ("instance", "class", "sqrt", "progressive", "reversed", "class-aware")
_EXPONENTS = {"instance": 1.0, "class": 0.0, "sqrt": 0.5}
# How many images a class gives each time it is drawn, in every configuration of Kang et al.'s code.
PER_CLASS = 4

_Indices = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class ClassIndex:
    """Rows grouped by class: class c is ``rows[starts[c] : starts[c] + counts[c]]``."""

    rows: _Indices
    starts: _Indices
    counts: _Indices

    @classmethod
    def of(cls, labels: _Indices) -> ClassIndex:
        """Group the rows of `labels` (N,), ints from 0."""
        if not len(labels):
            message = "there are no training rows to draw from"
            raise InputError(message)
        counts = np.bincount(labels).astype(np.int64)
        rows = np.argsort(labels, kind="stable").astype(np.int64)
        return cls(rows, np.cumsum(counts) - counts, counts)


def _exponent(strategy: str) -> float | None:
    """Return q of a strategy that is a power of the counts."""
    if not strategy.startswith("q="):
        return _EXPONENTS.get(strategy)
    try:
        q = float(strategy[2:])
    except ValueError:
        q = np.nan
    if not np.isfinite(q):
        message = f"sampler {strategy!r} needs a finite number after 'q='"
        raise InputError(message)
    return q


def check_strategy(strategy: str) -> None:
    """Raise `InputError` unless `strategy` is a name in `STRATEGIES` or ``q=NUMBER``."""
    if _exponent(strategy) is None:
        require_known("sampler", strategy, STRATEGIES)


def strategy_probabilities(counts: _Indices, strategy: str, epoch: int, epochs: int) -> _Floats:
    """Return the probability (C,) of each class under a strategy in one epoch.

    ``progressive`` is (1 - t/T) p(q=1) + (t/T) p(q=0) with t the epoch and T the number of epochs:
    the first epoch is instance-balanced, the last almost class-balanced. ``reversed`` is
    N_max / n_j, normalised, which is q = -1.

    Parameters
    ----------
    counts : ndarray of shape (C,), int64
        n_j: training rows of each class.
    strategy : str
        A name in `STRATEGIES`, or ``q=NUMBER``.
    epoch, epochs : int
        t, counted from 0, and T; only ``progressive`` uses them.

    Raises
    ------
    InputError
        The strategy is unknown.

    References
    ----------
    Kang et al. (ICLR 2020), section 3, eq. 2 for ``progressive``; Zhou et al. (CVPR 2020) for
    ``reversed``.
    """
    check_strategy(strategy)
    if strategy == "progressive":
        t = epoch / epochs
        natural, balanced = class_probabilities(counts, 1), class_probabilities(counts, 0)
        return (1 - t) * natural + t * balanced
    if strategy == "reversed":
        return class_probabilities(counts, -1)
    q = _exponent(strategy)
    return class_probabilities(counts, 0.0 if q is None else q)


def permuted_rows(n_rows: int, generator: np.random.Generator, length: int) -> _Indices:
    """Return `length` rows in random order; none comes twice before every row has come once."""
    passes = -(-length // n_rows)
    return np.concatenate([generator.permutation(n_rows) for _ in range(passes)])[:length]


def drawn_rows(
    index: ClassIndex, probabilities: _Floats, generator: np.random.Generator, length: int
) -> _Indices:
    """Draw a class by its probability, then one of its rows, `length` times; return the rows.

    How often each class is drawn is one multinomial, and a shuffle makes the order: the same
    distribution as drawing one by one, without a search per draw.

    Parameters
    ----------
    index : ClassIndex
        The rows of each class.
    probabilities : ndarray of shape (C,), float64
        The probability of each class; they sum to 1.
    generator : numpy.random.Generator
        Makes the draws.
    length : int
        Their number.
    """
    times = generator.multinomial(length, probabilities)
    within = generator.random(length) * np.repeat(index.counts, times)
    rows = index.rows[np.repeat(index.starts, times) + within.astype(np.int64)]
    generator.shuffle(rows)
    return rows


def _mixed(keys: _Keys) -> _Keys:
    """Scramble 64-bit numbers: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _random_keys(seed: int, *parts: _Indices) -> _Keys:
    """Return a random 64-bit number for each element of the broadcast parts, a function of them."""
    keys = np.uint64(seed) * np.ones(1, dtype=np.uint64)
    for part in parts:
        keys = _mixed(
            keys + (part.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        )
    return keys


def _within_class(
    counts: _Indices,
    classes: _Indices,
    draws: _Indices,
    spans: tuple[_Indices, _Indices],
    seed: int,
) -> _Indices:
    """Return which of its images class `classes[i]` shows at its own draw number `draws[i]`.

    Each class runs through its images in shuffled cycles; `spans` are the first and last cycle
    (C,) that any draw touches. Only those are shuffled, all at once.
    """
    first, last = spans
    sizes = (last - first + 1) * counts
    starts = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(counts)), sizes)
    place = np.arange(len(owner)) - starts[owner]
    cycle, image = np.divmod(place, counts[owner])
    keys = _random_keys(seed, owner, cycle + first[owner], image)
    # The cycles stand one after another, so sorting by (cycle, key) shuffles each in its own place.
    new_cycle = np.cumsum(image == 0)
    shuffled = image[np.lexsort((keys, new_cycle))]
    picked: _Indices = shuffled[starts[classes] + draws - first[classes] * counts[classes]]
    return picked


def class_aware_draws(
    index: ClassIndex, seed: int, start: int, length: int, per_class: int = PER_CLASS
) -> _Indices:
    """Return draws `start` to `start + length` of the class-aware sampler of Kang et al.'s code.

    Classes come in shuffled cycles without replacement; each class drawn gives its next
    `per_class` images, which come in shuffled cycles of their own. Class cycle v is the v-th
    visit to every class, so any stretch of the endless stream follows from its position, and an
    epoch carries on where the one before it ended.

    Parameters
    ----------
    index : ClassIndex
        The rows of each class.
    seed : int
        Names the stream.
    start, length : int
        The stretch of it that is returned.
    per_class : int
        Consecutive images of a class; 4 in every configuration of their code.

    Returns
    -------
    ndarray of shape (length,), int64

    References
    ----------
    data/ClassAwareSampler.py in the code of Kang et al. (2020), after Shen et al., "Relay
    Backpropagation" (ECCV 2016), section 3.3.
    """
    present = np.flatnonzero(index.counts)
    counts = index.counts[present]
    draw, copy = np.divmod(np.arange(start, start + length), per_class)
    visit, slot = np.divmod(draw, len(present))
    visits = np.arange(visit[0], visit[-1] + 1)
    class_seed, image_seed = derive_seed(seed, "classes"), derive_seed(seed, "images")
    keys = _random_keys(class_seed, visits[:, None], np.arange(len(present))[None, :])
    classes = np.argsort(keys, axis=1)[visit - visits[0], slot]
    spans = (visits[0] * per_class // counts, (visits[-1] * per_class + per_class - 1) // counts)
    picked = _within_class(counts, classes, visit * per_class + copy, spans, image_seed)
    rows: _Indices = index.rows[index.starts[present][classes] + picked]
    return rows


def epoch_indices(
    labels: _Indices,
    strategy: str,
    seed: int,
    epoch: int,
    *,
    epochs: int = 1,
    length: int | None = None,
) -> _Indices:
    """Return the rows of one epoch in their order, (length,) int64.

    Parameters
    ----------
    labels : ndarray of shape (N,), int64
        The class of each row, from 0.
    strategy : str
        A name in `STRATEGIES`, or ``q=NUMBER``.
    seed, epoch : int
        The order is a function of these two alone; epochs count from 0.
    epochs : int
        The number of epochs T, which only ``progressive`` uses.
    length : int, optional
        Rows in an epoch; N by default.
    """
    check_strategy(strategy)
    length = len(labels) if length is None else length
    index = ClassIndex.of(labels)
    if strategy == "class-aware":
        return class_aware_draws(index, derive_seed(seed, "class-aware"), epoch * length, length)
    generator = numpy_generator(seed, "order", epoch)
    if _exponent(strategy) == 1.0:
        return permuted_rows(len(labels), generator, length)
    probabilities = strategy_probabilities(index.counts, strategy, epoch, epochs)
    return drawn_rows(index, probabilities, generator, length)


@dataclass(frozen=True)
class Draws:
    """The rows of every epoch under one sampler.

    Attributes
    ----------
    labels
        (N,) of the train split; an epoch has N draws whatever the sampler.
    sampler
        A sampling strategy, as `check_strategy` takes it.
    seed, epochs
        Of the training.
    balanced_from
        Deferred re-sampling (Cao et al., NeurIPS 2019): class-balanced from this epoch on.
    """

    labels: _Indices
    sampler: str
    seed: int
    epochs: int
    balanced_from: int | None = None

    def rows(self, epoch: int) -> _Indices:
        """Return the rows of an epoch, (N,)."""
        deferred = self.balanced_from is not None and epoch >= self.balanced_from
        sampler = "class" if deferred else self.sampler
        return epoch_indices(self.labels, sampler, self.seed, epoch, epochs=self.epochs)
