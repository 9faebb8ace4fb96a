"""Heads on a bank: fit, choose, evaluate, save. What `fit` and `demo` run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cli._bank_arrays import BankArrays, as_numpy
from cli._choosing import TAU_RANGE, exact_curve, fit_one, points_of, tau_curve
from cli._splits import Roles
from cli.specs import Spec
from featbank import Bank
from featbank.errors import OutputExistsError
from featbank.identity import feature_identity
from featbank.progress import SILENT, Reporter
from heads import specs

__all__ = [
    "TAU_RANGE",
    "BankArrays",
    "as_numpy",
    "exact_curve",
    "fit_heads",
    "fit_one",
    "origin",
    "prepare",
    "results_table",
    "tau_curve",
]


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
        points_of(spec, roles)
    prepare(out, overwrite=overwrite)
    arrays = BankArrays(bank, device, roles.select)
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


def brief(params: dict[str, Any], grid: Sequence[str] = ()) -> str:
    """Name the parameters that tell one head of a kind from another; `grid` was chosen from."""
    keys = [*(("solver",) if params.get("solver") == "sgd" else SHOWN), "views"]
    shown = {key: params[key] for key in dict.fromkeys((*keys, *grid)) if key in params}
    if shown.get("anchor") == "zero" and "anchor" not in grid:
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
            brief(entry["params"], (entry["selection"] or {}).get("grid", ())),
            roles.label(entry["selected_on"]),
            f"{entry['fit_seconds']:.2f}",
        ]
        if len(roles.report) > 1:
            row.insert(1, entry["split"])
        rows.append(row)
    return columns, rows
