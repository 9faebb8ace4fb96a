"""Fitting a head as its specification says: one point, a choice on val, or a grid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from statistics import mean
from typing import Any

import heads
from featbank.results.records import Candidate, Metrics, Selection
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec
from featbank.study.arrays import BankArrays
from featbank.study.ends import without
from featbank.study.splits import Roles
from heads import specs
from heads.curves import curve, rules, sweep
from heads.errors import HeadInputError
from heads.estimators.convex_head import TriedDecay
from heads.specs import Point

__all__ = [
    "TAU_RANGE",
    "FittedHead",
    "Job",
    "defaults_of",
    "exact_curve",
    "fit_one",
    "points_of",
    "tau_metrics",
    "timed_fit",
]

# The range on which tau is chosen where nothing else is said, that of the paper's code.
TAU_RANGE = (0.0, 2.0)


@dataclass(frozen=True)
class FittedHead:
    """A fitted head, how its parameters were chosen where they were, and the points tried."""

    head: Any
    selection: Selection | None = None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Job:
    """What every fit of a head on one bank shares.

    Attributes
    ----------
    arrays : BankArrays
        The bank's features and labels, on the device where heads are fitted.
    roles : Roles
        The split that chooses and those that are reported.
    seed : int
        Seed of every draw of a fit, where a head's specification gives none.
    reporter : Reporter
        Is told what takes time.
    """

    arrays: BankArrays
    roles: Roles
    seed: int = 0
    reporter: Reporter = SILENT


def default_taus() -> list[float]:
    """Return the grid of the paper's code: 0 to 2 in steps of 0.1."""
    return [round(0.1 * step, 1) for step in range(21)]


def fit_one(job: Job, spec: Spec) -> FittedHead:
    """Fit one head, and choose what its specification leaves open."""
    points = points_of(spec, job.roles)
    if len(points) == 1:
        fit = fit_point(job, spec.name, points[0])
    else:
        fit = fit_grid(job, spec.name, points)
    return with_stage1(job.arrays, spec, fit)


def timed_fit(job: Job, spec: Spec) -> tuple[FittedHead, float]:
    """Return what `fit_one` does, and the seconds that it took.

    What the heads of a bank share is done before the clock starts, so that the time of a head does
    not depend on which heads came before it: reading the features, and fitting the linear
    classifier that stands in where stage 1 left none.
    """
    for point in points_of(spec, job.roles):
        job.arrays.train(build(job, spec.name, point))
    if job.roles.select is not None:
        job.arrays[job.roles.select]
    started = time.perf_counter()
    fit = fit_one(job, spec)
    return fit, time.perf_counter() - started


def with_stage1(arrays: BankArrays, spec: Spec, fit: FittedHead) -> FittedHead:
    """Say in how a head was chosen what its stage-1 classifier is, where that was fitted here."""
    started_there = specs.needs_stage1(spec.name, spec.params) and spec.name != "joint"
    if arrays.bank.classifier is not None or not started_there:
        return fit
    own = arrays.fitted_here(SILENT)
    about: dict[str, Any] = {"weight_decay": own.head.weight_decay_, "rule": "features' scale"}
    chosen = fit.selection or Selection()
    if arrays.select is not None:
        about = path_choice(own.head, own.path, arrays.select)[0].to_json()
        chosen = fit.selection or Selection(split=arrays.select, metric="all")
    return replace(fit, selection=replace(chosen, stage1=about))


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


def fit_point(job: Job, name: str, point: Point) -> FittedHead:
    """Fit one point of a specification; what it leaves open is chosen on val."""
    arrays, select = job.arrays, job.roles.select
    if name == "joint" and not names_decay(point) and arrays.bank.classifier is None:
        own = arrays.fitted_here(job.reporter)
        if arrays.select is None:
            return FittedHead(own.head)
        return FittedHead(own.head, *path_choice(own.head, own.path, arrays.select))
    head = build(job, name, point)
    if select is None or not is_open(name, point, head):
        return FittedHead(arrays.train(head).fit(head))
    if not specs.has_path(head):
        chosen, points = choose_tau(arrays, name, head, select)
        return FittedHead(arrays.train().fit(head.set_params(tau=chosen.best)), chosen, points)
    path = arrays.train(head).fit_path(head, arrays[select], arrays.groups, point.path)
    return FittedHead(head, *path_choice(head, path, select))


