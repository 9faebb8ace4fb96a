"""The best of C centroids for each query, which is the same whatever engine searches.

Scores are either the inner product (`inner`), or minus the squared Euclidean distance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heads._checks import refuse_overflow

__all__ = ["Exactly", "best_centroid", "centroid_scores", "torch_searcher"]

Searcher = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
# From the numbers of some queries to those queries and the centroids, both in float64.
Exactly = Callable[[Tensor], tuple[Tensor, Tensor]]


def centroid_scores(queries: Tensor, centroids: Tensor, *, inner: bool, exactly: Exactly) -> Tensor:
    """Return the scores (n, C) of every query with every centroid.

    float32 scores of rows whose best two are a near tie are computed in float64 and rounded.

    Parameters
    ----------
    queries, centroids : Tensors of shape (n, D) and (C, D)
    inner : bool
        Score by q . c if true, else by -||q - c||^2.
    exactly : callable
        From the numbers (k,) of some queries to those queries and the centroids, both in float64.
    """
    scores = refuse_overflow(_plain_scores(queries, centroids, inner))
    if scores.dtype == torch.float32:
        _, best, second = _best_two(scores)
        near = (best - second <= _margin(queries, centroids, inner)).nonzero().squeeze(1)
        if len(near):
            scores[near] = _plain_scores(*exactly(near), inner).float()
    return scores


def torch_searcher(centroids: Tensor, *, inner: bool) -> Searcher:
    """Return a function from queries (n, D) to best class and best two scores, (n,) each."""
    return lambda queries: _best_two(refuse_overflow(_plain_scores(queries, centroids, inner)))


def best_centroid(
    queries: Tensor, centroids: Tensor, search: Searcher, *, inner: bool, exactly: Exactly
) -> Tensor:
    """Return the class (n,) with the best score in exact arithmetic, the first among equals.

    Parameters
    ----------
    queries, centroids : Tensors of shape (n, D) and (C, D), float32
    search : callable
        Gives each query's best class, its score and the runner-up's, in float32.
    inner : bool
    exactly : callable
        From the numbers (k,) of near ties to those queries and the centroids, both in float64; a
        norm that was rounded to float32 may have tied them.
    """
    chosen, best, second = search(queries)
    near = (best - second <= _margin(queries, centroids, inner)).nonzero().squeeze(1)
    if len(near):
        chosen[near] = _first_best(*exactly(near), inner)
    return chosen


def _plain_scores(queries: Tensor, centroids: Tensor, inner: bool) -> Tensor:
    """Return the scores (n, C) as the dtype rounds them."""
    if inner:
        return queries @ centroids.T
    # -||q - c||^2 = 2 q.c - ||c||^2 - ||q||^2, one product instead of n C D differences.
    lengths = centroids.square().sum(dim=1)
    scores = torch.addmm(lengths, queries, centroids.T, beta=-1, alpha=2)
    return scores.sub_(queries.square().sum(dim=1, keepdim=True))


def _best_two(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best class, its score and the runner-up's, (n,) each, of scores (n, C)."""
    # Two maxima, the first hidden in between, are five times faster than topk on a CPU.
    best, chosen = scores.max(dim=1, keepdim=True)
    scores.scatter_(1, chosen, -torch.inf)
    second = scores.amax(dim=1)
    scores.scatter_(1, chosen, best)
    return chosen.squeeze(1), best.squeeze(1), second


def _margin(queries: Tensor, centroids: Tensor, inner: bool) -> Tensor:
    """Return (n,): how much two scores of a query can differ by rounding alone.

    A sum of D products in any order is off by at most D u ||q|| ||c||, u half the machine epsilon
    (Higham, "Accuracy and Stability of Numerical Algorithms", equation 3.5); 4 u more covers the
    few operations around it, and the two scores may err in opposite directions.
    """
    lengths = torch.linalg.vector_norm(queries, dim=1)
    longest = torch.linalg.vector_norm(centroids, dim=1).max()
    size = lengths * longest if inner else (lengths + longest).square()
    return size * ((queries.shape[1] + 4) * torch.finfo(queries.dtype).eps)


def _first_best(queries: Tensor, centroids: Tensor, inner: bool) -> Tensor:
    """Return the first class (n,) whose score is the best but for rounding."""
    scores = _plain_scores(queries, centroids, inner)
    floor = scores.amax(dim=1) - _margin(queries, centroids, inner)
    return (scores >= floor.unsqueeze(1)).byte().argmax(dim=1)
