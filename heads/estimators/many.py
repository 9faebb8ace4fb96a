"""Many heads on the same rows: what can share a pass over them does."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from heads._arrays import full_precision
from heads.estimators.base import Head, as_before_on_failure

__all__ = ["fit_many"]

# Parameters of one stack at most: they take 1 GB in float32, and velocities and gradients as much
# again.
MOST = 1 << 28

H = TypeVar("H", bound=Head)


def fit_many(estimators: Iterable[H], X: Any, y: Any, sample_weight: Any = None) -> list[H]:
    """Fit heads on the same rows, each as it would fit alone.

    `ClassifierRetraining` and `LearnableWeightScaling` with `solver="sgd"` and the same `batch` go
    through one loop, whatever their lr, weight_decay, momentum, epochs, weighting, q and seed:
    weights are stacked, and heads that draw the same rows (the same seed, q and per_class) share
    the gather and the product of every step. A fit of fewer epochs takes the first batches of a
    longer one, as it does alone. All other heads are fitted one after another.

    Parameters
    ----------
    estimators : iterable of heads
        They are fitted in place.
    X, y : arrays of shape (n, D) and (n,)
        Features and labels, as `fit` takes them.
    sample_weight : array of shape (n,), optional
        Weights of the rows, as `fit` takes them.

    Returns
    -------
    list of heads
        Those given, in their order. They equal fits alone to the rounding of a matrix product
        whose columns are computed in other company: in float64 about 1e-12.

    Raises
    ------
    ValueError
        As `fit` of any of them raises.

    Examples
    --------
    >>> import numpy as np
    >>> from heads import ClassifierRetraining, fit_many
    >>> grid = [ClassifierRetraining("sgd", lr=lr) for lr in (0.05, 0.2)]
    >>> [head.n_steps_ for head in fit_many(grid, np.eye(4), [0, 0, 1, 1])]
    [200, 200]
    """
    given = list(estimators)
    for head in given:
        head._check_params()
    groups: dict[Hashable, list[H]] = {}
    for place, head in enumerate(given):
        company = head._company()
        groups.setdefault(place if company is None else company, []).append(head)
    for group in groups.values():
        _fit_group(group, X, y, sample_weight)
    return given


def _fit_group(group: Sequence[H], X: Any, y: Any, sample_weight: Any) -> None:
    """Fit heads that can go together, in stacks that memory has room for."""
    lead = group[0]
    if len(group) == 1:
        lead.fit(X, y, sample_weight)
        return
    with as_before_on_failure(group):
        train, classes = lead._training(X, y, sample_weight)
        seen = {name: value for name, value in vars(lead).items() if name.endswith("_in_")}
        for some in _cut(group, max(1, MOST // (len(classes) * (train.feats.shape[1] + 1)))):
            with full_precision():
                fitted = lead._fit_together(some, train)
            for head, values in zip(some, fitted, strict=True):
                for name, value in seen.items():
                    setattr(head, name, value)
                head._keep(values, classes, X)


def _cut(group: Sequence[H], most: int) -> Iterator[Sequence[H]]:
    """Cut a group into parts of at most so many heads."""
    for start in range(0, len(group), most):
        yield group[start : start + most]
