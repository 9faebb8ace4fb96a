"""featbank sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, say, write_json
from featbank.results.numbers import GROUPS, percent
from featbank.runtime.spec import parse_range

if TYPE_CHECKING:
    from featbank.results.sweep import Sweep

__all__ = ["command"]

# A grid of more points than this is taken for a typing error.
MOST_POINTS = 10_001

TITLES = {"tau": "tau-normalised classifier", "logit-adjust": "logit adjustment"}


@click.command()
@options.bank
@click.option(
    "--head", default="tau", show_default=True, metavar="SPEC",
    help="Head to sweep: tau, logit-adjust, or with --grid tau:bias=keep.",
)  # fmt: skip
@click.option(
    "--range", "ends", default="0:2", show_default=True, metavar="LOW:HIGH",
    help="Range of the parameter that the exact curve covers.",
)  # fmt: skip
@click.option(
    "--grid", metavar="START:STOP:STEP",
    help="Try these points of the parameter instead of computing the exact curve; tau only.",
)  # fmt: skip
@click.option(
    "--rule", type=click.Choice(("one-se", "bootstrap", "maximum")), default="one-se",
    show_default=True,
    help="How the parameter is chosen on the exact curve: one-se and bootstrap take a value that "
    "is stable when rows are resampled, maximum takes the highest point.",
)  # fmt: skip
@click.option(
    "--full",
    is_flag=True,
    help="Also write every breakpoint of the curve into the JSON, as steps.",
)
@options.select
@options.report
@options.seed
@options.device
@options.overwrite_json
@options.json_to
@options.quiet
def command(
    bank: Path,
    head: str,
    ends: str,
    grid: str | None,
    rule: str,
    full: bool,
    select: str | None,
    report: str | None,
    seed: int,
    device: str,
    overwrite: bool,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Show accuracy over a head's parameter, and choose it.

    The curve is exact: every breakpoint, from one product. The parameter is chosen on the
    --select split alone; the --report split is evaluated at the chosen value, and its curve is
    shown for reading, never for choosing.
    """
    import featbank
    from cli._outputs import refuse_outputs

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    curve = featbank.sweep(
        bank, head, span=checked_range(ends), grid=None if grid is None else points(grid),
        rule=rule, select=select, report=report, seed=seed, device=device, full=full,
        reporter=reporter(quiet=quiet),
    )  # fmt: skip
    if not write_json(json_to, curve.to_json(), overwrite=overwrite):
        show(curve, coarse=grid is None)


def checked_range(ends: str) -> tuple[float, float]:
    """Return the ends of the exact curve."""
    low, high = parse_range(ends, 2)
    if low < 0 or low == high:
        message = f"--range {ends}: LOW is at least 0, and below HIGH"
        raise click.UsageError(message)
    return low, high


def points(grid: str) -> list[float]:
    """Return the points of START:STOP:STEP, the stop included where a step lands on it."""
    start, stop, step = parse_range(grid, 3)
    count = int((stop - start) / step + 1e-9) + 1
    if count > MOST_POINTS:
        message = f"--grid {grid} has {count} points; {MOST_POINTS} are the most"
        raise click.UsageError(message)
    return [round(start + index * step, 10) for index in range(count)]


def on_tenths(tau: float) -> bool:
    """Tell whether a parameter is a multiple of 0.1."""
    return abs(tau * 10 - round(tau * 10)) < 1e-9


def show(sweep: Sweep, *, coarse: bool) -> None:
    """Print the curves side by side, the chosen point marked; `coarse` leaves out finer points."""
    chosen, best, names = sweep.selection, sweep.best, list(sweep.curves)
    seen = " (REPORTED)" if sweep.chose_on_reported else ""
    columns = ["tau", *(f"{name} {group}" for name in names for group in GROUPS), ""]
    rows = []
    for index, point in enumerate(sweep.curves[names[0]]):
        tau = float(point["tau"] or 0)
        if coarse and not on_tenths(tau) and tau != best:
            continue
        cells = [percent(sweep.curves[name][index][group]) for name in names for group in GROUPS]
        rows.append([f"{tau:g}", *cells, f"<- chosen{seen}" if tau == best else ""])
    print_table(f"{sweep.bank}: {TITLES[sweep.head]}, accuracy in %", columns, rows)
    maximum = chosen.maximum or {}
    low, high = maximum["interval"]
    say(
        f"tau = {best:g}, chosen on {chosen.split}{seen} by `all` ({chosen.rule}): "
        f"{percent(chosen.value)} there, {percent(sweep.metrics['all'])} on {sweep.report}\n"
        f"the greatest value there, {percent(maximum['value'])}, is reached "
        f"from {low:.4f} to {high:.4f}"
    )
    print_notes(sweep.notes)
