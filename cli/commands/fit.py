"""featbank fit."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, say, write_json
from featbank.runtime.spec import parse_spec

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
    from cli._fit_table import results_table
    from cli._outputs import HEAD_FILES, refuse_outputs
    from featbank import Bank
    from featbank.runtime.device import resolve_device
    from featbank.study.fitting import fit_heads
    from featbank.study.splits import roles

    options.check_overwrite(overwrite=overwrite, replace_in_place=replace_in_place)
    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=out, taken=HEAD_FILES)
    specs = [parse_spec(text) for text in heads]
    opened = Bank.open(bank)
    parts = roles(opened, select, report)
    results = fit_heads(
        opened,
        specs,
        out,
        parts,
        seed=seed,
        device=str(resolve_device(device)),
        overwrite=overwrite,
        in_place=replace_in_place,
        reporter=reporter(quiet=quiet),
    )
    if not write_json(json_to, results, overwrite=overwrite):
        print_table(f"{bank}, {', '.join(parts.report)}, in %", *results_table(results, parts))
        print_notes(results["notes"])
        say(f"heads and results.json are in {out}")
