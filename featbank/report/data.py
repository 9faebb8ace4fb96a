"""Saved results → what the page and the figures show: one plain dict, aggregated and sized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import DamagedError
from featbank.report import classes, limits
from featbank.report.cells import Cell, cells_of
from featbank.report.confusion import top_confusions
from featbank.report.folder import Arrays, Results
from featbank.report.pack import UNITS, smallest, to_units
from featbank.report.provenance import provenance_rows
from featbank.report.reliability import reliability_bins
from featbank.results.alike import group_kinds, other_classes, unlike_notes
from featbank.results.numbers import GROUPS

__all__ = ["collect"]


def collect(results: Results) -> dict[str, Any]:
    """Return everything that is shown, arrays as numpy arrays, `notes` saying what was left out."""
    found = cells_of(results)
    sizes = limits.Limits.of(results.banks, found)
    sets = ClassSets()
    cells = [cell_data(results, cell, sets, sizes) for cell in found]
    banks = [bank_data(results, index, found, sets, sizes) for index in range(len(results.banks))]
    return {
        "settings": settings_of(results),
        "heads": results.compare["heads"],
        "banks": banks,
        "classes": [{**each, **drawn(each)} for each in sets.found],
        "cells": cells,
        "comparisons": list(comparisons(results, found)),
        "groups": [*groups_of_seeds(results, found)],
        "provenance": provenance_rows(results.banks),
        "notes": [*said_of(results), *sizes.notes()],
        "by_group": sizes.by_group,
    }


def said_of(results: Results) -> list[str]:
    """Return the comparison's notes, and what an older one does not say: how banks are unlike."""
    classes = other_classes(results.banks)
    unlike = [f"{classes}: only heads of one bank are compared"] if classes else []
    notes = [*results.compare.get("notes", []), *unlike, *unlike_notes(results.banks)]
    return list(dict.fromkeys(notes))


