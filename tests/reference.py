"""Slow versions written from the equations: numpy, float64, loops; nothing here imports heads."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def unit(vector: Array) -> Array:
    norm = np.sqrt(sum(float(v) ** 2 for v in vector))
    return vector / norm if norm > 0 else np.zeros_like(vector)


def tau_weight(W: Array, tau: float) -> Array:
    rows = []
    for w in np.asarray(W, dtype=np.float64):
        norm = np.sqrt((w**2).sum())
        rows.append(w / norm**tau if norm > 0 else w)
    return np.array(rows)


def tau_scores(X: Array, W: Array, tau: float, b: Array | None = None) -> Array:
    scores = np.asarray(X, dtype=np.float64) @ tau_weight(W, tau).T
    return scores if b is None else scores + b


def lws_scores(X: Array, W: Array, b: Array, s: Array) -> Array:
    X, W, b, s = (np.asarray(part, dtype=np.float64) for part in (X, W, b, s))
    return np.array([[s[c] * (W[c] @ x + b[c]) for c in range(len(W))] for x in X])


def ncm_transform(X: Array, name: str, train_mean: Array) -> Array:
    X = np.asarray(X, dtype=np.float64)
    if name == "un":
        return X
    return np.array([unit(x - train_mean if name == "cl2n" else x) for x in X])


def ncm_scores(
    X: Array, y: Sequence[int], X_test: Array, transform: str, metric: str, centroids: str
) -> Array:
    """Scores (n, C) of X_test: the larger the nearer."""
    X, labels = np.asarray(X, dtype=np.float64), np.asarray(y)
    mean = X.mean(axis=0)
    train, test = ncm_transform(X, transform, mean), ncm_transform(X_test, transform, mean)
    means = [train[labels == c].mean(axis=0) for c in np.unique(labels)]
    means = [unit(m) for m in means] if centroids == "unit" else means
    score = {
        "l2": lambda x, m: -((x - m) ** 2).sum(),
        "cosine": lambda x, m: unit(x) @ unit(m),
        "dot": lambda x, m: x @ m,
    }[metric]
    return np.array([[score(x, m) for m in means] for x in test])


def softmax_objective(
    X: Array, y: Sequence[int], W: Array, b: Array, weight_decay: float
) -> tuple[float, Array, Array]:
    """Mean cross-entropy plus (weight_decay / 2) ||(W, b)||^2, and its gradient."""
    loss, dW, db = 0.0, np.zeros(W.shape), np.zeros(b.shape)
    for x, label in zip(np.asarray(X, dtype=np.float64), y, strict=True):
        scores = W @ x + b
        scores = scores - scores.max()
        p = np.exp(scores) / np.exp(scores).sum()
        loss -= np.log(p[label])
        p[label] -= 1
        dW += np.outer(p, x)
        db += p
    n = len(X)
    penalty = weight_decay / 2 * ((W**2).sum() + (b**2).sum())
    return loss / n + penalty, dW / n + weight_decay * W, db / n + weight_decay * b


def check_class_aware(rows: Array, y: Array, per_class: int) -> None:
    """Assert what the class-aware sampler promises of a whole number of class draws."""
    y = np.asarray(y)
    present = np.unique(y)
    handfuls = y[rows].reshape(-1, per_class)
    assert (handfuls == handfuls[:, :1]).all(), "a handful mixes classes"
    order = handfuls[:, 0]
    for start in range(0, len(order), len(present)):
        cycle = order[start : start + len(present)]
        assert len(set(cycle.tolist())) == len(cycle), "a class came twice in one cycle"
    for c in present:
        members = np.flatnonzero(y == c)
        drawn = rows[y[rows] == c]
        for start in range(0, len(drawn), len(members)):
            shuffle = drawn[start : start + len(members)]
            assert len(set(shuffle.tolist())) == len(shuffle), "a row came twice in one shuffle"


def shot_metrics(
    y: Sequence[int], predicted: Sequence[int], counts: Sequence[int], many: int, few: int
) -> dict[str, float | None]:
    per_class: dict[int, float] = {}
    for c in range(len(counts)):
        mine = [p == c for t, p in zip(y, predicted, strict=True) if t == c]
        if mine:
            per_class[c] = sum(mine) / len(mine)
    groups = {
        "all": list(per_class),
        "many": [c for c in per_class if counts[c] > many],
        "medium": [c for c in per_class if few <= counts[c] <= many],
        "few": [c for c in per_class if counts[c] < few],
    }
    return {
        name: sum(per_class[c] for c in members) / len(members) if members else None
        for name, members in groups.items()
    }


def _first_winner(log_or_score: Array, slack: Array) -> NDArray[np.int64]:
    best = log_or_score.max(axis=1, keepdims=True)
    return (log_or_score >= best - slack).argmax(axis=1)


def tau_winners(X: Array, W: Array, tau: float) -> NDArray[np.int64]:
    """Predictions of tau-norm, scores equal to 1e-11 (relative) counting as equal."""
    W = np.asarray(W, dtype=np.float64)
    norms = np.sqrt((W**2).sum(axis=1))
    # The products first: of small whole numbers they are exact, and so are their zeros.
    scores = (np.asarray(X, dtype=np.float64) @ W.T) * np.where(norms > 0, norms, 1) ** -tau
    return _first_winner(scores, 1e-11 * np.abs(scores.max(axis=1, keepdims=True)))


def adjusted_winners(X: Array, W: Array, b: Array, counts: Array, tau: float) -> NDArray[np.int64]:
    """Predictions of post-hoc logit adjustment, scores equal to 1e-11 counting as equal."""
    X, W, b = (np.asarray(part, dtype=np.float64) for part in (X, W, b))
    log_pi = np.log(counts / np.sum(counts))
    scores = X @ W.T + b - tau * log_pi
    return _first_winner(scores, np.full((len(X), 1), 1e-11))


def weighted_softmax(
    X: Array, y: Sequence[int], W: Array, b: Array, weights: Array, shift: Array | float
) -> tuple[float, Array, Array]:
    """Sum of weights[y] times cross-entropy of X W^T + b + shift, and its gradient."""
    loss, dW, db = 0.0, np.zeros(W.shape), np.zeros(b.shape)
    for x, label in zip(np.asarray(X, dtype=np.float64), y, strict=True):
        scores = W @ x + b + shift
        scores = scores - scores.max()
        p = np.exp(scores) / np.exp(scores).sum()
        loss -= weights[label] * np.log(p[label])
        p[label] -= 1
        dW += weights[label] * np.outer(p, x)
        db += weights[label] * p
    return loss, dW, db


def class_shares(counts: Sequence[int], q: float, weighting: str, beta: float) -> Array:
    """Each class's part of the expected loss: p_j of the sampler times the loss's factor."""
    drawn = [float(n) ** q if n else 0.0 for n in counts]
    factors = {
        "none": [1.0 for n in counts],
        "class-balanced": [1 / n if n else 0.0 for n in counts],
        "effective": [(1 - beta) / (1 - beta**n) if n else 0.0 for n in counts],
    }[weighting]
    parts = [p * f for p, f in zip(drawn, factors, strict=True)]
    return np.array(parts) / sum(parts)


def ece(confidence: Array, right: Array, bins: int) -> float:
    """Guo et al. (2017), eq. 3, bin by bin; the first bin holds 0 too."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        inside |= (m == 1) & (confidence == 0)
        if inside.any():
            total += inside.sum() * abs(right[inside].mean() - confidence[inside].mean())
    return total / len(confidence)
