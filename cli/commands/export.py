"""featbank export."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli._show import say

__all__ = ["command"]


@click.command()
@options.bank
@options.out
@options.overwrite
@options.replace_in_place
@options.quiet
def command(bank: Path, out: Path, overwrite: bool, replace_in_place: bool, quiet: bool) -> None:
    """Write a bank's features, labels and ids into an .npz.

    The names in it are those that featbank import reads.
    """
    from featbank import Bank
    from featbank.bank.export import export_npz

    options.check_overwrite(overwrite=overwrite, replace_in_place=replace_in_place)
    path = export_npz(
        Bank.open(bank), out, overwrite=overwrite, replace_in_place=replace_in_place,
        reporter=reporter(quiet=quiet),
    )  # fmt: skip
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