def build(job: Job, name: str, point: Point) -> Any:
    """Build the head of a point, with the bank's stage-1 classifier where it starts from one."""
    arrays = job.arrays
    weight, bias = None, None
    if name == "joint" and names_decay(point):
        refuse_to_refit(arrays)
    elif specs.needs_stage1(name, point.params):
        weight, bias = arrays.classifier(job.reporter)
    head = specs.build(name, point.params, weight=weight, bias=bias, random_state=job.seed)
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


def defaults_of(spec: Spec, fit: FittedHead) -> dict[str, float]:
    """Return the parameters of a fitted head that were left open and not chosen, by name."""
    points = specs.expand(spec.name, spec.params)
    # A selection without a split only tells of a stage-1 classifier that was fitted here.
    was_chosen = fit.selection is not None and fit.selection.split is not None
    if was_chosen or len(points) > 1 or not is_open(spec.name, points[0], fit.head):
        return {}
    key = "weight_decay" if specs.has_path(fit.head) else "tau"
    return {key: float(specs.describe(fit.head)[key])}


def fit_grid(job: Job, name: str, points: Sequence[Point]) -> FittedHead:
    """Fit every point, together where that saves passes, and keep the best on val.

    Rule: the largest `all`; of runs of equally good neighbours in the order of the specification
    the longest, and its middle. Points that differ in their seed alone count as one, by their mean,
    and the first seed's head is kept: the luckiest is not the best.
    """
    split = str(job.roles.select)
    fits = fit_points(job, name, points)
    measured = [job.arrays.measure(fit.head, split) for fit in fits]
    kinds = seedless(points)
    scores = [mean(measured[place]["all"] or 0 for place in kind) for kind in kinds]
    _, middle, _ = sweep.widest_maximum(range(len(kinds)), scores)
    kept = kinds[middle][0]
    chosen, varied = points[kept], [*points[kept].varied]
    selection = Selection(
        split=split,
        metric="all",
        rule="maximum",
        grid=tuple(varied),
        best=chosen.varied if len(varied) > 1 else chosen.varied[varied[0]],
        value=scores[middle],
        maximum={"value": max(scores), **chosen.varied},
        points=len(points),
        seeds=len(kinds[middle]),
        then=fits[kept].selection,
    )
    tried = [
        candidate
        for point, fit, found in zip(points, fits, measured, strict=True)
        for candidate in candidates_of(point, fit, split, found)
    ]
    return FittedHead(fits[kept].head, selection, tuple(tried))


def fit_points(job: Job, name: str, points: Sequence[Point]) -> list[FittedHead]:
    """Fit every point: those that leave something open in turn, all others in one call."""
    built = [build(job, name, point) for point in points]
    closed = [not is_open(name, *pair) for pair in zip(points, built, strict=True)]
    together: dict[int, list[Any]] = {}
    for head in compress(built, closed):
        together.setdefault(getattr(head, "views", 0), []).append(head)
    for some in together.values():
        rows = job.arrays.train(some[0])
        heads.fit_many(some, rows.X, rows.y, rows.sample_weight)
    return [
        FittedHead(head) if done else fit_point(job, name, point)
        for head, point, done in zip(built, points, closed, strict=True)
    ]


def seedless(points: Sequence[Point]) -> list[list[int]]:
    """Return the places of points that differ in nothing but their seed, together."""
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for place, point in enumerate(points):
        kind = tuple((key, value) for key, value in point.params.items() if key != "seed")
        kinds.setdefault(kind, []).append(place)
    return list(kinds.values())


