"""Heads on a bank: fit, choose, evaluate, save. What `fit` and `demo` run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import heads
from cli._splits import Roles
from cli.specs import Spec
from featbank import Bank
from featbank.errors import OutputExistsError
from featbank.identity import feature_identity
from featbank.progress import SILENT, Reporter
from heads import curve, metrics, rules, specs, sweep

__all__ = ["BankArrays", "exact_curve", "fit_heads", "results_table"]

# The range on which tau is chosen where nothing else is said, that of the paper's code.
TAU_RANGE = (0.0, 2.0)


def default_taus() -> list[float]:
    """Return the grid of the paper's code: 0 to 2 in steps of 0.1."""
    return [round(0.1 * step, 1) for step in range(21)]


@dataclass
class BankArrays:
    """A bank's arrays on the device where heads are fitted, each read once."""

    bank: Bank
    device: str
    cache: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    linear: tuple[Any, Any] | None = None

    def __getitem__(self, split: str) -> tuple[Any, Any]:
        """Return features (N, D) float32 and labels (N,) of a split."""
        if split not in self.cache:
            part = self.bank[split]
            self.cache[split] = self.place(part.read("float32")), self.place(part.labels)
        return self.cache[split]

    def place(self, array: Any) -> Any:
        """Put an array where the fitting happens: a CUDA tensor there, numpy on the CPU."""
        if self.device == "cpu":
            return array
        import torch

        return torch.from_numpy(array).to(self.device)

    def classifier(self, reporter: Reporter) -> tuple[Any, Any]:
        """Return stage 1's weight and bias, or those of a linear classifier fitted here."""
        if self.linear is None:
            stored = self.bank.classifier
            if stored is None:
                reporter.say("the bank has no stage-1 classifier: fitting a linear one first")
                linear = heads.JointClassifier().fit(*self["train"])
                stored = linear.weight_, linear.bias_
            self.linear = stored
        return self.linear

    def score(self, head: Any, split: str, seed: int = 0) -> dict[str, Any]:
        """Evaluate a fitted head on a split; `seed` is that of the intervals."""
        X, y = self[split]
        predicted, labels = as_numpy(head.predict(X)), as_numpy(y)
        return {
            "metrics": metrics.evaluate(labels, predicted, *self.groups),
            "ci95": metrics.confidence_interval(labels, predicted, *self.groups, seed=seed),
        }

    @property
    def groups(self) -> tuple[Any, int, int]:
        """Train counts and the two thresholds, as the metrics take them."""
        shots = self.bank.shots
        return self.bank.class_counts, shots.many_above, shots.few_below


def as_numpy(values: Any) -> np.ndarray[Any, Any]:
    """Bring labels or predictions to the host."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)


def fit_heads(
    bank: Bank,
    wanted: Sequence[Spec],
    out: Path,
    roles: Roles,
    *,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Fit, choose, evaluate and save heads; return the results object of schema 1."""
    for spec in wanted:  # a typing error in the last spec must not cost the first one's fit
        specs.build(spec.name, spec.params)
    prepare(out, overwrite=overwrite)
    arrays = BankArrays(bank, device)
    results: list[dict[str, Any]] = []
    candidates: list[dict[str, Any]] = []
    for spec, name in zip(wanted, file_names(wanted), strict=True):
        arrays["train"]
        started = time.perf_counter()
        head, chosen, tried = fit_one(arrays, spec, roles, seed, reporter)
        seconds = time.perf_counter() - started
        entry = {
            "bank": str(bank.path),
            "head": spec.name,
            "params": specs.describe(head),
            "selected_on": roles.selected_on(chosen=chosen is not None),
            "selection": chosen,
        }
        head.save(out / f"{name}.head", metadata={**origin(bank), "spec": str(spec), **entry})
        candidates += [{"bank": str(bank.path), "head": spec.name, **point} for point in tried]
        for split in roles.report:
            score = arrays.score(head, split, seed)
            results.append({**entry, "split": split, **score, "fit_seconds": round(seconds, 4)})
    return {"schema": 1, "results": results, "candidates": candidates}


def origin(bank: Bank) -> dict[str, Any]:
    """Return what a head's file says of the features that it was fitted on."""
    return {
        "bank_digest": bank.digest,
        "features": feature_identity(bank.provenance),
        "class_names": list(bank.class_names),
    }


