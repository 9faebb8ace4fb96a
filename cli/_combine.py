"""Cells put together: the object that a comparison writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli._bench import Entry, Settings
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
    entries: Sequence[Entry],
    wanted: Sequence[Spec],
    keys: Sequence[Sequence[str]],
    out: Path,
    settings: Settings,
    cells: Mapping[str, dict[str, Any]],
    about: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return the whole comparison."""
    from cli._statistics import grouped, statistics

    order = [
        (entry, spec, key)
        for entry, row in zip(entries, keys, strict=True)
        for spec, key in zip(wanted, row, strict=True)
    ]
    places = [
        place(about[entry.name], spec, cells[key], out / "cells" / key)
        for entry, spec, key in order
    ]
    found = statistics(places, draws=settings.draws, seed=settings.seed, baseline=settings.baseline)
    results = [
        result(entry, key, cells[key], ci95)
        for (entry, _, key), ci95 in zip(order, found.intervals, strict=True)
    ]
    candidates = [
        {"bank": str(entry.bank.path), "head": spec.name, "spec": str(spec), **point}
        for entry, spec, key in order
        for point in cells[key]["candidates"]
    ]
    return {
        "schema": 1,
        "settings": recorded(settings),
        "banks": [
            {"name": e.name, "path": str(e.bank.path), "digest": e.bank.digest, "slug": e.slug}
            for e in entries
        ],
        "heads": [str(spec) for spec in wanted],
        "results": results,
        "candidates": candidates,
        "comparisons": found.comparisons,
        "groups": grouped(places, settings.groups),
        "notes": notes(entries, about),
    }


def place(about: Mapping[str, Any], spec: Spec, cell: Mapping[str, Any], folder: Path) -> Any:
    """Return a cell as the statistics take it."""
    import numpy as np

    from cli._statistics import Place

    with np.load(folder / "evaluation.npz") as file:
        labels, predicted = file["labels"], file["predicted"]
    return Place(
        bank=about["name"],
        head=str(spec),
        samples=about["samples"]["digest"],
        counts=about["class_counts"],
        many_above=about["shots"]["many_above"],
        few_below=about["shots"]["few_below"],
        labels=labels,
        right=labels == predicted,
        metrics=cell["metrics"],
    )


def result(
    entry: Entry, key: str, cell: Mapping[str, Any], ci95: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one entry of schema 1."""
    kept = ("head", "spec", "params", "selected_on", "selection", "split", "metrics")
    return {
        "bank": str(entry.bank.path),
        "bank_name": entry.name,
        **{name: cell[name] for name in kept},
        "ci95": dict(ci95),
        "calibration": cell["calibration"],
        "fit_seconds": cell["fit_seconds"],
        "cell": key,
    }


def notes(entries: Sequence[Entry], about: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return what a reader has to know beside the numbers."""
    out: list[str] = []
    by_samples: dict[str, list[str]] = {}
    for entry in entries:
        by_samples.setdefault(about[entry.name]["samples"]["digest"], []).append(entry.name)
    if len(by_samples) > 1:
        groups = "; ".join(", ".join(names) for names in by_samples.values())
        out.append(
            f"banks with different reported samples are compared unpaired, without McNemar's test;"
            f" the same samples have: {groups}"
        )
    unnamed = [e.name for e in entries if not about[e.name]["samples"]["named"]]
    if len(unnamed) > 1:
        out.append(f"rows of {', '.join(unnamed)} have no ids: they are paired by their number")
    dishonest = [entry.name for entry in entries if entry.parts.dishonest]
    if dishonest:
        out.append(f"parameters of {', '.join(dishonest)} were chosen on the REPORTED split")
    return out
