"""Printing of results: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from featbank.results.numbers import GROUPS
from featbank.runtime.names import printable

__all__ = [
    "plain_lines",
    "print_notes",
    "print_table",
    "say",
    "write_json",
]

# Columns of numbers, besides those of accuracies.
NUMERIC = (
    "micro", "seconds", "tau", "rows", "skipped", "precision", "F1", "confidence",
    "true_probability",
)  # fmt: skip


# Between two columns, where there is room and where there is little.
WIDE_GAP, GAP = 3, 2
# Words of a table are broken at this width at the narrowest.
WORD = 12


def plain_lines(text: str) -> str:
    """Escape control characters but the ends of lines."""
    return "\n".join(map(printable, text.split("\n")))


def say(text: str, *, end: str = "\n") -> None:
    """Print a text on standard output, escaped."""
    with printing():
        click.echo(plain_lines(text) + end, nl=False)


@contextmanager
def printing() -> Iterator[None]:
    """Name standard output in the error where writing to it fails; a closed pipe passes through."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename = "standard output"
        raise


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column to the left, numbers to the right.

    On a terminal that is too narrow, columns stand closer and words are broken over lines; where
    that does not help, the columns come in several tables, each with the first column. A number is
    never cut.
    """
    from rich.console import Console

    say(title)
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(columns, *shown, strict=True)]
    # A file is as wide as the table needs.
    wide = sum(widths) + len(widths) * WIDE_GAP
    width = None if sys.stdout.isatty() else max(120, wide)
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    gap = WIDE_GAP if wide <= console.width else GAP
    for places in folded(columns, widths, console.width, gap):
        part = [[row[place] for place in places] for row in shown]
        with printing():
            console.print(rich_table([columns[place] for place in places], part, gap))


def is_number(column: str) -> bool:
    """Tell by its name whether a column holds numbers."""
    return column.endswith((*GROUPS, *NUMERIC))


def folded(columns: Sequence[str], widths: Sequence[int], width: int, gap: int) -> list[list[int]]:
    """Return the columns of each table by their places, so that all of them fit a width.

    Parameters
    ----------
    columns : sequence of str
    widths : sequence of int
        The widest cell of each column, in characters.
    width : int
        That of the terminal.
    gap : int
        What stands between two columns.
    """
    least = [
        gap + (wide if is_number(name) else min(wide, WORD))
        for name, wide in zip(columns, widths, strict=True)
    ]
    tables = [[0]]
    for place in range(1, len(columns)):
        if sum(least[each] for each in (*tables[-1], place)) > width and len(tables[-1]) > 1:
            tables.append([0])
        tables[-1].append(place)
    return tables


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], gap: int) -> Any:
    """Return a table of rich's in which words may be broken over lines, and numbers may not."""
    from rich import box
    from rich.table import Table

    padding = (0, 1) if gap == WIDE_GAP else (0, 1, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding)
    for place, name in enumerate(columns):
        number = is_number(name)
        table.add_column(
            name, justify="right" if number else "left", no_wrap=number, overflow="fold",
            min_width=max(len(cell) for cell in (name, *(row[place] for row in rows)))
            if number else None,
        )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    return table


def print_notes(notes: Sequence[str]) -> None:
    """Print what a reader has to know beside a table, each note from a line of its own."""
    for note in notes:
        say(textwrap.fill(printable(f"note: {note}"), 80, subsequent_indent="      "))


def write_json(target: Path | None, value: Mapping[str, Any], *, overwrite: bool = False) -> bool:
    """Write one JSON object to where --json says; return whether that is standard output.

    `cli._outputs.refuse_outputs` has looked at the file before the command began.
    """
    if target is None:
        return False
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if str(target) == "-":
        say(text, end="")
        return True
    from cli._outputs import write_output

    write_output("--json", target, text, overwrite=overwrite)
    return False
