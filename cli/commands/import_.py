"""featbank import."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli._show import say, write_json
from featbank.runtime.names import printable
from featbank.runtime.spec import parse_shots

__all__ = ["command"]


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.out
@click.option(
    "--map", "mapping", multiple=True, metavar="NAME=THEIRS",
    help="Name that the files have for an array, as train_features=X_train; may be repeated. Only "
    "the arrays that are named are then taken.",
)  # fmt: skip
@options.dtype
@click.option(
    "--allow-rounding", is_flag=True,
    help="Store features even where --dtype rounds away what tells rows apart; the bank records "
    "it.",
)  # fmt: skip
@click.option(
    "--strict", is_flag=True,
    help="Refuse ids that stand in two splits, or in one under two labels, instead of warning of "
    "them.",
)  # fmt: skip
@options.shots
@options.overwrite
@options.replace_in_place
@options.json_to
@options.quiet
def command(
    sources: tuple[Path, ...],
    out: Path,
    mapping: tuple[str, ...],
    dtype: str | None,
    allow_rounding: bool,
    strict: bool,
    shots: str | None,
    overwrite: bool,
    replace_in_place: bool,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Make a bank of features that exist in files.

    SOURCES (.npz, .npy, .safetensors, .pt, .pth, or the .pkl of the code of Kang et al.) hold
    train_features (N, D) and train_labels (N,), the same for val and test or any other split, and
    optionally <split>_ids, weight (C, D), bias (C,) and class_names. Only train is required. A
    .npy, or a .pt of one tensor, is named by its file. Files are checked before they are used, and
    nothing in them is ever run.
    """
    from cli._outputs import BANK_FILES, refuse_outputs
    from featbank import Bank, Shots
    from featbank.bank.facts import bank_facts
    from featbank.importing import import_features

    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=out, taken=BANK_FILES)
    options.check_overwrite(overwrite=overwrite, replace_in_place=replace_in_place)
    thresholds = parse_shots(shots)
    import_features(
        sources,
        out,
        mapping=dict(parse_pair(text) for text in mapping),
        dtype=dtype,
        allow_rounding=allow_rounding,
        strict=strict,
        shots=Shots(*thresholds) if thresholds else None,
        overwrite=overwrite,
        replace_in_place=replace_in_place,
        reporter=reporter(quiet=quiet),
    )
    bank = Bank.open(out)
    if not write_json(json_to, bank_facts(bank).to_json(), overwrite=overwrite):
        say(printable(repr(bank).strip("<>")))


def parse_pair(text: str) -> tuple[str, str]:
    """Parse ``NAME=THEIRS``."""
    name, equals, theirs = text.partition("=")
    if not (name and equals and theirs):
        message = f"--map {text}: write NAME=THEIRS, as train_features=X_train"
        raise click.UsageError(message)
    return name, theirs
