"""featbank sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, say, write_json
from featbank.results.numbers import GROUPS, percent
from featbank.runtime.names import printable
from featbank.runtime.spec import Spec, parse_range, parse_spec

__all__ = ["command"]

# A grid finer than this is a typing error.
MOST_POINTS = 10_001

TITLES = {"tau": "tau-normalised classifier", "logit-adjust": "logit adjustment"}


@click.command()
@options.bank
@click.option(
    "--head", default="tau", show_default=True, metavar="SPEC",
    help="Head to sweep: tau, tau:bias=keep (with --grid), logit-adjust.",
)  # fmt: skip
@click.option(
    "--range", "ends", default="0:2", show_default=True, metavar="LOW:HIGH",
    help="Range of the exact curve.",
)  # fmt: skip
@click.option(
    "--grid", metavar="START:STOP:STEP",
    help="Try these points instead of computing the exact curve.",
)  # fmt: skip
@click.option(
    "--rule", type=click.Choice(("one-se", "bootstrap", "maximum")), default="one-se",
    show_default=True, help="How the exact curve's parameter is chosen.",
)  # fmt: skip
@click.option("--full", is_flag=True, help="Put every breakpoint into the JSON, as steps.")
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
    from featbank.study.fitting import BankArrays
    from featbank.study.splits import role_notes, roles

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    spec, span = checked_spec(head, grid), checked_range(ends)
    opened = Bank.open(bank)
    parts = roles(opened, select, report)
    if parts.select is None:
        why = "has no val split" if parts.chooser is None else f"cannot be swept: {parts.reason}"
        message = f"{bank} {why}; name the split to choose on with --select"
        raise click.UsageError(printable(message))
    arrays = BankArrays(opened, str(resolve_device(device)), parts.select)
    arrays.classifier(reporter(quiet=quiet))
    wanted = tuple(dict.fromkeys((parts.select, *parts.report)))
    if grid is None:
        result = sweep_exact(arrays, spec.name, wanted, span, rule, seed, full=full)
    else:
        keep_bias = spec.params.get("bias", "drop") == "keep"
        result = sweep_grid(arrays, wanted, points(grid), keep_bias=keep_bias)
    result["notes"] = [*role_notes(opened, parts), *range_notes(result)]
    if not write_json(json_to, result, overwrite=overwrite):
        show(result, parts.label(parts.select), coarse=grid is None)


def checked_spec(head: str, grid: str | None) -> Spec:
    """Return the head to sweep, or say why it has no curve of the kind that is asked for."""
    from heads import specs

    spec = parse_spec(head)
    message = ""
    if spec.name not in ("tau", "logit-adjust") or "tau" in spec.params:
        message = "only tau and logit-adjust have a parameter to sweep, and it must be left open"
    elif grid is None and spec.params.get("bias") == "keep":
        message = "with the bias kept the curve is not exact; give a --grid"
    elif grid is not None and spec.name != "tau":
        message = "its exact curve needs no --grid"
    if message:
        message = f"--head {head}: {message}"
        raise click.UsageError(message)
    specs.build(spec.name, spec.params)  # refuses what would go unseen
    return spec


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


def sweep_exact(
    arrays: Any,
    head: str,
    splits: tuple[str, ...],
    ends: tuple[float, float],
    rule: str,
    seed: int,
    *,
    full: bool,
) -> dict[str, Any]:
    """Return the exact sweep's object of schema 1; the first split chooses."""
    from featbank.study.fitting import exact_curve
    from heads.curves.rules import choose_on_curve

    found = {name: exact_curve(arrays, head, name, ends) for name in splits}
    chosen = choose_on_curve(found[splits[0]], rule, seed=seed)
    curves = {name: sampled(curve, chosen["best"]) for name, curve in found.items()}
    result = result_of(arrays, head, splits, chosen, curves)
    if full:
        result["steps"] = {name: all_steps(curve) for name, curve in found.items()}
    return result


def sampled(curve: Any, best: float) -> list[dict[str, Any]]:
    """Return the curve every 0.05 of its range, at its ends and at the chosen parameter."""
    from heads.curves.curve import samples

    taus = sorted({*samples(curve.low, curve.high).tolist(), best})
    return [{"tau": tau, **curve.at(tau)} for tau in taus]


def all_steps(curve: Any) -> dict[str, Any]:
    """Return every breakpoint, and the value of `all` and of each group between two of them."""
    edges, every = curve.steps("all")
    values = {"all": every.tolist()}
    for group in GROUPS[:3]:
        known = curve.at(curve.low)[group] is not None
        values[group] = curve.steps(group)[1].tolist() if known else None
    return {"edges": edges.tolist(), **values}


def sweep_grid(
    arrays: Any, splits: tuple[str, ...], taus: list[float], *, keep_bias: bool
) -> dict[str, Any]:
    """Return the sweep's object of schema 1, from a grid; the first split chooses."""
    from featbank.study.fitting import tau_curve
    from heads.curves.sweep import choose

    curves = {name: tau_curve(arrays, name, taus, keep_bias=keep_bias) for name in splits}
    return result_of(arrays, "tau", splits, choose(curves[splits[0]]), curves)


def result_of(
    arrays: Any,
    head: str,
    splits: tuple[str, ...],
    chosen: dict[str, Any],
    curves: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    """Put a sweep together: what was chosen on the first split, and the last one at that point."""
    at_best = next(point for point in curves[splits[-1]] if point["tau"] == chosen["best"])
    return {
        "schema": 1,
        "bank": str(arrays.bank.path),
        "head": head,
        "parameter": "tau",
        "select": {"split": splits[0], "metric": "all", **chosen},
        "report": {
            "split": splits[-1],
            "metrics": {key: value for key, value in at_best.items() if key != "tau"},
        },
        "curves": curves,
    }


def range_notes(result: dict[str, Any]) -> list[str]:
    """Say where the chosen parameter is an end of the range, or the best values reach the end."""
    from featbank.study.choosing import end_note

    select = result["select"]
    taus = [point["tau"] for point in result["curves"][select["split"]]]
    return end_note("tau", select["best"], min(taus), max(taus), select["maximum"]["interval"][1])


def on_tenths(tau: float) -> bool:
    """Tell whether a parameter is a multiple of 0.1."""
    return abs(tau * 10 - round(tau * 10)) < 1e-9


def show(result: dict[str, Any], chosen_on: str, *, coarse: bool) -> None:
    """Print the curves side by side, the chosen point marked; `coarse`ly every 0.1 and that."""
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
