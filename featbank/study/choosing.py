"""Fitting a head as its specification says: one point, a choice on val, or a grid."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import compress
from statistics import mean
from typing import Any

import heads
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec
from featbank.study.arrays import BankArrays
from featbank.study.splits import Roles
from heads import specs
from heads.curves import curve, rules, sweep
from heads.errors import HeadInputError
from heads.specs import Point

__all__ = [
    "TAU_RANGE",
    "Fit",
    "defaults_of",
    "end_note",
    "ends_of",
    "exact_curve",
    "fit_one",
    "points_of",
    "tau_metrics",
    "timed_fit",
]

# A fitted head, how its parameters were chosen, and the points that were tried.
Fit = tuple[Any, dict[str, Any] | None, list[dict[str, Any]]]

# The range on which tau is chosen where nothing else is said, that of the paper's code.
TAU_RANGE = (0.0, 2.0)


def default_taus() -> list[float]:
    """Return the grid of the paper's code: 0 to 2 in steps of 0.1."""
    return [round(0.1 * step, 1) for step in range(21)]


def fit_one(arrays: BankArrays, spec: Spec, roles: Roles, seed: int, reporter: Reporter) -> Fit:
    """Fit one head; return it, how its parameters were chosen, and the points that were tried."""
    points = points_of(spec, roles)
    if len(points) == 1:
        fit = fit_point(arrays, spec.name, points[0], roles, seed, reporter)
    else:
        fit = fit_grid(arrays, spec.name, points, roles, seed, reporter)
    return with_stage1(arrays, spec, fit)


def timed_fit(
    arrays: BankArrays, spec: Spec, roles: Roles, seed: int, reporter: Reporter
) -> tuple[Any, dict[str, Any] | None, list[dict[str, Any]], float]:
    """Return what `fit_one` does, and the seconds that it took.

    What the heads of a bank share is done before the clock starts, so that the time of a head does
    not depend on which heads came before it: reading the features, and fitting the linear
    classifier that stands in where stage 1 left none.
    """
    for point in points_of(spec, roles):
        arrays.train(build(arrays, spec.name, point, seed, reporter))
    if roles.select is not None:
        arrays[roles.select]
    started = time.perf_counter()
    fit = fit_one(arrays, spec, roles, seed, reporter)
    return (*fit, time.perf_counter() - started)


def with_stage1(arrays: BankArrays, spec: Spec, fit: Fit) -> Fit:
    """Say in how a head was chosen what its stage-1 classifier is, where that was fitted here."""
    head, chosen, tried = fit
    started_there = specs.needs_stage1(spec.name, spec.params) and spec.name != "joint"
    if arrays.bank.classifier is not None or not started_there:
        return fit
    own, points = arrays.fitted_here(SILENT)
    about: dict[str, Any] = {"weight_decay": own.weight_decay_, "rule": "features' scale"}
    if arrays.select is not None:
        about = path_choice(own, points, arrays.select)[0]
        chosen = chosen or {"split": arrays.select, "metric": "all"}
    return head, {**(chosen or {}), "stage1": about}, tried


def points_of(spec: Spec, roles: Roles) -> list[Point]:
    """Return the points of a specification; without a split to choose on there can be but one."""
    points = specs.expand(spec.name, spec.params)
    n_heads = sum(len(point.path or "1") for point in points)
    if n_heads > 1 and roles.select is None:
        why = "there is no val split to choose on" if roles.chooser is None else roles.reason
        message = (
            f"{spec} lists {n_heads} heads, and {why}: give single values, or name a split with "
            "--select"
        )
        raise HeadInputError(message)
    return points


def fit_point(
    arrays: BankArrays, name: str, point: Point, roles: Roles, seed: int, reporter: Reporter
) -> Fit:
    """Fit one point of a specification; what it leaves open is chosen on val."""
    if name == "joint" and not names_decay(point) and arrays.bank.classifier is None:
        head, tried = arrays.fitted_here(reporter)
        if arrays.select is None:
            return head, None, []
        return head, *path_choice(head, tried, arrays.select)
    head = build(arrays, name, point, seed, reporter)
    if roles.select is None or not is_open(name, point, head):
        return head.fit(*arrays.train(head)), None, []
    if not specs.has_path(head):
        chosen, tried = choose_tau(arrays, name, head, roles.select)
        return head.set_params(tau=chosen["best"]).fit(*arrays["train"]), chosen, tried
    splits = (*arrays.train(head), *arrays[roles.select], arrays.groups)
    points = head.fit_path(*splits, weight_decays=point.path)
    return head, *path_choice(head, points, roles.select)


