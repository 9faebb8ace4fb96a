"""Cells put together: the object that a comparison writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from featbank.comparing.bank_run import Bench, Settings
from featbank.comparing.cells import installed_version
from featbank.results.alike import group_kinds, pairing_notes, unlike_notes
from featbank.results.cell import BankRecord, CellRecord
from featbank.results.compared import (
    ComparedBank,
    ComparedCandidate,
    ComparedResult,
    ComparisonSettings,
)
from featbank.results.comparison import Comparison
from featbank.results.records import Interval
from featbank.runtime.spec import Spec
from featbank.study.rows import row_order
from featbank.study.splits import (
    all_head_notes,
    distinct,
    head_notes,
    report_notes,
    role_notes,
    select_notes,
)

__all__ = ["combine", "recorded"]


def recorded(settings: Settings) -> ComparisonSettings:
    """Return the settings as a comparison records them."""
    return ComparisonSettings(
        select=settings.select,
        report=settings.report,
        seed=settings.seed,
        bootstrap=settings.draws,
        baseline=settings.baseline,
        version=installed_version(),
    )


def combine(
    benches: Sequence[Bench],
    wanted: Sequence[Spec],
    keys: Sequence[Sequence[str]],
    settings: Settings,
    groups: Mapping[str, Sequence[str]],
) -> Comparison:
    """Return the whole comparison.

    Parameters
    ----------
    benches : sequence of Bench
        The banks, with their cells.
    wanted : sequence of Spec
        The heads.
    keys : sequence of sequences of str
        Of each bank, the key of each head's cell.
    settings : Settings
        How the banks are compared.
    groups : mapping
        From a group's name to the banks that are seeds of one recipe.
    """
    from featbank.comparing.statistics import cell_statistics, grouped

    order = [
        (bench, spec, key)
        for bench, row in zip(benches, keys, strict=True)
        for spec, key in zip(wanted, row, strict=True)
    ]
    orders = {bench.about.slug: row_order(bench.ids) for bench in benches}
    cells = [cell_rows(bench, spec, key, orders[bench.about.slug]) for bench, spec, key in order]
    found = cell_statistics(
        cells, draws=settings.draws, seed=settings.seed, baseline=settings.baseline
    )
    return Comparison(
        settings=recorded(settings),
        banks=tuple(compared_banks([bench.about for bench in benches])),
        heads=tuple(str(spec) for spec in wanted),
        results=tuple(
            result(bench, spec, key, ci95)
            for (bench, spec, key), ci95 in zip(order, found.intervals, strict=True)
        ),
        candidates=tuple(
            ComparedCandidate(bench.about.path, spec.name, str(spec), point)
            for bench, spec, key in order
            for point in bench.cells[key].candidates
        ),
        comparisons=tuple(found.comparisons),
        groups=tuple(grouped(cells, groups)),
        notes=tuple(notes(benches)),
    )


def compared_banks(records: Sequence[BankRecord]) -> Iterator[ComparedBank]:
    """Yield what a comparison says of its banks."""
    for record, kind in zip(records, group_kinds(records), strict=True):
        yield ComparedBank(record.name, record.path, record.digest, record.slug, kind)


def cell_rows(bench: Bench, spec: Spec, key: str, order: Any) -> Any:
    """Return a cell as the statistics take it.

    Parameters
    ----------
    bench : Bench
        The bank.
    spec : Spec
        The head.
    key : str
        The name of the cell's folder.
    order : array of shape (n,)
        The rows in an order that all banks with the same rows share.

    Returns
    -------
    CellRows
    """
    import numpy as np

    from featbank.comparing.statistics import CellRows

    with np.load(bench.out / "cells" / key / "evaluation.npz") as file:
        labels, predicted = file["labels"][order], file["predicted"][order]
    return CellRows(
        bank=bench.about.name,
        head=str(spec),
        samples=bench.about.reported_rows,
        groups=bench.about.groups(),
        labels=labels,
        right=labels == predicted,
        metrics=bench.cells[key].metrics,
    )


def result(
    bench: Bench, spec: Spec, key: str, ci95: Mapping[str, Interval | None]
) -> ComparedResult:
    """Return one head's result, the head as it is written now: a cell may be of another day.

    Parameters
    ----------
    bench, spec, key
        As in `cell_rows`.
    ci95 : mapping
        The 95 % interval of each metric, by name.
    """
    cell = bench.cells[key]
    return ComparedResult(
        bank=bench.about.path,
        bank_name=bench.about.name,
        head=spec.name,
        spec=str(spec),
        params=cell.params,
        selected_on=cell.selected_on,
        selection=cell.selection,
        split=cell.split,
        metrics=cell.metrics,
        ci95=ci95,
        calibration=cell.calibration,
        fit_seconds=cell.fit_seconds,
        cell=key,
        notes=tuple(cell_notes(bench, cell)),
    )


def notes(benches: Sequence[Bench]) -> list[str]:
    """Return what a reader has to know beside the numbers; one that many banks share comes once."""
    banks_of: dict[str, list[str]] = {}
    for bench in benches:
        said = role_notes(bench.entry.bank, bench.entry.parts)
        heads = all_head_notes(
            [cell.choice for cell in bench.cells.values()], bench.entry.parts.reason
        )
        for note in distinct([*said, *heads]):
            banks_of.setdefault(note, []).append(bench.about.name)
    own = [f"{', '.join(names)}: {note}" for note, names in banks_of.items()]
    records = [bench.about for bench in benches]
    return [*pairing_notes(records), *unlike_notes(records), *own]


def cell_notes(bench: Bench, cell: CellRecord) -> list[str]:
    """Return what there is to say of one head on one bank."""
    bank, parts = bench.entry.bank, bench.entry.parts
    chosen = [*select_notes(bank, parts)] if cell.selected_on else []
    return distinct(
        [*chosen, *head_notes(cell.choice, parts.reason), *report_notes(bank, cell.split)]
    )
