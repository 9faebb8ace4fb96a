"""What the cells of a comparison say together: intervals, differences, groups of seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.results.compared import CellName, Difference, SeedGroup
from featbank.results.records import Interval, intervals
from heads.metrics import GROUPS, bootstrap, mcnemar
from heads.metrics import holm as multiplicity
from heads.metrics.unseen import unseen, unseen_apart

__all__ = ["CellRows", "Statistics", "grouped", "cell_statistics"]


@dataclass(frozen=True)
class CellRows:
    """One cell of the table: a head on a bank, and what it did with every row.

    Attributes
    ----------
    bank, head : str
        The bank's name in the comparison, and the head's specification.
    samples : str
        A digest of the evaluated rows: cells with the same one have the same rows in the same
        order.
    groups : ndarray of shape (C,)
        The shot group of each class, as `heads.metrics.ShotGroups` has it.
    labels : ndarray of shape (n,)
    right : ndarray of shape (n,), bool
        Whether the head is right on each row.
    metrics : mapping
        The accuracies by name, as fractions; None for a shot group without classes.
    """

    bank: str
    head: str
    samples: str
    groups: NDArray[np.int8]
    labels: Any
    right: Any
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class Statistics:
    """Intervals by cell, and comparisons."""

    intervals: Sequence[Mapping[str, Interval | None]]
    comparisons: list[Difference]


def cell_statistics(
    cells: Sequence[CellRows], *, draws: int, seed: int, baseline: str | None = None
) -> Statistics:
    """Resample the evaluation rows once for all cells that share them; compare pairs of cells.

    Pairs are two heads on one bank, and two banks under one head; with a baseline, a head's or a
    bank's name, only the pairs that it is in.

    Parameters
    ----------
    cells : sequence of CellRows
    draws : int
        How often the rows are resampled.
    seed : int
        Seed of the draws.
    baseline : str, optional
        The name of a head or a bank.

    Returns
    -------
    Statistics
        The intervals in the order of the cells.
    """
    drawn = resampled(cells, draws, seed)
    found = [interval_of(cell, of) for cell, of in zip(cells, drawn, strict=True)]
    any_group = without_groups(cells, drawn, draws, seed)
    compared = []
    for i, j in pairs(cells, baseline):
        alike = np.array_equal(cells[i].groups, cells[j].groups)
        both = (drawn[i]["all"], drawn[j]["all"]) if alike else (any_group[i], any_group[j])
        compared.append(compare(cells[i], cells[j], *both))
    return Statistics(found, adjusted(compared))


def adjusted(compared: Sequence[Difference]) -> list[Difference]:
    """Return differences with their p-values corrected by Holm for their number."""
    by_bootstrap = multiplicity.holm([each.p_bootstrap for each in compared])
    paired = [each.p_mcnemar for each in compared if each.p_mcnemar is not None]
    by_mcnemar = iter(multiplicity.holm(paired))
    return [
        replace(
            each,
            p_adjusted=float(p),
            p_mcnemar_adjusted=None if each.p_mcnemar is None else float(next(by_mcnemar)),
        )
        for each, p in zip(compared, by_bootstrap, strict=True)
    ]


def interval_of(cell: CellRows, drawn: Mapping[str, Any]) -> dict[str, Interval | None]:
    """Return the interval of each metric of a cell, of its resampled metrics (draws,)."""
    hidden = unseen(cell.right, cell.labels, cell.groups)
    found = {
        name: bootstrap.interval(drawn[name], value=cell.metrics[name], unseen=hidden[name])
        if name in drawn
        else None
        for name in bootstrap.METRICS
    }
    return intervals(found)


def resampled(cells: Sequence[CellRows], draws: int, seed: int) -> list[dict[str, Any]]:
    """Return each cell's resampled metrics, (draws,) by name."""
    out: list[dict[str, Any]] = [{} for _ in cells]
    for members in shared(cells).values():
        first = cells[members[0]]
        right = np.stack([cells[i].right for i in members], axis=1)
        drawn = bootstrap.resample(right, first.labels, first.groups, draws=draws, seed=seed)
        for column, i in enumerate(members):
            out[i] = {name: values[:, column] for name, values in drawn.items()}
    return out


def shared(cells: Sequence[CellRows]) -> dict[Any, list[int]]:
    """Return the cells by what they share: rows, and shot groups."""
    found: dict[Any, list[int]] = {}
    for index, at in enumerate(cells):
        found.setdefault((at.samples, at.groups.tobytes()), []).append(index)
    return found


