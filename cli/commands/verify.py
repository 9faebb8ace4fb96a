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
    from featbank import Bank, DamagedError
    from featbank.bank.verify import verify

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    opened = Bank.open(bank)
    total = sum(len(record.chunks) for record in opened.manifest.arrays.values())
    with reporter(quiet=quiet).track("verify", total, "chunks") as advance:
        report = verify(opened, advance)
    findings = [str(damage) for damage in report.damage] + list(report.findings)
    facts = {"schema": 1, "bank": str(bank), "chunks": report.n_chunks, "bytes": report.n_bytes}
    taken = write_json(
        json_to,
        {**facts, "sound": report.sound, "findings": findings, "notes": report.notes},
        overwrite=overwrite,
    )
    if not taken:
        for finding in (*findings, *report.notes):
            say(printable(finding))
    if not report.sound:
        message = (
            f"{bank} is damaged in {len(findings)} places; "
            "run the extraction or import that made it again"
        )
        raise DamagedError(message)
    if not taken:
        say(f"{bank}: sound; {report.n_chunks} chunks, {report.n_bytes / 1e6:.1f} MB")