def build(arrays: BankArrays, name: str, point: Point, seed: int, reporter: Reporter) -> Any:
    """Build the head of a point, with the bank's stage-1 classifier where it starts from one."""
    weight, bias = None, None
    if name == "joint" and names_decay(point):
        refuse_to_refit(arrays)
    elif specs.needs_stage1(name, point.params):
        weight, bias = arrays.classifier(reporter)
    head = specs.build(name, point.params, weight=weight, bias=bias, random_state=seed)
    if getattr(head, "solver", "") == "sgd" and "views" not in point.params:
        head.set_params(views=arrays.bank["train"].n_views)  # what they were banked for
    return head


def names_decay(point: Point) -> bool:
    """Tell whether a point says at which weight decay to fit, or at which of several."""
    return "weight_decay" in point.params or point.path is not None


def refuse_to_refit(arrays: BankArrays) -> None:
    """Refuse a weight decay for a linear classifier that stage 1 has trained already."""
    if arrays.bank.classifier is not None:
        message = (
            f"joint:weight_decay: {arrays.bank.path} has stage 1's classifier, which joint takes "
            "as it is; crt:q=1 fits one anew on natural sampling"
        )
        raise HeadInputError(message)


def is_open(name: str, point: Point, head: Any) -> bool:
    """Tell whether a point leaves open what can be chosen on val."""
    return specs.has_path(head) or (name in ("tau", "logit-adjust") and "tau" not in point.params)


def defaults_of(spec: Spec, head: Any, chosen: dict[str, Any] | None) -> dict[str, float]:
    """Return the parameters of a fitted head that were left open and not chosen, by name."""
    points = specs.expand(spec.name, spec.params)
    # A selection without a split only tells of a stage-1 classifier that was fitted here.
    was_chosen = chosen is not None and "split" in chosen
    if was_chosen or len(points) > 1 or not is_open(spec.name, points[0], head):
        return {}
    key = "weight_decay" if specs.has_path(head) else "tau"
    return {key: float(specs.describe(head)[key])}


def ends_of(chosen: dict[str, Any] | None, tried: Sequence[dict[str, Any]]) -> list[str]:
    """Name the parameters that were chosen at an end of what was tried: better may lie beyond it.

    What was tried of a parameter is what was tried beside the chosen values of the others. Of two
    values one is always an end, and a seed has no beyond; neither is named.
    """
    best = chosen_values(chosen, tried)
    said = []
    for key, value in best.items():
        others = without(best, (key,))
        beside = [point["params"] for point in tried if others.items() <= point["params"].items()]
        numbers = sorted({float(each[key]) for each in beside if is_number(each.get(key))})
        if key != "seed" and is_number(value) and len(numbers) > 2:
            said += end_note(key, float(value), numbers[0], numbers[-1], upper_end(chosen))
    return said


def end_note(key: str, value: float, low: float, high: float, reaches: float | None) -> list[str]:
    """Say where a chosen value is an end of its range, or where the best values reach the end."""
    if value in (low, high):
        return [f"{key}={value:g} is the end of the range {low:g}..{high:g}"]
    if reaches is not None and reaches >= high:
        return [f"the best values reach from {key}={value:g} to the end of {low:g}..{high:g}"]
    return []


def upper_end(chosen: dict[str, Any] | None) -> float | None:
    """Return where the interval of the best values of a curve ends, where there is one."""
    inner = (chosen or {}).get("then") or chosen or {}
    interval = (inner.get("maximum") or {}).get("interval")
    return None if interval is None else float(interval[1])