def candidates_of(point: Point, fit: FittedHead, split: str, measured: Metrics) -> list[Candidate]:
    """Return the candidates of a point: those that were tried inside it, or the point itself.

    Parameters
    ----------
    point : Point
        A point of a head's specification.
    fit : FittedHead
        The head that was fitted there.
    split : str
        The split on which it was measured.
    measured : mapping
        The metrics of the head on that split.
    """
    inside = fit.candidates or (Candidate({}, split, measured),)
    return [replace(each, params={**point.varied, **each.params}) for each in inside]


def path_choice(
    head: Any, points: Sequence[TriedDecay], split: str
) -> tuple[Selection, tuple[Candidate, ...]]:
    """Return how the weight decay was chosen on a path, and the points that were tried."""
    best = max(points, key=lambda point: point.metrics["all"] or 0.0)
    same = [point for point in points if point.weight_decay == head.weight_decay]
    chosen = max(same, key=lambda point: point.metrics["all"] or 0.0)
    tried = [
        Candidate({"weight_decay": point.weight_decay}, split, point.metrics) for point in points
    ]
    selection = Selection(
        split=split,
        metric="all",
        rule="maximum",
        best=head.weight_decay,
        value=chosen.metrics["all"],
        maximum={"value": best.metrics["all"], "weight_decay": best.weight_decay},
    )
    return selection, tuple(tried)


def choose_tau(
    arrays: BankArrays, name: str, head: Any, split: str
) -> tuple[Selection, tuple[Candidate, ...]]:
    """Choose tau on the exact curve (with a bias kept: on a grid); return how, and points of it.

    Parameters
    ----------
    arrays : BankArrays
    name : {"tau", "logit-adjust"}
        The head's name.
    head : Head
        Not fitted; `keep_bias` of ``tau`` tells whether the curve can be exact.
    split : str
        The split that chooses.

    Returns
    -------
    Selection
        How tau was chosen.
    tuple of Candidate
        The points of the paper's grid, and the chosen one, with their metrics on the split.
    """
    if name == "tau" and head.keep_bias:
        points = tau_metrics(arrays, split, default_taus(), keep_bias=True)
        chosen = sweep.choose(points)
    else:
        found = exact_curve(arrays, name, split, TAU_RANGE)
        chosen = rules.choose_on_curve(found)
        taus = sorted({*default_taus(), chosen.best})
        points = [{"tau": tau, **found.at(tau)} for tau in taus]
    tried = [Candidate({"tau": point["tau"]}, split, without(point, ["tau"])) for point in points]
    return Selection.on_curve(split, chosen), tuple(tried)


def exact_curve(arrays: BankArrays, head: str, split: str, ends: tuple[float, float]) -> Any:
    """Return the exact curve of `tau` or `logit-adjust` on one split.

    Parameters
    ----------
    arrays : BankArrays
    head : {"tau", "logit-adjust"}
        The head's name.
    split : str
    ends : tuple of two floats
        The range of tau.

    Returns
    -------
    StepCurve
        See `heads.curves.curve`.
    """
    weight, bias = arrays.classifier(SILENT)
    X, y = arrays[split]
    low, high = ends
    if head == "tau":
        return curve.exact_tau_curve(weight, X, y, arrays.groups, low=low, high=high)
    return curve.exact_adjust_curve(weight, bias, X, y, arrays.groups, low=low, high=high)


def tau_metrics(
    arrays: BankArrays, split: str, taus: Sequence[float], *, keep_bias: bool = False
) -> list[dict[str, Any]]:
    """Return accuracy by group at every tau, on one split.

    Parameters
    ----------
    arrays : BankArrays
    split : str
    taus : sequence of float
        The grid.
    keep_bias : bool, default False
        Whether stage 1's bias is added to the scores as it is; without it there is none.

    Returns
    -------
    list of dict
        For each point ``tau``, and the accuracies there by name.
    """
    weight, bias = arrays.classifier(SILENT)
    X, y = arrays[split]
    return sweep.tau_curve(weight, X, y, arrays.groups, taus=taus, bias=bias if keep_bias else None)
