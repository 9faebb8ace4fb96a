"""featbank import."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli.specs import parse_shots

__all__ = ["command"]


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@options.out
@options.dtype
@options.shots
@options.overwrite
@options.quiet
def command(
    source: Path, out: Path, dtype: str | None, shots: str | None, overwrite: bool, quiet: bool
) -> None:
    """Make a bank of features that exist in a file.

    SOURCE is an .npz with the keys train_features (N, D) and train_labels (N,), the same for val
    and test or any other split, and optionally <split>_ids, weight (C, D), bias (C,) and
    class_names. Only train is required.
    """
    from featbank import Bank, Shots
    from featbank.importing import import_features

    thresholds = parse_shots(shots)
    import_features(
        source,
        out,
        dtype=dtype,
        shots=Shots(*thresholds) if thresholds else None,
        overwrite=overwrite,
        reporter=reporter(quiet=quiet),
    )
    click.echo(repr(Bank.open(out)).strip("<>"))
