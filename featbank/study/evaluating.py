"""One head on one bank, fitted and measured: what a cell of a comparison holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from featbank.results.saved import arrays_bytes
from featbank.runtime.progress import Reporter
from featbank.runtime.spec import Spec
from featbank.study.choosing import defaults_of, ends_of, timed_fit
from featbank.study.fitting import TAU_RANGE, BankArrays, as_numpy, exact_curve, origin
from featbank.study.splits import Roles
from heads import metrics, specs
from heads.metrics import calibration
from heads.metrics import projection as plane

__all__ = ["CURVES", "curve_arrays", "fit_cell", "view_arrays"]

CURVES = ("tau", "logit-adjust")
VIEW_ROWS = 2000
GRID = 64
# Beyond the outermost point of a view, in parts of its width.
MARGIN = 0.05
# Scores that are held at a time.
_MOST_SCORES = 1 << 23


def view_arrays(arrays: BankArrays, split: str) -> dict[str, Any]:
    """Return a sample of a split in its plane of greatest variance, and the plane.

    The sample is always the same: cells of any seed are drawn in this plane.
    """
    X, y = (as_numpy(part) for part in arrays[split])
    rows = sample_rows(y, VIEW_ROWS)
    mean, basis = plane.principal_plane(X[rows])
    flat = (X[rows] - mean) @ basis
    low, high = flat.min(axis=0), flat.max(axis=0)
    room = MARGIN * np.maximum(high - low, np.float32(1e-6))
    ends = np.stack([low - room, high + room], axis=1)
    return {
        "features2d": flat.astype(np.float32),
        "labels": y[rows].astype(np.int32),
        "mean": mean,
        "basis": basis,
        "rows": rows,
        "plane_extent": ends.ravel().astype(np.float32),
    }


def sample_rows(labels: Any, most: int, seed: int = 0) -> Any:
    """Return at most so many rows, increasing, every class by its share."""
    if len(labels) <= most:
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    total = np.bincount(labels)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(total) - total, total)
    share = (place + 0.5) / np.repeat(total, total)
    return np.sort(order[np.argsort(share, kind="stable")[:most]])


def curve_arrays(arrays: BankArrays, head: str, splits: Sequence[str]) -> dict[str, Any]:
    """Return the exact curve of a head on some splits, every 0.01 of its range."""
    low, high = TAU_RANGE
    at = np.round(np.linspace(low, high, round((high - low) / 0.01) + 1), 10)
    out: dict[str, Any] = {"parameter": at}
    for split in splits:
        found = exact_curve(arrays, head, split, TAU_RANGE)
        points = [found.at(float(value)) for value in at]
        for name in points[0]:
            values = [np.nan if point[name] is None else point[name] for point in points]
            out[f"{split}_{name}"] = np.array(values, dtype=np.float32)
    return out


def fit_cell(
    arrays: BankArrays,
    spec: Spec,
    roles: Roles,
    seed: int,
    view: Mapping[str, Any],
    reporter: Reporter,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit and measure; return the cell's record and its files.

    The record is an entry of schema 1, with the points that were tried and the calibration.
    """
    split = roles.report[0]
    head, chosen, tried, seconds = timed_fit(arrays, spec, roles, seed, reporter)
    entry = {
        "head": spec.name,
        "spec": str(spec),
        "params": specs.describe(head),
        "selected_on": roles.selected_on(chosen=chosen is not None),
        "selection": chosen,
        "split": split,
        "defaults": defaults_of(spec, head, chosen),
        "ends": ends_of(chosen, tried),
    }
    measured, found = evaluation(arrays, head, split, roles.select, view)
    metadata = {**origin(arrays.bank), "bank": arrays.path, **entry}
    files = {
        "evaluation.npz": arrays_bytes(found),
        "head.head": lambda path: head.save(path, metadata=metadata),
    }
    return {**entry, **measured, "fit_seconds": round(seconds, 4), "candidates": tried}, files


