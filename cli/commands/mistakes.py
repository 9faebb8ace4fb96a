"""featbank mistakes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, say, write_json
from featbank.runtime.names import printable

if TYPE_CHECKING:
    from featbank.results.tables import Table

__all__ = ["command"]

# Columns that hold names, which share what the others leave of a terminal's width, at least so many
# characters each; and columns that are left out where that is too little.
NAMES, FEWEST = {"id", "true", "predicted", "class", "taken for"}, 9
DISPENSABLE = ("true_probability", "F1", "precision", "train rows", "group")


@click.command()
@options.bank
@click.argument("head", type=click.Path(path_type=Path))
@options.out
@options.report
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True,
    help="Mistakes, and classes, that are shown on the terminal; the files hold all.",
)  # fmt: skip
@options.device
@options.overwrite
@options.json_to
@options.quiet
def command(
    bank: Path,
    head: Path,
    out: Path,
    report: str | None,
    top: int,
    device: str,
    overwrite: bool,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Show what a saved head gets wrong: rows, classes, confusions.

    HEAD is a .head file that was fitted on features like the bank's. --out gets mistakes.csv, every
    wrong row, the most confident first; classes.csv, support, precision, recall and F1 of each
    class; confusion.csv, the confusion matrix, or, of more than 100 classes, a line
    true,predicted,count for each of its cells that is not 0; and mistakes.json, all of it.
    """
    import featbank
    from cli._outputs import MISTAKES_FILES, refuse_outputs

    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=out, taken=MISTAKES_FILES)
    found = featbank.mistakes(
        bank, head, report=report, device=device, out=out, overwrite=overwrite,
        reporter=reporter(quiet=quiet),
    )  # fmt: skip
    if write_json(json_to, found.to_json(), overwrite=overwrite):
        return
    if found.wrong:
        show(found.table(top))
        show(found.worst_classes(top))
    print_notes(found.notes)
    say(f"{printable(found.sentence())} Everything is in {printable(str(out))}.")


def show(table: Table) -> None:
    """Print a table, as wide as the terminal allows."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    columns, rows = laid_out(table, width)
    print_table(table.title, columns, rows)


def laid_out(table: Table, width: int | None) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the cells of a table that has to fit into `width` characters.

    Where that is too little, columns are left out and names are cut at their start, but no number.
    """
    from featbank.results.tables import shown

    columns = list(table.columns)
    lines = [dict(zip(columns, map(shown, row), strict=True)) for row in table.rows]
    if width is not None:
        for name in DISPENSABLE:
            if name in columns and width < needed(columns, lines, FEWEST):
                columns.remove(name)
        names = NAMES.intersection(columns)
        most = max(FEWEST, (width - needed(columns, lines, 0)) // len(names))
        lines = [line | {name: short(line[name], most) for name in names} for line in lines]
    return columns, [[line[name] for name in columns] for line in lines]


def needed(columns: Iterable[str], lines: list[dict[str, str]], names: int) -> int:
    """Return the width of a table whose names are cut to `names` characters."""
    return sum(
        3 + (names if name in NAMES else max(len(name), *(len(line[name]) for line in lines)))
        for name in columns
    )


def short(text: str, most: int) -> str:
    """Cut a long name at its beginning: of a path the end tells most."""
    return text if len(text) <= most else f"…{text[1 - most :]}"
