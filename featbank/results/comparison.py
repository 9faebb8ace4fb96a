"""Heads on banks side by side: what `featbank.compare` returns and ``compare.json`` keeps."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from featbank.errors import DamagedError, MissingFileError, UsageError
from featbank.results.compared import (
    ComparedBank,
    ComparedCandidate,
    ComparedResult,
    ComparisonSettings,
    Difference,
    SeedGroup,
)
from featbank.results.matrix import (
    TITLES,
    Matrix,
    difference_lines,
    group_lines,
    markdown,
    matrix_lines,
)
from featbank.results.plain import fields_of, known_fields
from featbank.results.saved import AGAIN, COMPARISON, believed, read_object, require
from featbank.results.tables import Accuracy, Cell, Recorded, Table
from featbank.runtime.names import printable

__all__ = ["Comparison", "read_comparison"]


@dataclass(frozen=True)
class Comparison(Recorded):
    """Every head on every bank, with intervals, paired differences and groups of seeds.

    Attributes
    ----------
    settings : ComparisonSettings
        How the banks were compared.
    banks : tuple of ComparedBank
    heads : tuple of str
        The specifications of the heads.
    results : tuple of ComparedResult
        One for each bank and head, bank by bank.
    candidates : tuple of ComparedCandidate
        The parameters that were tried, with their metrics on the selecting split.
    comparisons : tuple of Difference
        The differences of `all` between two heads on a bank, and between two banks under a head.
    groups : tuple of SeedGroup
        Mean and deviation over banks that are seeds of one recipe.
    notes : tuple of str
        What a reader has to know beside the numbers.
    made_from : str
        A digest of everything that the comparison was made from.
    """

    settings: ComparisonSettings
    banks: tuple[ComparedBank, ...]
    heads: tuple[str, ...]
    results: tuple[ComparedResult, ...]
    candidates: tuple[ComparedCandidate, ...] = ()
    comparisons: tuple[Difference, ...] = ()
    groups: tuple[SeedGroup, ...] = ()
    notes: tuple[str, ...] = ()
    made_from: str = ""

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the comparison that `featbank.compare` keeps in a folder.

        Parameters
        ----------
        folder : path
            What was given as `out`.

        Raises
        ------
        MissingFileError
            The folder holds no ``compare.json``.
        DamagedError
            What it holds is not what `featbank.compare` writes.
        """
        folder = Path(folder)
        with believed(folder):
            return cls.from_json(read_comparison(folder))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of ``compare.json``, schema 1."""
        return {"schema": 1, **fields_of(self)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read the JSON object of ``compare.json``.

        Raises
        ------
        TypeError, ValueError, KeyError
            The object is not what `to_json` makes.
        """
        return cls(
            settings=known_fields(ComparisonSettings, found["settings"]),
            banks=tuple(known_fields(ComparedBank, bank) for bank in found["banks"]),
            heads=tuple(str(head) for head in found["heads"]),
            results=tuple(map(ComparedResult.from_json, found["results"])),
            candidates=tuple(map(ComparedCandidate.from_json, found.get("candidates") or ())),
            comparisons=tuple(map(Difference.from_json, found.get("comparisons") or ())),
            groups=tuple(map(SeedGroup.from_json, found.get("groups") or ())),
            notes=tuple(str(note) for note in found.get("notes") or ()),
            made_from=str(found.get("made_from", "")),
        )

    @property
    def best(self) -> ComparedResult:
        """The result with the largest `all`; of equals the one that comes first."""
        return max(self.results, key=lambda each: each.metrics["all"] or 0.0)

    def differences(self, baseline: str | None = None) -> tuple[Difference, ...]:
        """Return the differences of `all`, those of a baseline only where one is named.

        Parameters
        ----------
        baseline : str, optional
            A head or a bank. Returned are the differences that it is part of, each turned so that
            it is what is subtracted. Their p-values stay corrected for the number of all
            differences of the comparison; to correct for fewer, name the baseline to
            `featbank.compare`.

        Raises
        ------
        UsageError
            The baseline is neither a head nor a bank of the comparison.
        """
        if baseline is None:
            return self.comparisons
        known = (*self.heads, *(bank.name for bank in self.banks))
        if baseline not in known:
            message = f"baseline {baseline} is neither head nor bank; there are {', '.join(known)}"
            raise UsageError(printable(message))
        return tuple(against(each, baseline) for each in self.comparisons if names(each, baseline))

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each result: names, metrics, ends of their intervals, seconds."""
        rows = []
        for each in self.results:
            row: dict[str, Any] = {
                "bank": each.bank_name, "head": each.spec, "split": each.split,
                "selected_on": each.selected_on, **each.metrics,
            }  # fmt: skip
            for metric, ends in each.ci95.items():
                row[f"{metric}_low"], row[f"{metric}_high"] = ends or (None, None)
            rows.append({**row, "fit_seconds": each.fit_seconds})
        return rows

    def table(self, metric: str = "all") -> Table:
        """Return one metric of every head on every bank, the best bank first.

        Parameters
        ----------
        metric : str
            One of `all`, `many`, `medium`, `few`, `micro` and `error`.
        """
        found = self.matrix(metric)
        names = found.labels()
        rows: list[tuple[Cell, ...]] = []
        for bank in found.ordered_banks():
            best = found.best(bank)
            cells = [
                Accuracy(*found.at(bank, head).value(metric), best=head in best)
                for head in self.heads
            ]
            rows.append((names[bank], *cells))
        title = f"{found.title}, with 95 % interval"
        return Table(title, ("bank", *self.heads), tuple(rows), self.notes)

    def group_table(self, metric: str = "all") -> Table | None:
        """Return mean and standard deviation over seeds, a row for each group; None without groups.

        Parameters
        ----------
        metric : str
            One of `all`, `many`, `medium` and `few`.
        """
        there = [each for each in self.groups if each.metric == metric]
        if not there:
            return None
        heads = list(dict.fromkeys(each.head for each in there))
        found = {(each.name, each.head): each for each in there}
        rows: list[tuple[Cell, ...]] = []
        for name in dict.fromkeys(each.name for each in there):
            means = {head: found[name, head].mean for head in heads if (name, head) in found}
            most = max((mean for mean in means.values() if mean is not None), default=None)
            cells = [
                Accuracy(mean, std=found[name, head].std, best=len(heads) > 1 and mean == most)
                if (mean := means.get(head)) is not None
                else None
                for head in heads
            ]
            rows.append((name, *cells))
        title = f"{TITLES[metric]}: mean and standard deviation over seeds"
        return Table(title, ("group", *heads), tuple(rows))

    def tables(self, metrics: Sequence[str] = ("all",)) -> list[Table]:
        """Return `table` of each metric, and after it `group_table` where banks are grouped."""
        both = ((self.table(metric), self.group_table(metric)) for metric in metrics)
        return [table for pair in both for table in pair if table is not None]

    def to_latex(self, metrics: Sequence[str] = ("all",)) -> str:
        """Return tables in LaTeX, for the package booktabs: accuracies in %, the best bold.

        Parameters
        ----------
        metrics : sequence of str
            As in `table`; where banks are grouped by seeds, mean ± deviation follows.
        """
        return "\n\n".join(table.to_latex() for table in self.tables(metrics))

    def _repr_html_(self) -> str:
        """Return the tables of `all` for a notebook."""
        return "".join(table._repr_html_() for table in self.tables())

    def matrix(self, metric: str = "all") -> Matrix:
        """Return one metric of every head on every bank."""
        return Matrix.of(metric, self.banks, self.heads, self.results)

    def lines(self, metrics: Sequence[str] = ("all",), *, everything: bool = False) -> list[str]:
        """Return the tables as lines of text in 80 columns, as the command line shows them.

        Parameters
        ----------
        metrics : sequence of str
            Those that get a table, of `all`, `many`, `medium`, `few`, `micro` and `error`.
        everything : bool
            Show every difference, not only the clearest.
        """
        tables = (line for metric in metrics for line in matrix_lines(self.matrix(metric)))
        return [
            *tables,
            *group_lines(self.groups, self.results),
            *difference_lines(self.comparisons, self.results, everything=everything),
            *self.note_lines(),
        ]

    def note_lines(self) -> Iterator[str]:
        """Yield the notes, each from a line of its own."""
        for note in self.notes:
            yield textwrap.fill(printable(f"note: {note}"), 80, subsequent_indent="      ")

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_markdown(self, metrics: Sequence[str] = ("all",)) -> str:
        """Return tables in Markdown: value and interval in %, the best of each row bold.

        Parameters
        ----------
        metrics : sequence of str
            One table each, of `all`, `many`, `medium`, `few`, `micro` and `error`.
        """
        return markdown([self.matrix(metric) for metric in metrics], self.notes)


def names(each: Difference, name: str) -> bool:
    """Tell whether a head or a bank is on just one side of a difference."""
    return side(each, name) is not None


def side(each: Difference, name: str) -> str | None:
    """Return on which side of a difference a head or a bank alone is, "a" or "b"."""
    there = [name in (end.bank, end.head) for end in (each.a, each.b)]
    return {(True, False): "a", (False, True): "b"}.get((there[0], there[1]))


def against(each: Difference, baseline: str) -> Difference:
    """Return a difference in which the baseline is subtracted."""
    return each.turned() if side(each, baseline) == "a" else each


def read_comparison(folder: Path) -> dict[str, Any]:
    """Read ``compare.json`` in a folder, which must hold at least the parts of schema 1.

    Raises
    ------
    MissingFileError
        There is none.
    DamagedError
        It holds something else.
    """
    path = folder / COMPARISON
    if not os.path.lexists(path):
        message = f"{folder} holds no compare.json; featbank compare writes one to --out"
        raise MissingFileError(message)
    found = read_object(path)
    if found.get("schema") != 1:
        message = f"{path}: schema {found.get('schema')!r} is not 1, which this version reads"
        raise DamagedError(message)
    require(found, path, "settings", "banks", "heads", "results")
    for name, kind in (("settings", dict), ("banks", list), ("heads", list), ("results", list)):
        if not isinstance(found[name], kind):
            message = f"{path}: {name} is no {kind.__name__}; {AGAIN}"
            raise DamagedError(message)
    return found