def fit_one(
    arrays: BankArrays, spec: Spec, roles: Roles, seed: int, reporter: Reporter
) -> tuple[Any, dict[str, Any] | None, list[dict[str, Any]]]:
    """Fit one head; return it, how its parameter was chosen, and the points that were tried."""
    weight, bias = (
        arrays.classifier(reporter) if specs.needs_stage1(spec.name, spec.params) else (None, None)
    )
    head = specs.build(spec.name, spec.params, weight=weight, bias=bias, random_state=seed)
    chosen: dict[str, Any] | None = None
    tried: list[dict[str, Any]] = []
    if (
        spec.name in ("tau", "logit-adjust")
        and "tau" not in spec.params
        and roles.select is not None
    ):
        chosen, tried = choose_tau(arrays, spec, head, roles.select)
        head.set_params(tau=chosen["best"])
    if roles.select is not None and specs.has_path(head):
        points = head.fit_path(*arrays["train"], *arrays[roles.select], *arrays.groups)
        return head, *path_choice(head, points, roles.select)
    return head.fit(*arrays["train"]), chosen, tried


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
    arrays: BankArrays, spec: Spec, head: Any, split: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Choose tau on the exact curve (with a bias kept: on a grid); return how, and points of it."""
    if spec.name == "tau" and head.keep_bias:
        points = tau_curve(arrays, split, default_taus(), keep_bias=True)
        chosen = sweep.choose(points)
    else:
        found = exact_curve(arrays, spec.name, split, TAU_RANGE)
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
        return curve.exact_tau_curve(weight, X, y, *arrays.groups, low=low, high=high)
    return curve.exact_adjust_curve(weight, bias, X, y, *arrays.groups, low=low, high=high)


def tau_curve(
    arrays: BankArrays, split: str, taus: Sequence[float], *, keep_bias: bool = False
) -> list[dict[str, Any]]:
    """Return accuracy by group at every tau, on one split."""
    weight, bias = arrays.classifier(SILENT)
    X, y = arrays[split]
    return sweep.tau_curve(
        weight, X, y, *arrays.groups, taus=taus, bias=bias if keep_bias else None
    )


def prepare(out: Path, *, overwrite: bool) -> None:
    """Make the output folder, or refuse to put heads among other files."""
    if out.exists() and not out.is_dir():
        message = f"{out} exists and is no folder; choose another path for --out"
        raise OutputExistsError(message)
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        message = f"{out} exists and is not empty; choose another path for --out, or --overwrite"
        raise OutputExistsError(message)
    out.mkdir(parents=True, exist_ok=True)
    for stale in (*out.glob("*.head"), out / "results.json"):
        stale.unlink(missing_ok=True)  # what an earlier fit left here would pass for this one's


def file_names(wanted: Sequence[Spec]) -> Iterator[str]:
    """Name each head's file by its spec's name, numbered where a name comes again."""
    seen: dict[str, int] = {}
    for spec in wanted:
        seen[spec.name] = seen.get(spec.name, 0) + 1
        yield spec.name if seen[spec.name] == 1 else f"{spec.name}-{seen[spec.name]}"


# What a reader of the table wants to know of a head; the rest stands in the JSON.
SHOWN = ("tau", "transform", "metric", "weight_decay", "anchor")


def brief(params: dict[str, Any]) -> str:
    """Name the parameters that tell one head of a kind from another."""
    if params.get("solver") == "sgd":
        return "solver=sgd"
    shown = {key: params[key] for key in SHOWN if key in params}
    if shown.get("anchor") == "zero":
        del shown["anchor"]
    return (
        ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in shown.items()
        )
        or "-"
    )


def results_table(results: dict[str, Any], roles: Roles) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the table that `fit` prints."""
    from cli._show import GROUPS, percent

    columns = ["head", *GROUPS, "95% of all", "parameters", "chosen on", "seconds"]
    if len(roles.report) > 1:
        columns.insert(1, "split")
    rows = []
    for entry in results["results"]:
        low, high = entry["ci95"]["all"]
        row = [
            entry["head"],
            *(percent(entry["metrics"][group]) for group in GROUPS),
            f"{percent(low)}-{percent(high)}",
            brief(entry["params"]),
            roles.label(entry["selected_on"]),
            f"{entry['fit_seconds']:.2f}",
        ]
        if len(roles.report) > 1:
            row.insert(1, entry["split"])
        rows.append(row)
    return columns, rows
