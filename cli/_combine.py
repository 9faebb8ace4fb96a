"""Cells put together: the object that a comparison writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cli._bench import Bench, Settings
from cli._cells import installed_version
from cli.specs import Spec

__all__ = ["combine", "recorded"]


def recorded(settings: Settings) -> dict[str, Any]:
    """Return the settings as `compare.json` has them."""
    return {
        "select": settings.select,
        "report": settings.report,
        "metric": "all",
        "seed": settings.seed,
        "bootstrap": settings.draws,
        "baseline": settings.baseline,
        "version": installed_version(),
    }


def combine(
    benches: Sequence[Bench],
    wanted: Sequence[Spec],
    keys: Sequence[Sequence[str]],
    settings: Settings,
    groups: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return the whole comparison."""
    from cli._statistics import grouped, statistics

    order = [
        (bench, spec, key)
        for bench, row in zip(benches, keys, strict=True)
        for spec, key in zip(wanted, row, strict=True)
    ]
    places = [place(bench, spec, key) for bench, spec, key in order]
    found = statistics(places, draws=settings.draws, seed=settings.seed, baseline=settings.baseline)
    return {
        "schema": 1,
        "settings": recorded(settings),
        "banks": [
            {name: bench.about[name] for name in ("name", "path", "digest", "slug")}
            for bench in benches
        ],
        "heads": [str(spec) for spec in wanted],
        "results": [
            result(bench, spec, key, ci95)
            for (bench, spec, key), ci95 in zip(order, found.intervals, strict=True)
        ],
        "candidates": [
            {"bank": bench.about["path"], "head": spec.name, "spec": str(spec), **point}
            for bench, spec, key in order
            for point in bench.cells[key]["candidates"]
        ],
        "comparisons": found.comparisons,
        "groups": grouped(places, groups),
        "notes": notes(benches),
    }


def place(bench: Bench, spec: Spec, key: str) -> Any:
    """Return a cell as the statistics take it."""
    import numpy as np

    from cli._statistics import Place

    with np.load(bench.out / "cells" / key / "evaluation.npz") as file:
        labels, predicted = file["labels"], file["predicted"]
    return Place(
        bank=bench.about["name"],
        head=str(spec),
        samples=bench.about["samples"]["digest"],
        counts=bench.about["class_counts"],
        **bench.about["shots"],
        labels=labels,
        right=labels == predicted,
        metrics=bench.cells[key]["metrics"],
    )


def result(bench: Bench, spec: Spec, key: str, ci95: Mapping[str, Any]) -> dict[str, Any]:
    """Return one entry of schema 1, its head as it is written now: a cell may be of another day."""
    cell = bench.cells[key]
    kept = ("params", "selected_on", "selection", "split", "metrics")
    return {
        "bank": bench.about["path"],
        "bank_name": bench.about["name"],
        "head": spec.name,
        "spec": str(spec),
        **{name: cell[name] for name in kept},
        "ci95": dict(ci95),
        "calibration": cell["calibration"],
        "fit_seconds": cell["fit_seconds"],
        "cell": key,
    }


def notes(benches: Sequence[Bench]) -> list[str]:
    """Return what a reader has to know beside the numbers."""
    out: list[str] = []
    by_samples: dict[str, list[str]] = {}
    for bench in benches:
        by_samples.setdefault(bench.about["samples"]["digest"], []).append(bench.about["name"])
    shared = [names for names in by_samples.values() if len(names) > 1]
    if len(by_samples) > 1:
        same = "; ".join(", ".join(names) for names in shared)
        out.append(
            "banks with different reported samples are compared unpaired, without McNemar's test"
            + (f"; the same samples have: {same}" if same else "")
        )
    named = {bench.about["name"]: bench.about["samples"]["named"] for bench in benches}
    unnamed = [", ".join(names) for names in shared if not named[names[0]]]
    if unnamed:
        out.append(f"rows of {'; '.join(unnamed)} have no ids: they are paired by their number")
    dishonest = [bench.about["name"] for bench in benches if bench.entry.parts.dishonest]
    if dishonest:
        out.append(f"parameters of {', '.join(dishonest)} were chosen on the REPORTED split")
    return out
