"""Heads that were fitted on a bank: what `featbank.fit` returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from featbank.results.numbers import GROUPS
from featbank.results.plain import plain
from featbank.results.records import (
    Candidate,
    HeadChoice,
    Interval,
    Metrics,
    Origin,
    Reached,
    Result,
    Selection,
)
from featbank.results.tables import Accuracy, Cell, Recorded, Table

__all__ = ["Evaluated", "Fit", "Fits"]

# What a reader of the table wants to know of a head; the rest stands in its parameters.
SHOWN = ("tau", "transform", "metric", "weight_decay", "anchor")


class Tabled(Recorded):
    """What renders as a table: in a terminal, a notebook, a paper, a program."""

    def table(self) -> Table:
        """Return the table."""
        raise NotImplementedError

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return self.table()._repr_html_()

    def records(self) -> list[dict[str, Any]]:
        """Return one dict for each row of the table; see `Table.records`."""
        return self.table().records()

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        return self.table().to_markdown()

    def to_latex(self) -> str:
        """Return the table in LaTeX, for the package booktabs."""
        return self.table().to_latex()


@dataclass(frozen=True)
class Fit(Tabled):
    """A head that was fitted on a bank, and what it reached.

    Attributes
    ----------
    head : Head
        The fitted head, a scikit-learn classifier.
    results : tuple of Result
        One for each reported split.
    selection : Selection or None
        How parameters were chosen, where they were.
    candidates : tuple of Candidate
        The points that were tried, with their metrics on the selecting split only.
    notes : tuple of str
        What a reader has to know beside the numbers.
    choice : HeadChoice or None
        The specification, and how what it left open ended; None for a head that was loaded.
    origin : Origin or None
        What the head's file says of the features that it was fitted on; None as before.
    """

    head: Any
    results: tuple[Result, ...]
    selection: Selection | None = None
    candidates: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()
    choice: HeadChoice | None = field(default=None, repr=False)
    origin: Origin | None = field(default=None, repr=False)

    @property
    def metrics(self) -> Metrics:
        """Accuracies on the reported split, as fractions; on the first one where there are more."""
        return self.results[0].metrics

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of `all` on that split."""
        ends = self.results[0].ci95["all"]
        return None if ends is None else (ends[0], ends[1])

    @property
    def seconds(self) -> float | None:
        """What fitting took: see `featbank.results.records.Result`."""
        return self.results[0].fit_seconds

    def save(self, path: str | Path) -> None:
        """Save the head with what it was fitted on and how it was chosen; see `heads.save`."""
        first = self.results[0]
        entry = {
            "bank": first.bank,
            "head": first.head,
            "params": dict(first.params),
            "selected_on": first.selected_on,
            "selection": None if self.selection is None else self.selection.to_json(),
            "notes": list(self.notes),
        }
        reached = [
            Reached(each.split, each.metrics, each.ci95, each.calibration) for each in self.results
        ]
        spec = first.head if self.choice is None else self.choice.spec
        origin = {} if self.origin is None else plain(self.origin)
        metadata = {**origin, "spec": spec, **entry, "results": plain(reached)}
        self.head.save(path, metadata=metadata)

    def table(self) -> Table:
        """Return the head's results, a row for each reported split."""
        return table_of((self,))


