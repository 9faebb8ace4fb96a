"""Losses of stage 1, slow and from the formulas: one row and one class at a time, float64."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(z: Sequence[float]) -> list[float]:
    top = max(z)
    total = sum(math.exp(each - top) for each in z)
    return [math.exp(each - top) / total for each in z]


def cross_entropy(z: Sequence[float], y: int, smoothing: float = 0.0) -> float:
    p, n_classes = softmax(z), len(z)
    q = [smoothing / n_classes + (1 - smoothing) * (c == y) for c in range(n_classes)]
    return -sum(q[c] * math.log(p[c]) for c in range(n_classes))


def focal(z: Sequence[float], y: int, gamma: float) -> float:
    total = 0.0
    for c, each in enumerate(z):
        p = 1 / (1 + math.exp(-each if c == y else each))
        total -= (1 - p) ** gamma * math.log(p)
    return total


def softmax_focal(z: Sequence[float], y: int, gamma: float) -> float:
    p = softmax(z)[y]
    return -((1 - p) ** gamma) * math.log(p)


def ldam(z: Sequence[float], y: int, counts: Sequence[int], largest: float, scale: float) -> float:
    factor = largest / max(n**-0.25 for n in counts)
    margin = factor / counts[y] ** 0.25
    return cross_entropy([scale * (each - margin * (c == y)) for c, each in enumerate(z)], y)


def balanced_softmax(z: Sequence[float], y: int, counts: Sequence[int]) -> float:
    total = sum(n * math.exp(each) for n, each in zip(counts, z, strict=True))
    return -math.log(counts[y] * math.exp(z[y]) / total)


def logit_adjusted(z: Sequence[float], y: int, counts: Sequence[int], tau: float) -> float:
    prior = [n / sum(counts) for n in counts]
    total = sum(pi**tau * math.exp(each) for pi, each in zip(prior, z, strict=True))
    return -math.log(prior[y] ** tau * math.exp(z[y]) / total)


def effective_number(counts: Sequence[int], beta: float) -> Array:
    """Return the weights that sum to C; E_n as the sum 1 + beta + … + beta^(n - 1)."""
    weights = np.array([1 / sum(beta**k for k in range(n)) for n in counts])
    return weights * len(counts) / weights.sum()
