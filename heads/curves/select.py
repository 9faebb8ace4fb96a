"""Choosing a parameter on a validation split: the one place where a head sees one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from numpy.typing import ArrayLike

from heads.curves.sweep import widest_maximum
from heads.errors import HeadInputError
from heads.estimators._base import Head
from heads.metrics import evaluate

__all__ = ["Selection", "select"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Selection(Generic[Value]):
    """What was chosen, by which rule, and among what.

    Attributes
    ----------
    value
        The value chosen.
    head : Head
        The head fitted at it.
    metric, rule : str
    candidates : list of dict
        {"value", "metrics"} of every value, in the order given; metrics on the validation split.
    """

    value: Value
    head: Head
    metric: str
    rule: str
    candidates: list[dict[str, Any]]


def select(
    fit_at: Callable[[Value], Head],
    values: Sequence[Value],
    X_val: Any,
    y_val: Any,
    counts: ArrayLike,
    many_above: int = 100,
    few_below: int = 20,
    *,
    metric: str = "all",
) -> Selection[Value]:
    """Fit at every value and keep the best on the validation split.

    Parameters
    ----------
    fit_at : callable
        From a value to a head fitted on the training split.
    values : sequence
        In the order of the parameter: of runs of equally good neighbours the longest is taken,
        and its middle.
    X_val, y_val : arrays of shape (n, D) and (n,)
        Labels are those that the heads were fitted on.
    counts : array of shape (C,)
        Training rows of each class, in the order of the heads' `classes_`; or, where labels are
        numbers in [0, C) and some have no training rows, of each number. With `many_above` and
        `few_below` as in `heads.metrics.shot_groups`.
    metric : str
        One of the keys of `heads.metrics.evaluate`.

    Raises
    ------
    HeadInputError
        No values, an unknown metric or one that the validation split has no class for, or a
        validation label that is no class of the heads or the counts.
    """
    if not len(values):
        message = "there is no value to choose from"
        raise HeadInputError(message)
    fitted = [fit_at(value) for value in values]
    measured = [
        evaluate(y_val, head.predict(X_val), counts, many_above, few_below, classes=head.classes_)
        for head in fitted
    ]
    scores = [_score(metrics, metric) for metrics in measured]
    _, middle, _ = widest_maximum(range(len(values)), scores)
    candidates = [
        {"value": value, "metrics": metrics}
        for value, metrics in zip(values, measured, strict=True)
    ]
    return Selection(values[middle], fitted[middle], metric, "maximum", candidates)


def _score(metrics: dict[str, float | None], metric: str) -> float:
    if metric not in metrics:
        message = f"metric must be one of: {', '.join(metrics)}. Got {metric!r} instead."
        raise HeadInputError(message)
    score = metrics[metric]
    if score is None:
        message = f"there is nothing to choose by: no class of the split is in {metric!r}"
        raise HeadInputError(message)
    return score
