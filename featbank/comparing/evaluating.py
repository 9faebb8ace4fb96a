"""One head on one bank, fitted and measured: what a cell of a comparison holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featbank.results.cell import CellRecord
from featbank.results.plain import plain
from featbank.results.records import Calibration, Metrics
from featbank.results.saved import arrays_bytes
from featbank.runtime.progress import Reporter
from featbank.runtime.spec import Spec
from featbank.study.arrays import BankArrays, on_host
from featbank.study.calibrating import calibrate, measured
from featbank.study.choosing import TAU_RANGE, Job, exact_curve, timed_fit
from featbank.study.fitting import choice_of, origin
from featbank.study.splits import Roles
from heads import metrics, specs
from heads.metrics import projection as plane

__all__ = ["CURVES", "curve_arrays", "fit_cell", "view_arrays"]

CURVES = ("tau", "logit-adjust")
VIEW_ROWS = 2000
GRID = 64
# What a head's file says of how it was fitted, of the cell's record.
_IN_HEAD = (
    "head", "spec", "params", "selected_on", "selection", "split", "defaults", "ends",
)  # fmt: skip
# Beyond the outermost point of a view, in parts of its width.
MARGIN = 0.05


def view_arrays(arrays: BankArrays, split: str) -> dict[str, Any]:
    """Return a sample of a split in its plane of greatest variance, and the plane.

    The sample is always the same: cells of any seed are drawn in this plane.
    """
    X, y = (on_host(part) for part in arrays[split])
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
) -> tuple[CellRecord, dict[str, Any]]:
    """Fit and measure one head; return the cell's record, and its files by name.

    Parameters
    ----------
    arrays : BankArrays
    spec : Spec
        The head.
    roles : Roles
        The split that chooses, and the one that is reported.
    seed : int
        Seed of every draw.
    view : mapping
        What `view_arrays` returns: the plane over which the head's decisions are drawn.
    reporter : Reporter
        Is told what takes time.
    """
    split = roles.report[0]
    fitted, seconds = timed_fit(Job(arrays, roles, seed, reporter), spec)
    head, chosen = fitted.head, choice_of(spec, fitted)
    accuracies, calibrated, found = evaluation(arrays, head, split, roles, view)
    record = CellRecord(
        head=spec.name,
        spec=str(spec),
        params=specs.describe(head),
        selected_on=roles.selected_on(chosen=fitted.selection is not None),
        selection=fitted.selection,
        split=split,
        defaults=chosen.defaults,
        ends=chosen.ends,
        metrics=accuracies,
        calibration=calibrated,
        fit_seconds=round(seconds, 4),
        candidates=fitted.candidates,
    )
    entry = {name: each for name, each in record.to_json().items() if name in _IN_HEAD}
    metadata = {**plain(origin(arrays.bank)), "bank": arrays.path, **entry}
    files = {
        "evaluation.npz": arrays_bytes(found),
        "head.head": lambda path: head.save(path, metadata=metadata),
    }
    return record, files


def evaluation(
    arrays: BankArrays, head: Any, split: str, roles: Roles, view: Mapping[str, Any]
) -> tuple[Metrics, Calibration, dict[str, Any]]:
    """Calibrate a fitted head; return its metrics, and what it says of every row.

    Parameters
    ----------
    arrays : BankArrays
    head : Head
        Fitted.
    split : str
        The split that is evaluated.
    roles : Roles
        Say on which split the temperature is fitted.
    view : mapping
        As in `fit_cell`.
    """
    X, y = arrays[split]
    labels, predicted = on_host(y), on_host(head.predict(X))
    fitted_on = calibrate(arrays, head, roles)
    calibrated, (confidence, nll) = measured(arrays, head, split, predicted, fitted_on)
    found = metrics.evaluate(labels, predicted, arrays.groups)
    return (
        found,
        calibrated,
        {
            "labels": labels.astype(np.int32),
            "predicted": predicted.astype(np.int32),
            "confidence": confidence,
            "nll": nll,
            "weight_norms": weight_norms(head, len(arrays.bank.class_counts)),
            "plane_grid": decided(arrays, head, view),
            "plane_extent": view["plane_extent"],
        },
    )


def weight_norms(head: Any, n_classes: int) -> Any:
    """Return the norm of each class's weight (C,), NaN where the head is not linear."""
    norms = np.full(n_classes, np.nan, dtype=np.float32)
    if hasattr(head, "linear"):
        norms[head.classes_] = np.linalg.norm(on_host(head.linear()[0]), axis=1)
    return norms


def decided(arrays: BankArrays, head: Any, view: Mapping[str, Any]) -> Any:
    """Return the class that a head gives to each point of a grid over a view's plane."""
    points = plane.grid_points(view["plane_extent"], GRID)
    back = (view["mean"] + points @ view["basis"].T).astype(np.float32)
    predicted = on_host(head.predict(arrays.place(back)))
    small = np.int16 if len(arrays.bank.class_counts) < 1 << 15 else np.int32
    return predicted.astype(small).reshape(GRID, GRID)
