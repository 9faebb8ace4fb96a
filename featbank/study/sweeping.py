"""Accuracy over a head's parameter: the exact curve, or points of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from featbank.bank.bank import Bank
from featbank.errors import UsageError
from featbank.results.numbers import GROUPS
from featbank.results.records import Selection
from featbank.results.sweep import Sweep
from featbank.runtime.names import printable
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec
from featbank.study.arrays import BankArrays
from featbank.study.choosing import TAU_RANGE, exact_curve, tau_metrics
from featbank.study.ends import end_note
from featbank.study.splits import Roles, role_notes
from heads import specs
from heads.curves.chosen import Chosen
from heads.curves.curve import samples
from heads.curves.rules import choose_on_curve
from heads.curves.sweep import choose

__all__ = ["check_sweep", "sweep_splits"]

# A parameter of a curve, and the accuracies there, by name.
Point = Mapping[str, float | None]


def check_sweep(spec: Spec, *, exact: bool) -> None:
    """Refuse a head that has no curve of the kind that is asked for: exact, or over a grid.

    Raises
    ------
    UsageError
        The message says which heads have one.
    HeadSpecError
        A parameter of the head that is not allowed.
    """
    message = ""
    if spec.name not in ("tau", "logit-adjust") or "tau" in spec.params:
        message = "only tau and logit-adjust have a parameter to sweep, and it must be left open"
    elif exact and spec.params.get("bias") == "keep":
        message = "with the bias kept the curve is not exact; give a --grid"
    elif not exact and spec.name != "tau":
        message = "its exact curve needs no --grid"
    if message:
        message = f"--head {spec}: {message}"
        raise UsageError(message)
    specs.build(spec.name, spec.params)  # refuses what would go unseen


def sweep_splits(
    bank: Bank,
    spec: Spec,
    roles: Roles,
    *,
    span: tuple[float, float] = TAU_RANGE,
    grid: Sequence[float] | None = None,
    rule: str = "one-se",
    seed: int = 0,
    device: str = "cpu",
    full: bool = False,
    reporter: Reporter = SILENT,
) -> Sweep:
    """Return curves of every split, and the parameter chosen on the one that selects.

    Parameters
    ----------
    bank : Bank
    spec : Spec
        ``tau`` or ``logit-adjust``; see `check_sweep`.
    roles : Roles
        The split that chooses and those that are reported.
    span : tuple of two floats
        The range of the exact curve.
    grid : sequence of float, optional
        Points to try in place of the exact curve.
    rule : {"one-se", "bootstrap", "maximum"}
        How the exact curve's parameter is chosen: see `heads.curves.rules`.
    seed : int
        Seed of the rule that draws.
    device : str
        Where products are computed.
    full : bool
        Add every breakpoint of the exact curves, as `steps`.
    reporter : Reporter
        Is told what takes time.

    Raises
    ------
    UsageError
        There is no split to choose on.
    """
    if roles.select is None:
        why = "has no val split" if roles.chooser is None else f"cannot be swept: {roles.reason}"
        message = f"{bank.path} {why}; name the split to choose on with --select"
        raise UsageError(printable(message))
    arrays = BankArrays(bank, device, roles.select)
    arrays.classifier(reporter)
    wanted = tuple(dict.fromkeys((roles.select, *roles.report)))
    if grid is None:
        found = sweep_exact(arrays, spec.name, wanted, span, rule, seed, full=full)
    else:
        keep_bias = spec.params.get("bias", "drop") == "keep"
        found = sweep_grid(arrays, wanted, grid, keep_bias=keep_bias)
    return replace(found, notes=(*role_notes(bank, roles), *range_notes(found)))


def sweep_exact(
    arrays: BankArrays,
    head: str,
    splits: tuple[str, ...],
    ends: tuple[float, float],
    rule: str,
    seed: int,
    *,
    full: bool,
) -> Sweep:
    """Return the exact sweep of some splits, of which the first chooses.

    Parameters
    ----------
    arrays : BankArrays
    head : {"tau", "logit-adjust"}
        The head's name.
    splits : tuple of str
        The first one chooses, the last one is reported.
    ends : tuple of two floats
        The range of tau.
    rule, seed, full
        As in `sweep_splits`.
    """
    found = {name: exact_curve(arrays, head, name, ends) for name in splits}
    chosen = choose_on_curve(found[splits[0]], rule, seed=seed)
    curves = {name: sampled(curve, chosen.best) for name, curve in found.items()}
    sweep = sweep_of(arrays, head, splits, chosen, curves)
    return replace(
        sweep, steps={name: all_steps(of) for name, of in found.items()} if full else None
    )


def sampled(curve: Any, best: float) -> list[Point]:
    """Return the curve every 0.05 of its range, at its ends and at the chosen parameter."""
    taus = sorted({*samples(curve.low, curve.high).tolist(), best})
    return [{"tau": tau, **curve.at(tau)} for tau in taus]


def all_steps(curve: Any) -> dict[str, list[float] | None]:
    """Return every breakpoint, and the value of `all` and of each group between two of them."""
    edges, every = curve.steps("all")
    values = {"all": every.tolist()}
    for group in GROUPS[:3]:
        known = curve.at(curve.low)[group] is not None
        values[group] = curve.steps(group)[1].tolist() if known else None
    return {"edges": edges.tolist(), **values}


def sweep_grid(
    arrays: BankArrays, splits: tuple[str, ...], taus: Sequence[float], *, keep_bias: bool
) -> Sweep:
    """Return the sweep of some splits over a grid; the first split chooses.

    Parameters
    ----------
    arrays, splits
        As in `sweep_exact`.
    taus : sequence of float
        The grid.
    keep_bias : bool
        As in `featbank.study.choosing.tau_metrics`.
    """
    curves = {name: tau_metrics(arrays, name, taus, keep_bias=keep_bias) for name in splits}
    return sweep_of(arrays, "tau", splits, choose(curves[splits[0]]), curves)


def sweep_of(
    arrays: BankArrays,
    head: str,
    splits: tuple[str, ...],
    chosen: Chosen,
    curves: Mapping[str, Sequence[Point]],
) -> Sweep:
    """Put a sweep together: what was chosen on the first split, and the last one at that point.

    Parameters
    ----------
    arrays, head, splits
        As in `sweep_exact`.
    chosen : Chosen
        How tau was chosen on the first split.
    curves : mapping
        Of each split, by name, the points of its curve: ``tau`` and the accuracies there by name.
        The chosen tau is among those of the last split.
    """
    at_best = next(point for point in curves[splits[-1]] if point["tau"] == chosen.best)
    return Sweep(
        bank=str(arrays.bank.path),
        head=head,
        parameter="tau",
        selection=Selection.on_curve(splits[0], chosen),
        report=splits[-1],
        metrics={key: value for key, value in at_best.items() if key != "tau"},
        curves=curves,
    )


def range_notes(sweep: Sweep) -> list[str]:
    """Say where the chosen parameter is an end of the range, or the best values reach the end."""
    chosen = sweep.selection
    taus = [float(point["tau"] or 0) for point in sweep.curves[str(chosen.split)]]
    reaches = (chosen.maximum or {})["interval"][1]
    return end_note("tau", chosen.best, min(taus), max(taus), reaches)
