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
@click.argument("what", type=click.Path(path_type=Path), metavar="BANK|MODEL")
@click.option(
    "--trust", is_flag=True,
    help="Also run a model's pt2 program, which can run code of whoever wrote it.",
)  # fmt: skip
@options.overwrite_json
@options.json_to
@options.quiet
def command(what: Path, trust: bool, overwrite: bool, json_to: Path | None, quiet: bool) -> None:
    """Check every byte of a bank or a model; name what is damaged.

    Exits with 4 where anything is not what was written. Damaged rows of a bank are made again by
    running the extraction that made it once more. A model is also run on its own pictures, whose
    scores must be those that it had when it was exported.
    """
    from cli._outputs import refuse_outputs
    from featbank.serving.recognising import is_model

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    if is_model(what):
        verify_model(what, json_to, overwrite=overwrite, trust=trust)
    else:
        verify_bank(what, json_to, overwrite=overwrite, quiet=quiet)


def verify_bank(bank: Path, json_to: Path | None, *, overwrite: bool, quiet: bool) -> None:
    """Check a bank, and say what is wrong with it.

    Parameters
    ----------
    bank : Path
    json_to : Path, optional
        Where the record goes.
    overwrite : bool
        Whether a record that is there is replaced.
    quiet : bool
        Whether no progress is shown.
    """
    from featbank import Bank
    from featbank.bank.verify import verify

    found = verify(Bank.open(bank), reporter(quiet=quiet))
    taken = write_json(json_to, found.to_json(), overwrite=overwrite)
    if not taken:
        for line in (*found.wrong, *found.notes):
            say(printable(line))
    found.require_sound()
    if not taken:
        say(f"{found.bank}: sound; {found.n_chunks} chunks, {found.n_bytes / 1e6:.1f} MB")


def verify_model(model: Path, json_to: Path | None, *, overwrite: bool, trust: bool) -> None:
    """Check the folder of an exported model, and run its self-test.

    Parameters
    ----------
    model : Path
    json_to, overwrite
        As in `verify_bank`.
    trust : bool
        Whether a pt2 program may be run.
    """
    from featbank.runtime.device import resolve_device
    from featbank.serving.folder import prove

    proof = prove(model, resolve_device("cpu"), trust=trust)
    if not write_json(json_to, proof.to_json(), overwrite=overwrite):
        say(
            f"{printable(str(model))}: sound; {proof.contents.format}, {proof.n_bytes / 1e6:.1f} "
            f"MB; its pictures score as at export, to {proof.difference:.1g}"
        )
