"""Banks on disk as the problems that the comparisons of rules take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.features import Problem
from featbank import Bank

__all__ = ["problem_of"]


def problem_of(path: Path) -> tuple[Problem, tuple[Tensor, Tensor]]:
    """Return a bank's train, val and test rows, and its stage-1 classifier."""
    bank = Bank.open(path)
    splits = {
        name: (torch.from_numpy(bank[name].read("float32")), torch.from_numpy(bank[name].labels))
        for name in ("train", "val", "test")
    }
    weight, bias = (torch.from_numpy(np.asarray(part)) for part in bank.classifier)
    return Problem(np.asarray(bank.class_counts), splits), (weight, bias)