@dataclass(frozen=True)
class Fits(Tabled, Sequence[Fit]):
    """Several heads on one bank, in the order in which they were named: a sequence of `Fit`.

    Attributes
    ----------
    fits : tuple of Fit
    notes : tuple of str
        What a reader has to know beside the numbers.
    """

    fits: tuple[Fit, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.fits)

    @overload
    def __getitem__(self, index: int) -> Fit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Fit]: ...
    def __getitem__(self, index: int | slice) -> Fit | Sequence[Fit]:
        return self.fits[index]

    def __str__(self) -> str:
        return str(self.table())

    @property
    def results(self) -> tuple[Result, ...]:
        """The results of all heads, one for each head and reported split."""
        return tuple(result for fit in self.fits for result in fit.results)

    @property
    def splits(self) -> tuple[str, ...]:
        """The reported splits."""
        return tuple(dict.fromkeys(result.split for result in self.results))

    def table(self) -> Table:
        """Return the results of all heads, a row for each head and reported split."""
        return table_of(self.fits)

    def to_json(self) -> dict[str, Any]:
        """Return the object of ``results.json``, schema 1."""
        candidates = [
            {"bank": fit.results[0].bank, "head": fit.results[0].head, **point.to_json()}
            for fit in self.fits
            for point in fit.candidates
        ]
        results = [result.to_json() for result in self.results]
        notes = list(self.notes)
        return {"schema": 1, "results": results, "candidates": candidates, "notes": notes}


@dataclass(frozen=True)
class Evaluated(Fits):
    """Several saved heads that were evaluated on one bank: a sequence of `Fit`."""

    def to_json(self) -> dict[str, Any]:
        """Return the object of schema 1 that ``featbank evaluate --json`` writes."""
        known = (
            "bank", "file", "head", "params", "selected_on", "split", "metrics", "ci95", "notes",
        )  # fmt: skip
        entries = [result.to_json() for result in self.results]
        results = [{name: entry[name] for name in known} for entry in entries]
        return {"schema": 1, "results": results, "candidates": [], "notes": list(self.notes)}


def table_of(fits: tuple[Fit, ...]) -> Table:
    """Return the table of some heads on one bank."""
    results = [(fit, result) for fit in fits for result in fit.results]
    splits = dict.fromkeys(result.split for _, result in results)
    best = best_of([result for _, result in results])
    columns = ["head", *GROUPS, "parameters", "chosen on", "seconds"]
    rows: list[tuple[Cell, ...]] = []
    for fit, result in results:
        cells: list[Cell] = [result.head]
        for group in GROUPS:
            ends = result.ci95["all"] if group == "all" else None
            is_best = (result.split, group, result.metrics[group]) in best
            cells.append(Accuracy(result.metrics[group], ends, best=is_best))
        chosen = "-" if result.selected_on is None else result.selected_on
        seen = " (REPORTED)" if result.chose_on_reported else ""
        grid = () if fit.selection is None else fit.selection.grid or ()
        cells += [brief(result.params, grid), f"{chosen}{seen}", result.fit_seconds]
        rows.append((*cells[:1], result.split, *cells[1:]) if len(splits) > 1 else tuple(cells))
    if len(splits) > 1:
        columns.insert(1, "split")
    where = f"{results[0][1].bank}, {', '.join(splits)}, in %"
    notes = dict.fromkeys(note for fit in fits for note in fit.notes)
    return Table(where, tuple(columns), tuple(rows), tuple(notes))


def best_of(results: list[Result]) -> set[tuple[str, str, float | None]]:
    """Return split, group and value of the best of each column, where there is one to beat."""
    found: set[tuple[str, str, float | None]] = set()
    for split in {result.split for result in results}:
        there = [result.metrics for result in results if result.split == split]
        for group in GROUPS:
            values = [metrics[group] for metrics in there if metrics[group] is not None]
            if len(there) > 1 and values:
                found.add((split, group, max(value for value in values if value is not None)))
    return found


def brief(params: Mapping[str, Any], grid: tuple[str, ...] | list[str] = ()) -> str:
    """Name the parameters that tell one head of a kind from another; `grid` was chosen from."""
    keys = [*(("solver",) if params.get("solver") == "sgd" else SHOWN), "views"]
    shown = {key: params[key] for key in dict.fromkeys((*keys, *grid)) if key in params}
    if shown.get("anchor") == "zero" and "anchor" not in grid:
        del shown["anchor"]
    return (
        ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in shown.items()
        )
        or "-"
    )
