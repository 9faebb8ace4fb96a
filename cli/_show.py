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
    """Print a table; the first column to the left, numbers to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    say(title)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numeric = (*GROUPS, *NUMERIC)
    for name in columns:
        table.add_column(name, justify="right" if name.endswith(numeric) else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    needed = sum(
        max(len(printable(line[k])) for line in (columns, *rows)) + 3 for k in range(len(columns))
    )
    width = (
        None if sys.stdout.isatty() else max(120, needed)
    )  # a file is as wide as the table needs
    with printing():
        Console(width=width, highlight=False, markup=False, emoji=False).print(table)


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
