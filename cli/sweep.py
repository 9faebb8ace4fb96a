"""featbank sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli import options
from cli._show import GROUPS, percent, print_table, write_json
from cli.specs import parse_range, parse_spec

__all__ = ["command"]

# A grid finer than this is a typing error.
MOST_POINTS = 10_001


@click.command()
@options.bank
@click.option("--head", default="tau", show_default=True, metavar="SPEC", help="Head to sweep.")
@click.option(
    "--grid", default="0:2:0.1", show_default=True, metavar="START:STOP:STEP",
    help="Points at which the parameter is tried.",
)  # fmt: skip
@options.select
@options.report
@options.device
@options.json_to
def command(
    bank: Path,
    head: str,
    grid: str,
    select: str | None,
    report: str | None,
    device: str,
    json_to: Path | None,
) -> None:
    """Show accuracy over a head's parameter, and choose it.

    The parameter is chosen on the --select split alone; the --report split is evaluated at the
    chosen value, and its curve is shown for reading, never for choosing.
    """
    from cli._fitting import BankArrays
    from cli._splits import roles
    from featbank import Bank
    from featbank.device import resolve_device

    spec = parse_spec(head)
    if spec.name != "tau" or "tau" in spec.params:
        message = f"--head {head}: only tau has a parameter to sweep, and it must be left open"
        raise click.UsageError(message)
    opened = Bank.open(bank)
    parts = roles(opened, select, report)
    if parts.select is None:
        message = f"{bank} has no val split; name the split to choose on with --select"
        raise click.UsageError(message)
    keep_bias = spec.params.get("bias", "drop") == "keep"
    arrays = BankArrays(opened, str(resolve_device(device)))
    result = sweep_tau(arrays, parts.select, parts.report, points(grid), keep_bias=keep_bias)
    if not write_json(json_to, result):
        show(result, parts.label(parts.select))


def points(grid: str) -> list[float]:
    """Return the points of START:STOP:STEP, the stop included where a step lands on it."""
    start, stop, step = parse_range(grid, 3)
    count = int((stop - start) / step + 1e-9) + 1
    if count > MOST_POINTS:
        message = f"--grid {grid} has {count} points; {MOST_POINTS} are the most"
        raise click.UsageError(message)
    return [round(start + index * step, 10) for index in range(count)]


def sweep_tau(
    arrays: Any, select: str, report: tuple[str, ...], taus: list[float], *, keep_bias: bool
) -> dict[str, Any]:
    """Return the sweep's object of schema 1."""
    from cli._fitting import tau_curve
    from heads.sweep import choose

    wanted = dict.fromkeys((select, *report))
    curves = {name: tau_curve(arrays, name, taus, keep_bias=keep_bias) for name in wanted}
    chosen = choose(curves[select])
    reported = report[-1]
    at_best = next(point for point in curves[reported] if point["tau"] == chosen["best"])
    return {
        "schema": 1,
        "bank": str(arrays.bank.path),
        "head": "tau",
        "parameter": "tau",
        "select": {"split": select, "metric": "all", **chosen},
        "report": {
            "split": reported,
            "metrics": {key: value for key, value in at_best.items() if key != "tau"},
        },
        "curves": curves,
    }


def show(result: dict[str, Any], chosen_on: str) -> None:
    """Print the curves side by side, the chosen point marked."""
    best = result["select"]["best"]
    names = list(result["curves"])
    columns = ["tau", *(f"{name} {group}" for name in names for group in GROUPS), ""]
    rows = []
    for index, point in enumerate(result["curves"][names[0]]):
        cells = [
            percent(result["curves"][name][index][group]) for name in names for group in GROUPS
        ]
        rows.append([f"{point['tau']:g}", *cells, "<- chosen" if point["tau"] == best else ""])
    print_table(f"{result['bank']}: tau-normalised classifier, accuracy in %", columns, rows)
    select, report = result["select"], result["report"]
    click.echo(
        f"tau = {best:g}, chosen on {chosen_on} by `all` ({select['rule']}): "
        f"{percent(select['value'])} there, "
        f"{percent(report['metrics']['all'])} on {report['split']}"
    )
