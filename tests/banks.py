"""Small banks and feature files for tests."""

from pathlib import Path
from typing import Any

import numpy as np

from featbank import Bank, BankWriter, Shots

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


def write_bank(path: Path, *, dtype: str = "float32", classifier: bool = True) -> Bank:
    """Write a bank of blobs, with a plausible stage-1 classifier: class means scaled by count."""
    names = [f"class {index}" for index in range(len(COUNTS))]
    with BankWriter.create(
        path, dim=DIM, dtype=dtype, class_names=names, shots=Shots(50, 10)
    ) as writer:
        for name, (features, labels) in splits().items():
            ids = [f"{name}/{row}.png" for row in range(len(labels))]
            for start in range(0, len(ids), 37):
                part = slice(start, start + 37)
                writer.append(name, ids[part], labels[part], features[part])
        if classifier:
            features, labels = splits()["train"]
            means = np.stack([features[labels == c].mean(0) for c in range(len(COUNTS))])
            weight = means * np.log(COUNTS)[:, None] / np.log(max(COUNTS))
            writer.set_classifier(weight, -0.5 * (weight * means).sum(1) + 0.3 * np.log(COUNTS))
        writer.commit()
    return Bank.open(path)
