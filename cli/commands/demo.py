"""featbank demo."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, say, write_json
from featbank.runtime.names import printable

if TYPE_CHECKING:
    from featbank.demo import Demo

__all__ = ["command"]


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True,
    help="Folder that gets the runs, the banks, the heads, the results and the report.",
)  # fmt: skip
@options.seed
@options.device
@options.overwrite
@options.json_to
@options.quiet
def command(
    out: Path, seed: int, device: str, overwrite: bool, json_to: Path | None, quiet: bool
) -> None:
    """Train, bank, fit and compare on real images, in about a minute.

    The images are scikit-learn's 8x8 digits, made long-tailed: 100 training images of the most
    frequent digit, 5 of the rarest, and 50 of each to test on. Two networks are trained, one on
    images as they come and one on classes equally often. Nothing is downloaded.
    """
    from cli._outputs import DEMO_FILES, refuse_outputs
    from featbank.demo import demo

    began = time.monotonic()
    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=out, taken=DEMO_FILES)
    made = demo(out, seed=seed, device=device, overwrite=overwrite, reporter=reporter(quiet=quiet))
    if not write_json(json_to, made.fits.to_json(), overwrite=overwrite):
        show(made, out, time.monotonic() - began)


def show(made: Demo, out: Path, seconds: float) -> None:
    """Print the table of heads, the comparison of the two banks, and where to go on."""
    from cli._fit_table import results_table

    shots = made.bank.shots
    print_table(
        f"Digits-LT, {', '.join(made.fits.splits)}, in % "
        f"(many > {shots.many_above}, few < {shots.few_below} images)",
        *results_table(made.fits),
    )
    print_notes(made.fits.notes)
    for line in made.comparison.lines(["all"]):
        say(line)
    say(
        f"{printable(str(out))} holds runs, banks, heads and results.json; open "
        f"{printable(str(out / 'comparison' / 'report.html'))} ({seconds:.0f} s)\n"
        f"next: featbank sweep {printable(str(out / 'instance.zarr'))} --head tau"
    )
