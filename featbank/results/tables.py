"""One table of results, rendered for terminals, notebooks, papers and programs."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featbank.errors import InputError
from featbank.results.numbers import percent
from featbank.runtime.names import printable

__all__ = ["Accuracy", "Recorded", "Table", "shown", "csv_line"]


@dataclass(frozen=True)
class Accuracy:
    """An accuracy in a table.

    Attributes
    ----------
    value : float or None
        A fraction; None for a shot group that has no class.
    interval : tuple of two floats, optional
        Its 95 % interval.
    std : float, optional
        Its standard deviation over seeds.
    best : bool
        Whether it is the best of its row, or of its column, whichever the table compares.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    std: float | None = None
    best: bool = False

    def text(self, *, plus_minus: str = " ± ") -> str:
        """Return the accuracy in %, with its standard deviation where there is one."""
        spread = "" if self.std is None else f"{plus_minus}{percent(self.std)}"
        return percent(self.value) + (spread if self.value is not None else "")

    def ends(self) -> str:
        """Return the interval in %; an empty string where there is none."""
        return "" if self.interval is None else "-".join(percent(end) for end in self.interval)


Cell = str | float | Accuracy | None


class Recorded:
    """What has records: rows with named values, for programs."""

    def records(self) -> list[dict[str, Any]]:
        """Return one dict for each row."""
        raise NotImplementedError

    def frame(self) -> Any:
        """Return the records as a `pandas.DataFrame`.

        Raises
        ------
        InputError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            message = "frame() needs pandas: pip install pandas; records() does without"
            raise InputError(message) from error
        return pd.DataFrame(self.records())

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the records as CSV, with every digit, and write them to a file where one is named.

        A file that is there is replaced.
        """
        records = self.records()
        names = list(dict.fromkeys(name for record in records for name in record))
        rows = [names, *([record.get(name, "") for name in names] for record in records)]
        text = "".join(map(csv_line, rows))
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text


@dataclass(frozen=True)
class Table(Recorded):
    """A title, named columns, and rows of cells: texts, numbers and accuracies.

    Attributes
    ----------
    title : str
    columns : tuple of str
    rows : tuple of tuples
        As many cells as columns each.
    notes : tuple of str
        What a reader has to know beside the numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        texts = [[shown(cell, starred=True) for cell in row] for row in self.rows]
        widths = [
            max(len(line[k]) for line in (self.columns, *texts)) for k in range(len(self.columns))
        ]
        left = self.left()

        def line(cells: Sequence[str]) -> str:
            placed = (
                cell.ljust(width) if is_left else cell.rjust(width)
                for cell, width, is_left in zip(cells, widths, left, strict=True)
            )
            return "  ".join(placed).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        notes = [f"note: {printable(note)}" for note in self.notes]
        return "\n".join(
            [printable(self.title), line(self.columns), rule, *map(line, texts), *notes]
        )

    def left(self) -> list[bool]:
        """Tell of each column whether it holds texts, which stand to the left."""
        columns = range(len(self.columns))
        return [all(isinstance(row[k], str) for row in self.rows) for k in columns]

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html_cell(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p>{html.escape(printable(note))}</p>" for note in self.notes)
        title = html.escape(printable(self.title))
        return (
            f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>{notes}"
        )

    def to_markdown(self) -> str:
        """Return the table in Markdown: accuracies in %, with intervals, the best bold."""
        lines = [self.title, "", f"| {' | '.join(map(markdown_text, self.columns))} |"]
        lines.append("|---" * len(self.columns) + "|")
        lines += [f"| {' | '.join(map(markdown_cell, row))} |" for row in self.rows]
        lines += ["", *(f"{markdown_text(note)}." for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    def to_latex(self) -> str:
        """Return the table in LaTeX for the package booktabs: accuracies in %, the best bold."""
        kinds = "".join("l" if left else "r" for left in self.left())
        rows = [" & ".join(map(latex_cell, row)) + r" \\" for row in self.rows]
        head = " & ".join(map(latex_text, self.columns)) + r" \\"
        lines = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", head, r"\midrule", *rows]
        return "\n".join([f"% {printable(self.title)}", *lines, r"\bottomrule", r"\end{tabular}"])

    def records(self) -> list[dict[str, Any]]:
        """Return one dict for each row, with numbers as they are: accuracies are fractions.

        An accuracy that has an interval or a standard deviation takes more keys: its column's name
        with `_low` and `_high`, or with `_std`.
        """
        return [
            {
                key: value
                for name, cell in zip(self.columns, row, strict=True)
                for key, value in fields(name, cell)
            }
            for row in self.rows
        ]


def fields(name: str, cell: Cell) -> list[tuple[str, Any]]:
    """Return what a cell adds to the record of its row."""
    if not isinstance(cell, Accuracy):
        return [(name, cell)]
    found: list[tuple[str, Any]] = [(name, cell.value)]
    if cell.interval is not None:
        found += [(f"{name}_low", cell.interval[0]), (f"{name}_high", cell.interval[1])]
    return found + ([] if cell.std is None else [(f"{name}_std", cell.std)])


def shown(cell: Cell, *, starred: bool = False) -> str:
    """Return a cell as text, the best of a row starred."""
    if isinstance(cell, Accuracy):
        ends = f" [{cell.ends()}]" if cell.interval else ""
        return cell.text() + ("*" if starred and cell.best else "") + ends
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else printable(str(cell))


def html_cell(cell: Cell) -> str:
    """Return a cell in HTML."""
    text = html.escape(shown(cell))
    return f"<b>{text}</b>" if isinstance(cell, Accuracy) and cell.best else text


def markdown_cell(cell: Cell) -> str:
    """Return a cell in Markdown."""
    if not isinstance(cell, Accuracy):
        return markdown_text(shown(cell))
    value = f"**{cell.text()}**" if cell.best else cell.text()
    return value if cell.interval is None else f"{value} ({cell.ends().replace('-', ' to ')})"


def markdown_text(text: str) -> str:
    """Escape a text for Markdown: no control character, no markup, no cell's end."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&])", r"\\\1", printable(text))


def latex_cell(cell: Cell) -> str:
    """Return a cell in LaTeX."""
    if not isinstance(cell, Accuracy):
        return latex_text(shown(cell))
    if cell.value is None:
        return "--"
    text = cell.text(plus_minus=r" \pm ")
    return rf"$\mathbf{{{text}}}$" if cell.best else f"${text}$"


# The characters that mean something to LaTeX, and how it is told to print them.
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "&%$#_"},
}


def latex_text(text: str) -> str:
    """Escape a text for LaTeX."""
    return "".join(LATEX.get(char, char) for char in printable(text))


def csv_line(fields: Sequence[Any]) -> str:
    """Return one line of CSV, quoted where a field holds a comma, a quote or a line's end.

    The writer quotes a field for the characters of its own line's end, so it gets both of them.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue().removesuffix("\r\n") + "\n"
