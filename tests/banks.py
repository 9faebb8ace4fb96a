"""Small banks and feature files for tests."""

from pathlib import Path
from typing import Any

import numpy as np

from featbank import Bank, BankPlan, BankWriter, Shots
from featbank.bank.rows import SplitRows

COUNTS = (120, 60, 30, 12, 6)
DIM = 12


def blobs(counts: tuple[int, ...] | list[int], seed: int, dim: int = DIM) -> tuple[Any, Any]:
    """Overlapping Gaussian classes with fixed centres: features (N, D) float32, labels (N,)."""
    centres = np.random.default_rng(7).normal(size=(len(counts), dim))
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).normal(size=(len(labels), dim))
    return (1.2 * centres[labels] + noise).astype(np.float32), labels


def splits() -> dict[str, tuple[Any, Any]]:
    return {
        "train": blobs(COUNTS, 0),
        "val": blobs([20] * len(COUNTS), 1),
        "test": blobs([40] * len(COUNTS), 2),
    }


def write_npz(path: Path, **changes: Any) -> Path:
    """Write a well-formed features file, with some keys changed; None takes a key out."""
    content: dict[str, Any] = {}
    for name, (features, labels) in splits().items():
        content |= {f"{name}_features": features, f"{name}_labels": labels}
    content |= changes
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    return path


def plan(*, dtype: str = "float32", classifier: bool = True, **changes: Any) -> BankPlan:
    """Plan a bank of blobs, with a plausible stage-1 classifier: class means scaled by count."""
    features, labels = splits()["train"]
    means = np.stack([features[labels == c].mean(0) for c in range(len(COUNTS))])
    weight = means * np.log(COUNTS)[:, None] / np.log(max(COUNTS))
    bias = -0.5 * (weight * means).sum(1) + 0.3 * np.log(COUNTS)
    settings: dict[str, Any] = {
        "dim": DIM,
        "rows": {
            name: SplitRows([f"{name}/{row}.png" for row in range(len(y))], y)
            for name, (_, y) in splits().items()
        },
        "class_names": [f"class {index}" for index in range(len(COUNTS))],
        "dtype": dtype,
        "classifier": (weight, bias) if classifier else None,
        "shots": Shots(50, 10),
    }
    return BankPlan(**settings | changes)


def fill(writer: BankWriter) -> None:
    """Write what is missing of a bank of blobs."""
    for name, start, stop in writer.missing():
        writer.put(name, start, splits()[name][0][start:stop])


def write_bank(path: Path, **settings: Any) -> Bank:
    """Write a bank of blobs."""
    with BankWriter.begin(path, plan(**settings)) as writer:
        fill(writer)
        writer.commit()
    return Bank.open(path)
