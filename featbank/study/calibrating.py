"""The temperature of a head, and how well its confidence agrees with its accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.results.records import Calibration
from featbank.study.arrays import BankArrays, on_host
from featbank.study.splits import Roles
from heads.errors import HeadInputError
from heads.metrics import GROUPS, calibration

__all__ = ["calibrate", "measured", "rowwise"]

# Scores that are held at a time.
_MOST_SCORES = 1 << 23

Floats = NDArray[np.float32]


def calibrate(arrays: BankArrays, head: Any, roles: Roles) -> str | None:
    """Fit a head's temperature on the split that chooses, and return that split's name.

    None, and the head is left as it is, where there is no such split, where it is reported too, and
    where it tells no temperature: see `Head.calibrate`.
    """
    if roles.select is None or roles.select in roles.report:
        return None
    try:
        head.calibrate(*arrays[roles.select])
    except HeadInputError:
        return None
    return roles.select


def measured(
    arrays: BankArrays, head: Any, split: str, predicted: Any, fitted_on: str | None
) -> tuple[Calibration, tuple[Floats, Floats]]:
    """Return a head's calibration on a split, and confidence and loss of each row, (n,) each.

    Parameters
    ----------
    arrays : BankArrays
    head : Head
        Fitted.
    split : str
        The split that is evaluated.
    predicted : ndarray of shape (n,)
        The head's labels of its rows.
    fitted_on : str or None
        The split on which the head's temperature was fitted; confidence and loss are those at that
        temperature, and at 1 where it is None.
    """
    X, y = arrays[split]
    labels = on_host(y)
    temperatures = (1.0,) if fitted_on is None else (1.0, head.temperature)
    rows = rowwise(head, X, labels, temperatures)
    plain, scaled = rows[0], rows[-1]
    right, group = predicted == labels, arrays.groups.of_class[labels]
    known = Calibration(
        ece=calibration.expected_calibration_error(plain[0], right),
        nll=mean_known(plain[1]),
        ece_groups=by_group(plain[0], right, group),
    )
    if fitted_on is not None:
        known = replace(
            known,
            split=fitted_on,
            temperature=head.temperature,
            ece_scaled=calibration.expected_calibration_error(scaled[0], right),
            nll_scaled=mean_known(scaled[1]),
            ece_scaled_groups=by_group(scaled[0], right, group),
        )
    return known, (scaled[0], scaled[1])


def by_group(confidence: Any, right: Any, group: Any) -> dict[str, float | None]:
    """Return the calibration error of the rows of each shot group; None where it has no row."""
    rows = {name: group == number for number, name in enumerate(GROUPS)}
    return {
        name: calibration.expected_calibration_error(confidence[mine], right[mine])
        if mine.any()
        else None
        for name, mine in rows.items()
    }


def rowwise(head: Any, X: Any, labels: Any, temperatures: Sequence[float]) -> Any:
    """Return confidence and loss of every row at some temperatures, from one product.

    Parameters
    ----------
    head : Head
        Fitted.
    X : array of shape (n, D)
        The features.
    labels : ndarray of shape (n,)
    temperatures : sequence of T floats
        What the head's scores are divided by.

    Returns
    -------
    ndarray of shape (T, 2, n), float32
        At each temperature the confidence, and the negative log-likelihood of the row's label in
        nats, which is NaN where the head lacks the row's class.
    """
    out = np.empty((len(temperatures), 2, len(labels)), dtype=np.float32)
    for rows in blocks(len(labels), len(head.classes_)):
        place, known = calibration.columns_of(head.classes_, labels[rows])
        scores = head.decision_function(X[rows])
        out[:, :, rows] = calibration.at_temperatures(scores, place, temperatures)
        out[:, 1, rows][:, ~known] = np.nan
    return out


def blocks(n_rows: int, n_classes: int) -> Iterator[slice]:
    """Cut rows so that a block's scores stay small."""
    step = max(1, _MOST_SCORES // n_classes)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def mean_known(values: Any) -> float | None:
    """Return the mean of what is no NaN."""
    known = values[~np.isnan(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else None
