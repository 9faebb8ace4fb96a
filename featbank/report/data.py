"""Saved results → what the page and the figures show: one record, aggregated and sized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featbank.errors import DamagedError
from featbank.report import classes
from featbank.report.cells import Cell, cells_of
from featbank.report.classes import ClassSet
from featbank.report.confusion import top_confusions
from featbank.report.folder import Arrays, Results
from featbank.report.gallery import Gallery
from featbank.report.limits import Limits
from featbank.report.pack import UNITS, smallest, to_units
from featbank.report.page_data import (
    PageBank,
    PageCell,
    PageCurve,
    PageData,
    PageDifference,
    PageView,
    Plane,
    Points,
)
from featbank.report.provenance import provenance_rows
from featbank.report.reliability import reliability_bins
from featbank.results.alike import group_kinds, other_classes, unlike_notes
from featbank.results.cell import BankRecord
from featbank.results.compared import CellName, ComparisonSettings, SeedGroup
from featbank.results.numbers import GROUPS

__all__ = ["collect"]


def collect(folder: Path, gallery: Gallery | None = None) -> PageData:
    """Return everything that is shown of the comparison in a folder; `notes` say what is not.

    `gallery` holds the mistakes of its heads, where they were asked for.

    Raises
    ------
    MissingFileError
        The folder holds no comparison.
    DamagedError
        What it holds is not what ``featbank compare`` writes.
    """
    results = Results(folder)
    found = cells_of(results)
    sizes, sets = Limits.of(results.banks, found), ClassSets()
    cells = [cell_data(results, cell, sets, sizes) for cell in found]
    banks = [bank_data(results, index, found, sets, sizes) for index in range(len(results.banks))]
    return PageData(
        settings=settings_of(results),
        heads=results.compare.heads,
        banks=tuple(banks),
        classes=tuple(sets.found),
        cells=tuple(cells),
        comparisons=tuple(comparisons(results, found)),
        groups=tuple(groups_of_seeds(results, found)),
        provenance=tuple(provenance_rows(results.banks)),
        notes=(*said_of(results), *sizes.notes()),
        by_group=sizes.by_group,
        gallery=gallery,
    )


def said_of(results: Results) -> list[str]:
    """Return the comparison's notes, and what an older one does not say: how banks are unlike."""
    difference = other_classes(results.banks)
    unlike = [f"{difference}: only heads of one bank are compared"] if difference else []
    notes = [*results.compare.notes, *unlike, *unlike_notes(results.banks)]
    return list(dict.fromkeys(notes))


def groups_of_seeds(results: Results, found: Sequence[Cell]) -> Iterator[SeedGroup]:
    """Yield the groups, marked where a parameter was chosen on the reported split.

    Banks of other classes have no common metric, banks of other shot groups none of those; older
    comparisons have them.
    """
    heads, banks = results.compare.heads, results.banks
    kinds = dict(zip([bank.name for bank in banks], group_kinds(banks), strict=True))
    seen = {(banks[at.bank].name, heads[at.head]) for at in found if at.chose_on_reported}
    mixed = other_classes(banks) is not None
    for group in results.compare.groups:
        unlike = len({kinds.get(name) for name in group.banks}) > 1
        if mixed or (unlike and group.metric in GROUPS[:3]):
            group = replace(group, mean=None, std=None)
        touched = any((bank, group.head) in seen for bank in group.banks)
        yield replace(group, name=f"{group.name} (REPORTED)") if touched else group


def settings_of(results: Results) -> ComparisonSettings:
    """Return the comparison's settings; splits that it left open, as the banks have them."""
    given, first = results.compare.settings, results.banks[0]
    return replace(given, select=given.select or first.select, report=given.report or first.report)


@dataclass
class ClassSets:
    """The different sets of classes among the banks; most comparisons have one."""

    found: list[ClassSet] = field(default_factory=list)
    of_bank: dict[int, int] = field(default_factory=dict)

    def add(self, bank: int, record: BankRecord, labels: NDArray[np.int64]) -> None:
        """Remember the classes of a bank."""
        if bank in self.of_bank:
            return
        new = classes.class_set(record, labels)
        same = (index for index, known in enumerate(self.found) if known.same(new))
        self.of_bank[bank] = next(same, len(self.found))
        if self.of_bank[bank] == len(self.found):
            self.found.append(new)


def cell_data(results: Results, cell: Cell, sets: ClassSets, sizes: Limits) -> PageCell:
    """Return one head on one bank: its result, and what is drawn of it.

    Parameters
    ----------
    results : Results
        The folder of the comparison.
    cell : Cell
        The result.
    sets : ClassSets
        The sets of classes among the banks, to which that of the cell's bank is added.
    sizes : Limits
        How much goes into the page.
    """
    record, entry = results.banks[cell.bank], cell.entry
    arrays = results.evaluation(cell.key)
    labels, predicted = checked_labels(arrays, len(record.class_counts), cell)
    sets.add(cell.bank, record, labels)
    counts = np.asarray(record.class_counts, dtype=np.int64)
    norms = arrays["weight_norms"]
    hits = classes.hits_by_class(labels, predicted, len(counts))
    return PageCell(
        bank=cell.bank,
        head=cell.head,
        metrics=cell.metrics,
        ci95=entry.ci95,
        params=entry.params,
        selected_on=entry.selected_on,
        selection=entry.selection,
        seconds=entry.fit_seconds,
        calibration=entry.calibration,
        dishonest=cell.chose_on_reported,
        hits=smallest(hits) if sizes.by_class(cell) else None,
        norms=classes.by_size(counts, norms) if np.isfinite(norms).all() else None,
        confusion=top_confusions(labels, predicted, len(counts)),
        reliability=reliability_bins(arrays["confidence"], labels == predicted),
        plane=plane(arrays, record, sizes),
        wrong=wrong_in_view(results, cell, labels != predicted, sizes),
    )


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


