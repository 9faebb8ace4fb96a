"""Learnable weight scaling: the recipe as a plain loop, on kept logits, and to the optimum.

The loop and the recipe on kept logits take the same steps, so they must end at the same scales;
the optimum must have the lowest objective of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import Row, in_turn, rows_of, run, same
from benchmarks.features import SIZES, Shape, by_torch, with_classifier
from heads import LearnableWeightScaling
from heads.balancing.weighting import class_loss_share
from heads.solvers.linear import linear_scores, softmax_error
from heads.solvers.sgd import Recipe, plan_steps, sampled_rows

LOOP, KEPT, EXACT = "the recipe, a product per step", "the recipe on kept logits", "to the optimum"
RECIPE = Recipe(epochs=5)
DECAY = 5e-4
# Float32 sums over hundreds of steps; the scales are near 1.
WITHIN = 1e-3


def measure(shape: Shape, device: str) -> Iterator[Row]:
    """Time the three, each once or twice."""
    problem, weight, bias = with_classifier(shape, device)
    X, y = problem.splits["train"]
    share = class_loss_share(torch.bincount(y, minlength=len(weight)))

    def objective(scale: Tensor) -> float:
        loss = DECAY / 2 * float(scale.square().sum())
        for rows in torch.arange(len(X)).split(4096):
            losses, _ = softmax_error(linear_scores(X[rows], weight, bias) * scale, y[rows])
            loss += float((losses * share[y[rows]]).sum())
        return loss

    def loop() -> Tensor:
        plan = plan_steps(len(X), RECIPE)
        scale = torch.ones_like(bias)

        def gradient(rows: Tensor) -> tuple[Tensor]:
            frozen = linear_scores(X[rows], weight, bias)
            _, error = softmax_error(frozen * scale, y[rows])
            return ((error * frozen).mean(dim=0),)

        batches = sampled_rows(y, RECIPE, plan, np.random.default_rng(0))
        by_torch([scale], gradient, batches, [RECIPE.rate(epoch) for epoch in range(RECIPE.epochs)])
        return scale

    kept = LearnableWeightScaling("sgd", weight=weight, bias=bias)
    exact = LearnableWeightScaling("exact", weight=weight, bias=bias)
    works = {LOOP: loop, KEPT: lambda: kept.fit(X, y), EXACT: lambda: exact.fit(X, y)}
    seconds, results = in_turn(works, 2, warm_up=False)
    equal = same("scales", kept.scale_, results[LOOP], WITHIN)
    values = {
        name: objective(scale)
        for name, scale in ((LOOP, results[LOOP]), (KEPT, kept.scale_), (EXACT, exact.scale_))
    }
    assert values[EXACT] <= min(values.values()) + 1e-5, f"the optimum is no optimum: {values}"
    X_val = problem.splits["val"][0]
    joint = problem.accuracy("val", linear_scores(X_val, weight, bias).argmax(dim=1))
    learnt = problem.accuracy("val", exact.predict(X_val))
    assert learnt > joint, f"LWS reaches {learnt:.3f}, stage 1 {joint:.3f}"
    reached = {name: f"objective {value:.5f}" for name, value in values.items()}
    reached[KEPT] += f"; {equal}; {problem.reached(kept)}"
    reached[EXACT] += f"; {problem.reached(exact)}; {exact.n_steps_} evaluations"
    yield from rows_of(problem.size(), LOOP, seconds, reached)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    run(__doc__, measure, SIZES, words)


if __name__ == "__main__":
    main()