def groups_of_seeds(results: Results, found: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """Yield the groups, marked where a parameter was chosen on the reported split.

    Banks of other classes have no common metric, banks of other shot groups none of those; older
    comparisons have them.
    """
    heads, banks = results.compare["heads"], results.banks
    kinds = dict(zip([bank["name"] for bank in banks], group_kinds(banks), strict=True))
    seen = {(banks[at.bank]["name"], heads[at.head]) for at in found if at.chose_on_reported}
    classes = other_classes(banks)
    for group in results.compare.get("groups", []):
        members = group.get("banks", [])
        unlike = len({kinds.get(name) for name in members}) > 1
        if classes or (unlike and group["metric"] in GROUPS[:3]):
            group = group | {"mean": None, "std": None}
        touched = any((bank, group["head"]) in seen for bank in members)
        yield group | {"name": f"{group['name']} (REPORTED)"} if touched else group


def settings_of(results: Results) -> dict[str, Any]:
    """Return the comparison's settings; splits that it left open, as the banks have them."""
    given, first = results.compare["settings"], results.banks[0]
    return {**given, **{key: given.get(key) or first.get(key) for key in ("select", "report")}}


@dataclass
class ClassSets:
    """The different sets of classes among the banks; most comparisons have one."""

    found: list[dict[str, Any]] = field(default_factory=list)
    of_bank: dict[int, int] = field(default_factory=dict)

    def add(self, bank: int, record: dict[str, Any], labels: NDArray[np.int64]) -> None:
        """Remember the classes of a bank."""
        if bank in self.of_bank:
            return
        new = classes.class_set(record, labels)
        for index, known in enumerate(self.found):
            if all(np.array_equal(known[key], new[key]) for key in new):
                self.of_bank[bank] = index
                return
        self.of_bank[bank] = len(self.found)
        self.found.append(new)


def drawn(each: dict[str, Any]) -> dict[str, Any]:
    """Return curves over a set of classes, and its numbers in small types."""
    return {
        "counts": each["counts"].astype(np.uint32),
        "rows": smallest(each["rows"]),
        "size": classes.by_size(each["counts"], each["counts"]),
        "sampling": classes.sampling_curves(each["counts"]),
    }


def cell_data(
    results: Results, cell: Cell, sets: ClassSets, sizes: limits.Limits
) -> dict[str, Any]:
    """Return one head on one bank: its result, and what is drawn of it."""
    record = results.banks[cell.bank]
    arrays = results.evaluation(cell.key)
    labels, predicted = checked_labels(arrays, len(record["class_counts"]), cell)
    sets.add(cell.bank, record, labels)
    counts = np.asarray(record["class_counts"], dtype=np.int64)
    norms = arrays["weight_norms"]
    return {
        "bank": cell.bank,
        "head": cell.head,
        **cell.shown(),
        "dishonest": cell.chose_on_reported,
        "hits": smallest(classes.hits_by_class(labels, predicted, len(counts)))
        if sizes.by_class(cell)
        else None,
        "norms": classes.by_size(counts, norms) if np.isfinite(norms).all() else None,
        "confusion": small_confusion(top_confusions(labels, predicted, len(counts))),
        "reliability": reliability_bins(arrays["confidence"], labels == predicted),
        "plane": plane(arrays, record, sizes),
        "wrong": wrong_in_view(results, cell, labels, predicted, sizes),
    }


def checked_labels(
    arrays: Arrays, n_classes: int, cell: Cell
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return labels and predictions (n,), which must be class numbers."""
    labels, predicted = (arrays[name].astype(np.int64) for name in ("labels", "predicted"))
    both = np.concatenate([labels, predicted])
    if labels.shape != predicted.shape or not len(labels) or both.min() < 0:
        fault = "labels and predictions do not go together"
    elif both.max() >= n_classes:
        fault = f"class {both.max()} of {n_classes}"
    else:
        return labels, predicted
    message = f"cells/{cell.key}/evaluation.npz: {fault}; run featbank compare again"
    raise DamagedError(message)


def small_confusion(found: dict[str, Any]) -> dict[str, Any]:
    """Return a confusion matrix in small types."""
    return {name: smallest(values) for name, values in found.items()}


def plane(arrays: Arrays, record: dict[str, Any], sizes: limits.Limits) -> dict[str, Any]:
    """Return the head's regions: class of each grid point, or group where colours do not suffice.

    Row i of the grid is at the i-th step of the second axis, from below.
    """
    step = sizes.stride
    grid = arrays["plane_grid"][step // 2 :: step, step // 2 :: step].astype(np.int64)
    if sizes.by_group:
        grid = classes.groups_of(record)[grid].astype(np.int64)
    return {
        "size": grid.shape[0],
        "grid": smallest(grid.ravel()),
        "extent": [float(edge) for edge in arrays["plane_extent"]],
    }


def wrong_in_view(
    results: Results,
    cell: Cell,
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    sizes: limits.Limits,
) -> NDArray[np.uint8]:
    """Return, as bits, which of the sampled rows the head gets wrong."""
    view = results.view(results.banks[cell.bank]["slug"])
    rows = view["rows"][sizes.sampled(len(view["rows"]))]
    return np.packbits(labels[rows] != predicted[rows])


def bank_data(
    results: Results, index: int, found: Sequence[Cell], sets: ClassSets, sizes: limits.Limits
) -> dict[str, Any]:
    """Return one bank: what it is, its sample in the plane, and its exact curves."""
    record = results.banks[index]
    return {
        "name": shown_name(record, [cell for cell in found if cell.bank == index]),
        "slug": record["slug"],
        "digest": record.get("digest"),
        "recipe": record.get("recipe", {}),
        "classes": sets.of_bank.get(index, 0),
        "view": view_data(results, record["slug"], sizes),
        "curves": [
            curve_data(name, arrays, chosen_on_curve(name, index, found))
            for name, arrays in results.curves(record["slug"])
        ],
    }


def shown_name(record: dict[str, Any], cells: Sequence[Cell]) -> str:
    """Return a bank's name, marked where a head's parameter was chosen on what is reported."""
    seen = any(cell.chose_on_reported for cell in cells)
    return f"{record['name']} (REPORTED)" if seen else str(record["name"])


def chosen_on_curve(name: str, bank: int, found: Sequence[Cell]) -> float | None:
    """Return what was chosen for a head on its curve; a kept bias has another curve."""
    best = (
        cell.best
        for cell in found
        if (cell.bank, cell.entry["head"]) == (bank, name)
        and cell.entry.get("params", {}).get("bias") != "keep"
    )
    return next((value for value in best if value is not None), None)


def view_data(results: Results, slug: str, sizes: limits.Limits) -> dict[str, Any]:
    """Return the sample's labels, and its coordinates in steps of their extent."""
    view, tsne = results.view(slug), results.tsne(slug)
    kept = sizes.sampled(len(view["rows"]))
    return {
        "labels": smallest(view["labels"][kept]),
        "pca": scaled(view["features2d"][kept]),
        "tsne": None if tsne is None else scaled(tsne[kept]),
    }


def scaled(points: NDArray[np.float32]) -> dict[str, Any]:
    """Return points (n, 2) in whole steps of their extent, x and y one after the other."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (to_units(points[:, k], low[k], high[k]) for k in (0, 1))
    return {
        "extent": [float(edge) for k in (0, 1) for edge in (low[k], high[k])],
        "units": UNITS,
        "xy": np.concatenate([x, y]),
    }


def curve_data(name: str, arrays: Arrays, best: float | None) -> dict[str, Any]:
    """Return an exact curve: its parameter, the chosen value, and accuracies by split and group."""
    splits: dict[str, dict[str, Any]] = {}
    for key, values in arrays.items():
        split, _, group = key.rpartition("_")
        if split and group in ("all", "many", "medium", "few", "micro"):
            known = bool(np.isfinite(values).all())
            splits.setdefault(split, {})[group] = values.astype(np.float32) if known else None
    return {
        "head": name,
        "parameter": arrays["parameter"].astype(np.float32),
        "best": best,
        "splits": splits,
    }


def comparisons(results: Results, found: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """Yield the paired differences, their two ends as places in the list of cells."""
    heads = results.compare["heads"]
    place = {
        (results.banks[cell.bank]["name"], heads[cell.head]): index
        for index, cell in enumerate(found)
    }
    unlike = other_classes(results.banks) is not None  # as older comparisons could be
    for entry in results.compare.get("comparisons", []):
        if unlike and entry["a"]["bank"] != entry["b"]["bank"]:
            continue
        ends = [place.get((entry[end]["bank"], entry[end]["head"])) for end in ("a", "b")]
        if None not in ends:
            yield {**entry, "a": ends[0], "b": ends[1]}