def evaluation(
    arrays: BankArrays, head: Any, split: str, select: str | None, view: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return metrics and calibration of a fitted head, and what it says of every row."""
    X, y = arrays[split]
    labels, predicted = as_numpy(y), as_numpy(head.predict(X))
    temperature = None
    if select is not None and select != split:
        temperature = temperature_of(head, *arrays[select])
    plain, scaled = rowwise(head, X, labels, (1.0, temperature or 1.0))
    right = predicted == labels
    record = {
        "metrics": metrics.evaluate(labels, predicted, arrays.groups),
        "calibration": {
            "split": None if temperature is None else select,
            "ece": calibration.expected_calibration_error(plain[0], right),
            "nll": mean_known(plain[1]),
            "temperature": temperature,
            "ece_scaled": None
            if temperature is None
            else calibration.expected_calibration_error(scaled[0], right),
            "nll_scaled": None if temperature is None else mean_known(scaled[1]),
        },
    }
    return record, {
        "labels": labels.astype(np.int32),
        "predicted": predicted.astype(np.int32),
        "confidence": scaled[0],
        "nll": scaled[1],
        "weight_norms": weight_norms(head, len(arrays.bank.class_counts)),
        "plane_grid": decided(arrays, head, view),
        "plane_extent": view["plane_extent"],
    }


def rowwise(head: Any, X: Any, labels: Any, temperatures: Sequence[float]) -> Any:
    """Return confidence and NLL of every row (2, n) at each temperature, from one product.

    The NLL is NaN where the head lacks the row's class.
    """
    out = np.empty((len(temperatures), 2, len(labels)), dtype=np.float32)
    for rows in blocks(len(labels), len(head.classes_)):
        place, known = columns_of(head, labels[rows])
        scores = head.decision_function(X[rows])
        for index, temperature in enumerate(temperatures):
            out[index, :, rows] = calibration.confidence_and_nll(scores, place, temperature)
        out[:, 1, rows][:, ~known] = np.nan
    return out


def temperature_of(head: Any, X: Any, y: Any) -> float | None:
    """Return the temperature fitted on at most as many rows, evenly spaced, as fit in memory."""
    labels = as_numpy(y)
    step = -(-len(labels) * len(head.classes_) // _MOST_SCORES)
    place, known = columns_of(head, labels[::step])
    if not known.any():
        return None
    scores = head.decision_function(X[::step])
    return calibration.fit_temperature(scores[known], place[known])


def columns_of(head: Any, labels: Any) -> tuple[Any, Any]:
    """Return each label's column among the head's classes, and whether it has one."""
    place = np.minimum(np.searchsorted(head.classes_, labels), len(head.classes_) - 1)
    return place, head.classes_[place] == labels


def blocks(n_rows: int, n_classes: int) -> Iterator[slice]:
    """Cut rows so that a block's scores stay small."""
    step = max(1, _MOST_SCORES // n_classes)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def mean_known(values: Any) -> float | None:
    """Return the mean of what is no NaN."""
    known = values[~np.isnan(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else None


def weight_norms(head: Any, n_classes: int) -> Any:
    """Return the norm of each class's weight (C,), NaN where the head is not linear."""
    norms = np.full(n_classes, np.nan, dtype=np.float32)
    if hasattr(head, "linear"):
        norms[head.classes_] = np.linalg.norm(as_numpy(head.linear()[0]), axis=1)
    return norms


def decided(arrays: BankArrays, head: Any, view: Mapping[str, Any]) -> Any:
    """Return the class that a head gives to each point of a grid over a view's plane."""
    points = plane.grid_points(view["plane_extent"], GRID)
    back = (view["mean"] + points @ view["basis"].T).astype(np.float32)
    predicted = as_numpy(head.predict(arrays.place(back)))
    small = np.int16 if len(arrays.bank.class_counts) < 1 << 15 else np.int32
    return predicted.astype(small).reshape(GRID, GRID)
