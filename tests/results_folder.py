"""Folders of results as `featbank compare` writes them, of made-up predictions."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

METRICS = ("all", "many", "medium", "few")


@dataclass(frozen=True)
class Fake:
    """What the made-up results are made of."""

    classes: int = 10
    banks: tuple[str, ...] = ("instance", "class")
    heads: tuple[str, ...] = ("joint", "ncm", "tau", "crt")
    per_class: int = 50
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    grid: int = 64
    view: int = 500

    def class_names(self) -> list[str]:
        rest = [f"class {index}" for index in range(len(self.names), self.classes)]
        return [*self.names, *rest]

    def counts(self) -> Any:
        return np.geomspace(200, 4, self.classes).round().astype(int)

    def groups(self) -> Any:
        counts = self.counts()
        return np.where(counts > 100, 0, np.where(counts < 20, 2, 1))


SMALL = Fake()


def write_results(folder: Path, fake: Fake = SMALL) -> Path:
    """Write a whole folder; the same one for the same `fake`."""
    results: list[dict[str, Any]] = []
    for index, name in enumerate(fake.banks):
        rng = np.random.default_rng(index)
        write_bank_files(folder / "banks" / slug(name), name, fake, rng)
        results += [
            write_cell(folder, name, head, 0.03 * index + 0.04 * place, fake, rng)
            for place, head in enumerate(fake.heads)
        ]
    compare = {
        "schema": 1,
        "settings": {
            "select": None, "report": None, "metric": "all", "seed": 0, "bootstrap": 1000,
            "baseline": None, "version": "0.1.0",
        },
        "banks": [
            {"name": each, "path": f"/{each}.zarr", "digest": digest(each), "slug": slug(each)}
            for each in fake.banks
        ],
        "heads": list(fake.heads),
        "results": results,
        "candidates": [],
        "comparisons": pairs(results, fake),
        "groups": [],
        "notes": list(fake.notes),
    }  # fmt: skip
    write(folder / "compare.json", compare)
    return folder


def write_bank_files(folder: Path, name: str, fake: Fake, rng: Any) -> None:
    """Write a bank's record, its view and its tau curve."""
    folder.mkdir(parents=True)
    write(folder / "bank.json", bank_record(name, fake))
    labels = np.sort(rng.integers(0, fake.classes, fake.view))
    angle = 2 * np.pi * labels / fake.classes
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * (2 + labels % 3)[:, None]
    points = (points + 0.4 * rng.normal(size=points.shape)).astype(np.float32)
    rows = np.arange(fake.view) * (fake.classes * fake.per_class) // fake.view
    np.savez(
        folder / "view.npz", features2d=points, labels=labels, rows=rows,
        mean=np.zeros(4, np.float32), basis=np.eye(4, 2, dtype=np.float32),
    )  # fmt: skip
    np.savez(folder / "tsne.npz", points=points[:, ::-1], rows=rows)
    parameter = np.arange(201) / 100
    curve: dict[str, Any] = {"parameter": parameter}
    for split, low in (("val", 0.61), ("test", 0.6)):
        for group, peak in zip((*METRICS, "micro"), (0.7, 0.1, 0.6, 1.3, 0.5), strict=True):
            values = low + 0.2 - 0.15 * (parameter - peak) ** 2
            curve[f"{split}_{group}"] = values.astype(np.float32)
    np.savez(folder / "curve-tau.npz", **curve)


def bank_record(name: str, fake: Fake) -> dict[str, Any]:
    return {
        "name": name,
        "path": f"/{name}.zarr",
        "digest": digest(name),
        "provenance": {
            "data": {"name": "digits-lt", "settings": {"seed": 0}},
            "recipe": {"sampler": name, "epochs": 30},
            "transform": {"spec": "Compose(ToTensor())"},
            "versions": {"torch": "2.15.0"},
        },
        "class_names": fake.class_names(),
        "class_counts": fake.counts().tolist(),
        "shots": {"many_above": 100, "few_below": 20},
        "recipe": {"sampler": name, "loss": "ce", "seed": 0},
        "select": "val",
        "report": "test",
        "splits": {"train": int(fake.counts().sum()), "test": fake.classes * fake.per_class},
    }