def chosen_values(chosen: dict[str, Any] | None, tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what was chosen, by parameter, what was chosen within a grid's point too."""
    if chosen is None or not tried:
        return {}
    keys = chosen.get("grid") or list(tried[0]["params"])
    best = chosen["best"] if isinstance(chosen["best"], dict) else {keys[0]: chosen["best"]}
    inner = [point for point in tried if best.items() <= point["params"].items()]
    bare = [{"params": without(point["params"], best)} for point in inner]
    return best | chosen_values(chosen.get("then"), bare)


def without(params: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return parameters but for some."""
    return {key: value for key, value in params.items() if key not in keys}


def is_number(value: Any) -> bool:
    """Tell whether a parameter's value is a number; True and False are words here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def fit_grid(
    arrays: BankArrays,
    name: str,
    points: Sequence[Point],
    roles: Roles,
    seed: int,
    reporter: Reporter,
) -> Fit:
    """Fit every point, together where that saves passes, and keep the best on val.

    Rule: the largest `all`; of runs of equally good neighbours in the order of the specification
    the longest, and its middle. Points that differ in their seed alone count as one, by their mean,
    and the first seed's head is kept: the luckiest is not the best.
    """
    split = str(roles.select)
    fits = fit_points(arrays, name, points, roles, seed, reporter)
    measured = [arrays.measure(head, split) for head, _, _ in fits]
    kinds = seedless(points)
    scores = [mean(measured[place]["all"] or 0 for place in kind) for kind in kinds]
    _, middle, _ = sweep.widest_maximum(range(len(kinds)), scores)
    kept = kinds[middle][0]
    chosen, varied = points[kept], [*points[kept].varied]
    summary = {
        "split": split,
        "metric": "all",
        "rule": "maximum",
        "grid": varied,
        "best": chosen.varied if len(varied) > 1 else chosen.varied[varied[0]],
        "value": scores[middle],
        "maximum": {"value": max(scores), **chosen.varied},
        "points": len(points),
        "seeds": len(kinds[middle]),
    }
    head, inner, _ = fits[kept]
    if inner is not None:
        summary["then"] = inner
    tried = [
        entry
        for point, fit, found in zip(points, fits, measured, strict=True)
        for entry in entries(point, fit, split, found)
    ]
    return head, summary, tried


def fit_points(
    arrays: BankArrays,
    name: str,
    points: Sequence[Point],
    roles: Roles,
    seed: int,
    reporter: Reporter,
) -> list[Fit]:
    """Fit every point: those that leave something open in turn, all others in one call."""
    built = [build(arrays, name, point, seed, reporter) for point in points]
    closed = [not is_open(name, *pair) for pair in zip(points, built, strict=True)]
    together: dict[int, list[Any]] = {}
    for head in compress(built, closed):
        together.setdefault(getattr(head, "views", 0), []).append(head)
    for some in together.values():
        heads.fit_many(some, *arrays.train(some[0]))
    return [
        (head, None, []) if done else fit_point(arrays, name, point, roles, seed, reporter)
        for head, point, done in zip(built, points, closed, strict=True)
    ]


def seedless(points: Sequence[Point]) -> list[list[int]]:
    """Return the places of points that differ in nothing but their seed, together."""
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for place, point in enumerate(points):
        kind = tuple((key, value) for key, value in point.params.items() if key != "seed")
        kinds.setdefault(kind, []).append(place)
    return list(kinds.values())


def entries(point: Point, fit: Fit, split: str, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the candidates of a point: those that were tried inside it, or the point itself."""
    inside = fit[2] or [{"params": {}, "split": split, "metrics": measured}]
    return [{**entry, "params": point.varied | entry["params"]} for entry in inside]


def path_choice(
    head: Any, points: list[dict[str, Any]], split: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return how the weight decay was chosen on a path, and the points that were tried."""
    best = max(points, key=lambda point: point["metrics"]["all"])
    same = [point for point in points if point["weight_decay"] == head.weight_decay]
    chosen = max(same, key=lambda point: point["metrics"]["all"])
    tried = [
        {
            "params": {"weight_decay": point["weight_decay"]},
            "split": split,
            "metrics": point["metrics"],
        }
        for point in points
    ]
    summary = {
        "split": split,
        "metric": "all",
        "rule": "maximum",
        "best": head.weight_decay,
        "value": chosen["metrics"]["all"],
        "maximum": {"value": best["metrics"]["all"], "weight_decay": best["weight_decay"]},
    }
    return summary, tried


def choose_tau(
    arrays: BankArrays, name: str, head: Any, split: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Choose tau on the exact curve (with a bias kept: on a grid); return how, and points of it."""
    if name == "tau" and head.keep_bias:
        points = tau_metrics(arrays, split, default_taus(), keep_bias=True)
        chosen = sweep.choose(points)
    else:
        found = exact_curve(arrays, name, split, TAU_RANGE)
        chosen = rules.choose_on_curve(found)
        taus = sorted({*default_taus(), chosen["best"]})
        points = [{"tau": tau, **found.at(tau)} for tau in taus]
    tried = [
        {
            "params": {"tau": point["tau"]},
            "split": split,
            "metrics": {key: value for key, value in point.items() if key != "tau"},
        }
        for point in points
    ]
    return {"split": split, "metric": "all", **chosen}, tried


def exact_curve(arrays: BankArrays, head: str, split: str, ends: tuple[float, float]) -> Any:
    """Return the exact curve of `tau` or `logit-adjust` on one split."""
    weight, bias = arrays.classifier(SILENT)
    X, y = arrays[split]
    low, high = ends
    if head == "tau":
        return curve.exact_tau_curve(weight, X, y, arrays.groups, low=low, high=high)
    return curve.exact_adjust_curve(weight, bias, X, y, arrays.groups, low=low, high=high)


def tau_metrics(
    arrays: BankArrays, split: str, taus: Sequence[float], *, keep_bias: bool = False
) -> list[dict[str, Any]]:
    """Return accuracy by group at every tau, on one split."""
    weight, bias = arrays.classifier(SILENT)
    X, y = arrays[split]
    return sweep.tau_curve(weight, X, y, arrays.groups, taus=taus, bias=bias if keep_bias else None)
