"""Synthetic problems as banks on disk, and banks on disk as problems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.features import Problem
from featbank import Bank, BankPlan, BankWriter
from featbank.bank.rows import SplitRows

__all__ = ["fill", "problem_of", "write_bank"]


def fill(path: Path, plan: BankPlan, features: Mapping[str, np.ndarray]) -> None:
    """Write a bank of features (n, D) of each split."""
    with BankWriter.begin(path, plan) as writer:
        for name, start, stop in writer.missing():
            writer.put(name, start, features[name][start:stop])
        writer.commit()


def write_bank(
    path: Path,
    problem: Problem,
    classifier: tuple[Tensor, Tensor],
    dtype: str = "float16",
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a problem as a bank.

    Parameters
    ----------
    path : Path
        Where the bank is to be.
    problem : Problem
        Features and labels of its splits.
    classifier : tuple of two tensors
        Stage 1's weight (C, D) and bias (C,).
    dtype : {"float16", "float32"}
        How features are stored.
    provenance : mapping, optional
        What the bank says of where its features come from.
    """
    plan = BankPlan(
        dim=problem.splits["train"][0].shape[1],
        rows={
            name: SplitRows([f"{name}/{row}" for row in range(len(y))], y.numpy())
            for name, (_, y) in problem.splits.items()
        },
        class_names=[f"class {label}" for label in range(len(problem.counts))],
        dtype=dtype,
        classifier=tuple(part.numpy() for part in classifier),
        provenance=dict(provenance or {}),
    )
    fill(path, plan, {name: X.numpy() for name, (X, _) in problem.splits.items()})


def problem_of(path: Path) -> tuple[Problem, tuple[Tensor, Tensor]]:
    """Return a bank's splits, and its stage-1 classifier."""
    bank = Bank.open(path)
    if bank.classifier is None:
        message = f"{path} holds no classifier"
        raise SystemExit(message)
    splits = {
        name: (torch.from_numpy(bank[name].read("float32")), torch.from_numpy(bank[name].labels))
        for name in bank
    }
    weight, bias = (torch.from_numpy(np.asarray(part)) for part in bank.classifier)
    return Problem(np.asarray(bank.class_counts), splits), (weight, bias)
