"""featbank fit."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, say, write_json

__all__ = ["command"]


@click.command()
@options.bank
@click.option(
    "--head", "heads", required=True, multiple=True, metavar="SPEC",
    help="Head to fit; may be repeated: joint, ncm, tau, logit-adjust, crt, lws or "
    "balanced-softmax, with parameters as ncm:transform=l2n,metric=cosine. Of a list of values, as "
    "crt:solver=sgd,lr=[0.05,0.1,0.2], all are fitted and the best on --select is kept.",
)  # fmt: skip
@options.out
@options.select
@options.report
@options.seed
@options.device
@options.overwrite
@options.replace_in_place
@options.json_to
@options.quiet
def command(
    bank: Path,
    heads: tuple[str, ...],
    out: Path,
    select: str | None,
    report: str | None,
    seed: int,
    device: str,
    overwrite: bool,
    replace_in_place: bool,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Fit heads on a bank, choose on val, evaluate and save them.

    Writes one .head file per head and results.json into --out. A head whose parameter is left
    open (tau without tau=, crt without weight_decay=) has it chosen on the --select split, by
    the mean of per-class accuracies; every other split but train is reported.

    With --overwrite the heads that the results.json in --out records are replaced when the new
    ones are whole; other files stay.
    """
    import featbank
    from cli._fit_table import results_table
    from cli._outputs import HEAD_FILES, refuse_outputs

    options.check_overwrite(overwrite=overwrite, replace_in_place=replace_in_place)
    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=out, taken=HEAD_FILES)
    fits = featbank.fit(
        bank, heads, select=select, report=report, seed=seed, device=device, out=out,
        overwrite=overwrite, replace_in_place=replace_in_place, reporter=reporter(quiet=quiet),
    )  # fmt: skip
    if not write_json(json_to, fits.to_json(), overwrite=overwrite):
        print_table(f"{bank}, {', '.join(fits.splits)}, in %", *results_table(fits))
        print_notes(fits.notes)
        say(f"heads and results.json are in {out}")
