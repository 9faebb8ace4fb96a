"""Features with the geometry of a trained network's, made in seconds; seeds fixed.

Classes have centres in a latent space of `rank` dimensions, grouped in families; rows scatter
around them in the same space. A fixed random layer and a ReLU make `dim` features, and what is
frequent is drawn longer and tighter, as networks trained on long tails give it. The stage-1
classifier is trained on the train rows by the plain recipe (natural sampling), so its norms
follow the counts too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import as_numpy
from heads.metrics import evaluate
from heads.solvers.linear import linear_scores, softmax_error
from heads.solvers.sgd import Recipe, plan_steps


@dataclass(frozen=True)
class Shape:
    """How much of everything: counts run from `n_max` down to `n_min`."""

    n_classes: int
    n_max: int
    n_min: int
    n_train: int
    n_val: int  # a class
    n_test: int  # a class
    dim: int = 2048
    rank: int = 96
    spread: float = 1.0

    def counts(self) -> np.ndarray:
        ranks = np.linspace(1, 0, self.n_classes)
        low, high = 0.1, 60.0
        for _ in range(60):  # the exponent that gives n_train rows
            power = (low + high) / 2
            counts = (self.n_min + (self.n_max - self.n_min) * ranks**power).round().astype(int)
            low, high = (power, high) if counts.sum() > self.n_train else (low, power)
        return counts


IMAGENET_LT = Shape(1000, 1280, 5, 115_846, 20, 50)
PLACES_LT = Shape(365, 4980, 5, 62_500, 20, 100)
INATURALIST_SLICE = Shape(8142, 1000, 2, 437_513, 3, 3)
SMALL = Shape(100, 500, 5, 10_847, 20, 100, dim=256, rank=32)
TINY = Shape(40, 100, 3, 1000, 10, 20, dim=64, rank=16)

# The shapes that the heads are measured on, closer together so that classifiers differ. The last is
# a slice of iNaturalist-2018: a quarter of the classes and a seventh of the rows.
SIZES = {
    "small": (replace(TINY, spread=0.75),),
    "usual": (replace(PLACES_LT, spread=0.75),),
    "full": (
        replace(IMAGENET_LT, spread=0.75),
        replace(PLACES_LT, spread=0.75),
        replace(INATURALIST_SLICE, n_classes=2000, n_max=400, n_train=60_000, spread=0.75),
    ),
}


@dataclass(frozen=True)
class Problem:
    """Features and labels by split, and the train counts of the classes."""

    counts: np.ndarray
    splits: dict[str, tuple[Tensor, Tensor]]

    def on(self, device: str) -> Problem:
        """Return the same on a device."""
        moved = {name: (X.to(device), y.to(device)) for name, (X, y) in self.splits.items()}
        return Problem(self.counts, moved)

    def accuracy(self, split: str, predicted: object) -> float:
        """Return the mean of the classes' accuracies on a split."""
        labels = as_numpy(self.splits[split][1])
        return float(evaluate(labels, as_numpy(predicted), self.counts)["all"] or 0)

    def reached(self, head: Any) -> str:
        """Return a head's accuracy on val and test, in percent."""
        parts = (
            f"{split} {100 * self.accuracy(split, head.predict(self.splits[split][0])):.2f}"
            for split in ("val", "test")
        )
        return ", ".join(parts)

    def size(self, split: str = "train") -> str:
        """Return rows x features of a split and the number of classes, as a table has it."""
        X = self.splits[split][0]
        return f"{len(X)} x {X.shape[1]}, C = {len(self.counts)}"


def make(shape: Shape, seed: int = 0, *, noise: float = 1.0) -> Problem:
    """Return train, val and test features (n, dim) float32 and labels."""
    rng = np.random.default_rng(seed)
    counts = shape.counts()
    families = rng.normal(size=(max(2, shape.n_classes // 10), shape.rank))
    centres = families[rng.integers(0, len(families), shape.n_classes)]
    centres = centres + rng.normal(size=centres.shape)
    often = np.log(counts) / np.log(counts.max())
    centres *= (0.55 + 0.3 * often)[:, None] * shape.spread
    scale = noise * np.sqrt(shape.rank) / np.arange(1, shape.rank + 1) ** 0.35
    scale *= 1.25 / np.sqrt((scale**2).mean())
    layer = torch.from_numpy(
        (rng.normal(size=(shape.rank, shape.dim)) / np.sqrt(shape.rank)).astype("float32")
    )
    shift = torch.from_numpy(rng.normal(-0.3, 0.3, size=shape.dim).astype("float32"))
    sizes = {
        "train": counts,
        "val": np.full(shape.n_classes, shape.n_val),
        "test": np.full(shape.n_classes, shape.n_test),
    }
    splits = {}
    for name, n_c in sizes.items():
        y = rng.permutation(np.repeat(np.arange(shape.n_classes), n_c))
        latent = centres[y] + rng.normal(size=(len(y), shape.rank)) * scale
        z = torch.from_numpy(latent.astype("float32"))
        X = torch.empty(len(y), shape.dim)
        for start in range(0, len(y), 16384):
            rows = slice(start, start + 16384)
            X[rows] = torch.relu(z[rows] @ layer + shift) * 0.5
        splits[name] = X, torch.from_numpy(y)
    return Problem(counts, splits)


def with_classifier(shape: Shape, device: str) -> tuple[Problem, Tensor, Tensor]:
    """Return features and a stage-1 classifier's weight and bias, on a device."""
    problem = make(shape)
    weight, bias = stage1(problem, epochs=1 if shape.n_train > 20_000 else 5)
    return problem.on(device), weight.to(device), bias.to(device)


def stage1(problem: Problem, epochs: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Train a linear classifier with natural sampling: weight (C, dim) and bias (C,)."""
    X, y = problem.splits["train"]
    generator = torch.Generator().manual_seed(seed)
    recipe = Recipe(lr=0.2, epochs=epochs, batch=min(512, len(X) // 8))
    plan = plan_steps(len(X), recipe)
    W = torch.zeros(len(problem.counts), X.shape[1])
    b = torch.zeros(len(problem.counts))
    batches = torch.randint(len(X), (plan.n_steps, recipe.batch), generator=generator)

    def gradient(rows: Tensor) -> tuple[Tensor, Tensor]:
        block = X[rows]
        _, error = softmax_error(linear_scores(block, W, b), y[rows])
        error /= len(rows)
        return error.T @ block, error.sum(dim=0)

    by_torch([W, b], gradient, batches, [recipe.rate(epoch) for epoch in range(epochs)])
    return W, b


def by_torch(
    params: list[Tensor],
    gradient: Callable[[Tensor], Sequence[Tensor]],
    batches: Tensor,
    rates: Sequence[float],
) -> None:
    """Move parameters in place by the recipe's SGD, as a plain loop over torch's optimiser.

    `gradient` is that of the rows (batch,) of a step; `rates` are those of the epochs.
    """
    sgd = torch.optim.SGD(params, momentum=0.9, weight_decay=5e-4)
    for step, rows in enumerate(batches):
        sgd.param_groups[0]["lr"] = rates[step * len(rates) // len(batches)]
        for param, slope in zip(params, gradient(rows), strict=True):
            param.grad = slope
        sgd.step()