def write_cell(
    folder: Path, bank: str, head: str, lift: float, fake: Fake, rng: Any
) -> dict[str, Any]:
    """Write one head's files; return its entry."""
    key = digest(f"{bank}/{head}")[:16]
    target = folder / "cells" / key
    target.mkdir(parents=True)
    labels = np.repeat(np.arange(fake.classes, dtype=np.int32), fake.per_class)
    hit_rate = np.clip(0.95 - 0.4 * np.linspace(0, 1, fake.classes) + lift, 0, 0.99)
    right = rng.random(len(labels)) < hit_rate[labels]
    near = np.maximum(labels - 1 - rng.integers(0, 2, len(labels)), 0).astype(np.int32)
    predicted = np.where(right, labels, near).astype(np.int32)
    norms = np.linspace(3, 1 + 10 * lift, fake.classes, dtype=np.float32)
    axis = np.linspace(-5, 5, fake.grid)
    turn = np.arctan2(*np.meshgrid(axis, axis, indexing="ij")) / (2 * np.pi) + lift
    np.savez(
        target / "evaluation.npz",
        labels=labels, predicted=predicted,
        confidence=np.clip(0.5 * right + 0.5 * rng.random(len(labels)), 0, 1).astype(np.float32),
        nll=rng.random(len(labels)).astype(np.float32),
        weight_norms=np.full(fake.classes, np.nan, np.float32) if head == "ncm" else norms,
        plane_grid=(np.rint(turn * fake.classes) % fake.classes).astype(np.int32),
        plane_extent=np.array([-5, 5, -5, 5], np.float32),
    )  # fmt: skip
    entry = entry_of(bank, head, key, labels, predicted, fake)
    write(target / "cell.json", entry)
    return entry


def entry_of(
    bank: str, head: str, key: str, labels: Any, predicted: Any, fake: Fake
) -> dict[str, Any]:
    total = np.bincount(labels, minlength=fake.classes)
    by_class = np.bincount(labels[labels == predicted], minlength=fake.classes) / total
    means = {"all": float(by_class.mean())}
    for group, name in enumerate(METRICS[1:]):
        chosen = by_class[fake.groups() == group]
        means[name] = float(chosen.mean()) if len(chosen) else None
    micro = float((labels == predicted).mean())
    return {
        "bank": f"/{bank}.zarr",
        "bank_name": bank,
        "head": head.partition(":")[0],
        "spec": head,
        "params": {"tau": 0.7312} if head == "tau" else {},
        "selected_on": "val" if head == "tau" else None,
        "selection": {"best": 0.7312, "rule": "one-se"} if head == "tau" else None,
        "split": "test",
        "metrics": {**means, "micro": micro, "macro_f1": micro},
        "ci95": {name: None if v is None else [v - 0.02, v + 0.02] for name, v in means.items()},
        "fit_seconds": 0.01,
        "cell": key,
        "calibration": {
            "split": "val", "ece": 0.08, "nll": 0.9, "temperature": 1.4,
            "ece_scaled": 0.03, "nll_scaled": 0.8,
        },
    }  # fmt: skip


def pairs(results: list[dict[str, Any]], fake: Fake) -> list[dict[str, Any]]:
    """Compare every head with the first one of the same bank."""
    heads = len(fake.heads)
    return [
        {
            "a": {"bank": entry["bank_name"], "head": entry["spec"]},
            "b": {"bank": entry["bank_name"], "head": fake.heads[0]},
            "metric": "all",
            "difference": entry["metrics"]["all"] - results[i - i % heads]["metrics"]["all"],
            "ci95": [-0.01, 0.05], "p_bootstrap": 0.01, "p_mcnemar": 0.02, "p_adjusted": 0.03,
            "paired": True,
        }
        for i, entry in enumerate(results)
        if i % heads
    ]  # fmt: skip


def slug(name: str) -> str:
    return re.sub("[^A-Za-z0-9._-]+", "-", name)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
