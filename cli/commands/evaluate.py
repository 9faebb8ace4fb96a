"""featbank evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, write_json
from featbank.results.numbers import GROUPS, percent

if TYPE_CHECKING:
    from featbank.results.records import Result

__all__ = ["command"]


@click.command()
@options.bank
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.report
@options.seed
@options.device
@options.overwrite_json
@options.json_to
@options.quiet
def command(
    bank: Path,
    files: tuple[Path, ...],
    report: str | None,
    seed: int,
    device: str,
    overwrite: bool,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Evaluate saved heads on a bank.

    FILES are .head files. A head is used only on features of the network, layer and transform
    that it was fitted on, and on the same classes; anything else is refused.
    """
    import featbank
    from cli._outputs import refuse_outputs

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    fits = featbank.evaluate(
        bank, files, report=report, seed=seed, device=device, reporter=reporter(quiet=quiet)
    )
    if write_json(json_to, fits.to_json(), overwrite=overwrite):
        return
    rows = [row_of(result) for result in fits.results]
    print_table(f"{bank}, in %", ["head", "split", *GROUPS], rows)
    print_notes(fits.notes)


def row_of(result: Result) -> list[str]:
    """Return a line of the table; its split is marked where the head was chosen on it."""
    seen = " (REPORTED)" if result.chose_on_reported else ""
    values = [percent(result.metrics[group]) for group in GROUPS]
    return [str(result.file), f"{result.split}{seen}", *values]