def without_groups(
    cells: Sequence[CellRows], drawn: Sequence[Mapping[str, Any]], draws: int, seed: int
) -> list[Any]:
    """Return each cell's resampled `all`, (draws,), whatever its shot groups.

    Rows that are alone in their classes are drawn within their group. Cells that share their rows
    but not their groups are drawn anew for that, with all classes in one group, so that they see
    the same draws.

    Parameters
    ----------
    cells : sequence of CellRows
    drawn : sequence of mappings
        What `resampled` returns for them.
    draws, seed : int
        As in `cell_statistics`.
    """
    out = [of["all"] for of in drawn]
    by_rows: dict[str, list[int]] = {}
    for index, at in enumerate(cells):
        by_rows.setdefault(at.samples, []).append(index)
    for members in by_rows.values():
        first = cells[members[0]]
        alike = all(np.array_equal(cells[i].groups, first.groups) for i in members)
        if alike or not (np.bincount(first.labels) == 1).any():
            continue
        right = np.stack([cells[i].right for i in members], axis=1)
        one_group = np.zeros_like(first.groups)
        anew = bootstrap.resample(right, first.labels, one_group, draws=draws, seed=seed)["all"]
        for column, i in enumerate(members):
            out[i] = anew[:, column]
    return out


def pairs(cells: Sequence[CellRows], baseline: str | None) -> Iterator[tuple[int, int]]:
    """Yield the pairs of cells that are compared: later minus earlier, or minus the baseline."""
    for j, i in combinations(range(len(cells)), 2):
        one, other = cells[i], cells[j]
        same_bank, same_head = one.bank == other.bank, one.head == other.head
        if same_bank == same_head:
            continue
        if same_bank and baseline not in (None, one.head, other.head):
            continue
        if same_head and baseline not in (None, one.bank, other.bank):
            continue
        mine = one.head if same_bank else one.bank
        yield (j, i) if mine == baseline else (i, j)


def compare(one: CellRows, other: CellRows, drawn_one: Any, drawn_other: Any) -> Difference:
    """Return the difference of `all` of two cells, its interval, and tests.

    Parameters
    ----------
    one, other : CellRows
        The difference is of the first cell minus the second.
    drawn_one, drawn_other : arrays of shape (draws,)
        The resampled `all` of each cell.

    Returns
    -------
    Difference
        Its adjusted p-values are those before any adjustment: see `adjusted`.
    """
    paired = one.samples == other.samples
    value = round(float(one.metrics["all"] or 0) - float(other.metrics["all"] or 0), 12)
    ends, p = separation(value, one, other, drawn_one, drawn_other)
    counts = mcnemar.discordant(one.right, other.right) if paired else None
    return Difference(
        a=CellName(one.bank, one.head),
        b=CellName(other.bank, other.head),
        metric="all",
        difference=value,
        ci95=(ends[0], ends[1]),
        p_bootstrap=p,
        p_mcnemar=None if counts is None else mcnemar.mcnemar(*counts),
        p_adjusted=p,
        paired=paired,
    )


def separation(
    value: float, one: CellRows, other: CellRows, drawn_one: Any, drawn_other: Any
) -> tuple[list[float], float]:
    """Return the interval of the difference of two cells, and its p-value.

    Which cell is named first changes nothing but the sign: draws of other rows are always matched
    from the same side.

    Parameters
    ----------
    value : float
        The difference of `all`, `one` minus `other`, as measured.
    one, other, drawn_one, drawn_other
        As in `compare`.

    Returns
    -------
    list of two floats, float
        The ends of the 95 % interval, and the p-value, both of
        `heads.metrics.bootstrap.difference`.
    """
    if one.samples > other.samples:
        (low, high), p = separation(-value, other, one, drawn_other, drawn_one)
        return [-high, -low], p
    paired = one.samples == other.samples
    if paired:
        apart = np.subtract(one.right, other.right, dtype=np.int64)
        groups = common_groups(one, other)
        hidden = unseen(apart, one.labels, groups, bounds=(-1, 1))["all"]
    else:
        alone = [unseen(at.right, at.labels, at.groups)["all"] for at in (one, other)]
        hidden = unseen_apart(*alone)
    return bootstrap.difference(value, drawn_one, drawn_other, paired=paired, unseen=hidden)


def common_groups(one: CellRows, other: CellRows) -> Any:
    """Return the shot groups of two cells, (C,); where theirs differ, all classes in one."""
    return one.groups if np.array_equal(one.groups, other.groups) else np.zeros_like(one.groups)


def grouped(cells: Sequence[CellRows], groups: Mapping[str, Sequence[str]]) -> list[SeedGroup]:
    """Return mean and standard deviation over the banks of a group, by head and metric.

    Banks whose shot groups are other classes have no common many, medium or few.
    """
    out = []
    for name, banks in groups.items():
        for head in dict.fromkeys(cell.head for cell in cells):
            members = [cell for cell in cells if cell.bank in banks and cell.head == head]
            for metric in bootstrap.METRICS:
                alike = comparable(members, metric)
                values = [at.metrics[metric] if alike else None for at in members]
                mean, std = moments(values)
                out.append(SeedGroup(name, tuple(banks), head, metric, mean, std, len(values)))
    return out


def comparable(members: Sequence[CellRows], metric: str) -> bool:
    """Tell whether a metric is over the same classes in all cells."""
    return metric not in GROUPS or len({at.groups.tobytes() for at in members}) == 1


def moments(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return mean and standard deviation (n - 1; None for one value); None for unknown values."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None, None
    std = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return float(np.mean(known)), std
