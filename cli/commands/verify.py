"""featbank verify."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli._show import say, write_json
from featbank.runtime.names import printable

__all__ = ["command"]


@click.command()
@options.bank
@options.overwrite_json
@options.json_to
@options.quiet
def command(bank: Path, overwrite: bool, json_to: Path | None, quiet: bool) -> None:
    """Read and check every byte of a bank; name what is damaged.

    Exits with 4 where anything is not what was written. Damaged rows are made again by running
    the extraction that made the bank once more.
    """
    from cli._outputs import refuse_outputs
    from featbank import Bank
    from featbank.bank.verify import verify

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    found = verify(Bank.open(bank), reporter(quiet=quiet))
    taken = write_json(json_to, found.to_json(), overwrite=overwrite)
    if not taken:
        for line in (*found.wrong, *found.notes):
            say(printable(line))
    found.require_sound()
    if not taken:
        say(f"{found.bank}: sound; {found.n_chunks} chunks, {found.n_bytes / 1e6:.1f} MB")
