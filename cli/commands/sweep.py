"""featbank sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, say, write_json
from featbank.results.numbers import GROUPS, percent
from featbank.runtime.spec import parse_range, parse_spec

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
    from cli._outputs import refuse_outputs
    from featbank import Bank
    from featbank.runtime.device import resolve_device
    from featbank.study.splits import roles
    from featbank.study.sweeping import check_sweep, sweep_splits

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    spec, span = parse_spec(head), checked_range(ends)
    check_sweep(spec, exact=grid is None)
    opened = Bank.open(bank)
    parts = roles(opened, select, report)
    result = sweep_splits(
        opened,
        spec,
        parts,
        span=span,
        grid=None if grid is None else points(grid),
        rule=rule,
        seed=seed,
        device=str(resolve_device(device)),
        full=full,
        reporter=reporter(quiet=quiet),
    )
    if not write_json(json_to, result, overwrite=overwrite):
        show(result, parts.label(parts.select), coarse=grid is None)


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


def show(result: dict[str, Any], chosen_on: str, *, coarse: bool) -> None:
    """Print the curves side by side, the chosen point marked; `coarse` leaves out finer points."""
    best = result["select"]["best"]
    names = list(result["curves"])
    columns = ["tau", *(f"{name} {group}" for name in names for group in GROUPS), ""]
    rows = []
    mark = "<- chosen (REPORTED)" if "REPORTED" in chosen_on else "<- chosen"
    for index, point in enumerate(result["curves"][names[0]]):
        if coarse and not on_tenths(point["tau"]) and point["tau"] != best:
            continue
        cells = [
            percent(result["curves"][name][index][group]) for name in names for group in GROUPS
        ]
        rows.append([f"{point['tau']:g}", *cells, mark if point["tau"] == best else ""])
    print_table(f"{result['bank']}: {TITLES[result['head']]}, accuracy in %", columns, rows)
    select, report = result["select"], result["report"]
    low, high = select["maximum"]["interval"]
    say(
        f"tau = {best:g}, chosen on {chosen_on} by `all` ({select['rule']}): "
        f"{percent(select['value'])} there, "
        f"{percent(report['metrics']['all'])} on {report['split']}\n"
        f"the greatest value there, {percent(select['maximum']['value'])}, is reached "
        f"from {low:.4f} to {high:.4f}"
    )
    print_notes(result["notes"])