def plane(arrays: Arrays, record: BankRecord, sizes: Limits) -> Plane:
    """Return what a head says of each grid point: its class, or its shot group in large data."""
    step = sizes.stride
    grid = arrays["plane_grid"][step // 2 :: step, step // 2 :: step].astype(np.int64)
    if sizes.by_group:
        grid = classes.groups_of(record)[grid].astype(np.int64)
    extent = tuple(float(edge) for edge in arrays["plane_extent"])
    return Plane(size=grid.shape[0], grid=smallest(grid.ravel()), extent=extent)


def wrong_in_view(
    results: Results, cell: Cell, wrong: NDArray[np.bool_], sizes: Limits
) -> NDArray[np.uint8]:
    """Return, as bits, which of the sampled rows the head gets wrong.

    Parameters
    ----------
    results, cell, sizes
        As in `cell_data`.
    wrong : ndarray of shape (n,), bool
        Which of all rows the head gets wrong.

    Returns
    -------
    ndarray of bytes
        Eight rows a byte, the first row in the highest bit.
    """
    view = results.view(results.banks[cell.bank].slug)
    rows = view["rows"][sizes.sampled(len(view["rows"]))]
    return np.packbits(wrong[rows])


def bank_data(
    results: Results, index: int, found: Sequence[Cell], sets: ClassSets, sizes: Limits
) -> PageBank:
    """Return one bank: what it is, its sample in the plane, and its exact curves.

    Parameters
    ----------
    results, sets, sizes
        As in `cell_data`; the sets hold the classes of every bank that has results.
    index : int
        The bank's place in the comparison's list.
    found : sequence of Cell
        The results on all banks.
    """
    record = results.banks[index]
    return PageBank(
        name=shown_name(record, [cell for cell in found if cell.bank == index]),
        slug=record.slug,
        digest=record.digest,
        recipe=record.recipe,
        classes=sets.of_bank.get(index, 0),
        view=view_data(results, record.slug, sizes),
        curves=tuple(
            curve_data(name, arrays, chosen_on_curve(name, index, found))
            for name, arrays in results.curves(record.slug)
        ),
    )


def shown_name(record: BankRecord, cells: Sequence[Cell]) -> str:
    """Return a bank's name, marked where a head's parameter was chosen on what is reported."""
    seen = any(cell.chose_on_reported for cell in cells)
    return f"{record.name} (REPORTED)" if seen else str(record.name)


def chosen_on_curve(name: str, bank: int, found: Sequence[Cell]) -> float | None:
    """Return what was chosen for a head on its curve; a kept bias has another curve."""
    best = (
        cell.best
        for cell in found
        if (cell.bank, cell.entry.head) == (bank, name) and cell.entry.params.get("bias") != "keep"
    )
    return next((value for value in best if value is not None), None)


def view_data(results: Results, slug: str, sizes: Limits) -> PageView:
    """Return the sample's labels, and its coordinates in steps of their extent."""
    view, tsne = results.view(slug), results.tsne(slug)
    kept = sizes.sampled(len(view["rows"]))
    return PageView(
        labels=smallest(view["labels"][kept]),
        pca=scaled(view["features2d"][kept]),
        tsne=None if tsne is None else scaled(tsne[kept]),
    )


def scaled(points: NDArray[np.float32]) -> Points:
    """Return points (n, 2) in whole steps of their extent, x and y one after the other."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (to_units(points[:, k], low[k], high[k]) for k in (0, 1))
    extent = tuple(float(edge) for k in (0, 1) for edge in (low[k], high[k]))
    return Points(extent, UNITS, np.concatenate([x, y]))


def curve_data(name: str, arrays: Arrays, best: float | None) -> PageCurve:
    """Return an exact curve: its parameter, the chosen value, and accuracies by split and group."""
    splits: dict[str, dict[str, NDArray[np.float32] | None]] = {}
    for key, values in arrays.items():
        split, _, group = key.rpartition("_")
        if split and group in ("all", "many", "medium", "few", "micro"):
            known = bool(np.isfinite(values).all())
            splits.setdefault(split, {})[group] = values.astype(np.float32) if known else None
    return PageCurve(name, arrays["parameter"].astype(np.float32), best, splits)


def comparisons(results: Results, found: Sequence[Cell]) -> Iterator[PageDifference]:
    """Yield the paired differences, their two ends as places in the list of cells."""
    heads = results.compare.heads
    place = {
        CellName(results.banks[cell.bank].name, heads[cell.head]): index
        for index, cell in enumerate(found)
    }
    unlike = other_classes(results.banks) is not None  # as older comparisons could be
    for each in results.compare.comparisons:
        if unlike and each.a.bank != each.b.bank:
            continue
        a, b = place.get(each.a), place.get(each.b)
        if a is not None and b is not None:
            yield PageDifference(
                a=a,
                b=b,
                metric=each.metric,
                difference=each.difference,
                ci95=each.ci95,
                p_bootstrap=each.p_bootstrap,
                p_mcnemar=each.p_mcnemar,
                p_adjusted=each.p_adjusted,
                p_mcnemar_adjusted=each.p_mcnemar_adjusted,
                paired=each.paired,
            )
