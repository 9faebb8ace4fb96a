"""featbank evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, write_json
from featbank.results.numbers import GROUPS, percent

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
    from cli._outputs import refuse_outputs
    from featbank import Bank
    from featbank.runtime.device import resolve_device
    from featbank.study.saved_heads import evaluate_heads, evaluation_json

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    fits = evaluate_heads(
        Bank.open(bank),
        files,
        report,
        seed=seed,
        device=str(resolve_device(device)),
        reporter=reporter(quiet=quiet),
    )
    value = evaluation_json(fits)
    if write_json(json_to, value, overwrite=overwrite):
        return
    print_table(f"{bank}, in %", ["head", "split", *GROUPS], [*map(row_of, value["results"])])
    print_notes(value["notes"])


def row_of(entry: Mapping[str, Any]) -> list[str]:
    """Return a line of the table; its split is marked where the head was chosen on it."""
    seen = " (REPORTED)" if entry["selected_on"] == entry["split"] else ""
    values = [percent(entry["metrics"][group]) for group in GROUPS]
    return [entry["file"], f"{entry['split']}{seen}", *values]
