"""cRT: the recipe as a plain loop, ours by SGD, the whole path of weight decays, scikit-learn.

The recipe is Kang et al.'s SGD on cached features. Ours by SGD must reach its accuracy, and the
path, which also chooses the weight decay on val, must not fall behind. At one weight decay the
objective must not be above that of scikit-learn's logistic regression.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from benchmarks.common import Row, in_turn, rows_of, run
from benchmarks.features import SIZES, Problem, Shape, by_torch, with_classifier
from heads import ClassifierRetraining
from heads.solvers.linear import linear_scores, softmax_error
from heads.solvers.sgd import Recipe, plan_steps, sampled_rows

LOOP, RECIPE, PATH = "the recipe, a plain loop", "ours, sgd", "ours, whole path and selection"
THEIRS, OURS = "scikit-learn LogisticRegression, balanced", "ours, exact, one weight decay"
# Two runs of SGD from different first weights, and choosing on val's few rows, differ by so much.
BY_CHANCE = 0.03
DECAY = 3e-3
MOST_ROWS, MOST_CLASSES = 20, 100  # of a class, and classes, in the comparison with scikit-learn


def measure(shape: Shape, device: str) -> Iterator[Row]:
    """Time the recipe beside the path, and one weight decay beside scikit-learn."""
    problem, weight, bias = with_classifier(shape, device)
    joint = labels_of(problem, weight, bias)["val"]
    yield from recipe_and_path(problem, problem.accuracy("val", joint))
    yield from one_weight_decay(problem)


def recipe_and_path(problem: Problem, joint: float) -> Iterator[Row]:
    """Time the whole of cRT, selection included; `joint` is stage 1's own accuracy on val."""
    X, y = problem.splits["train"]
    recipe, path = ClassifierRetraining("sgd"), ClassifierRetraining()

    def whole_path() -> list[object]:
        path.weight_decay = None
        return path.fit_path(X, y, *problem.splits["val"], problem.counts)

    works = {LOOP: lambda: loop(problem), RECIPE: lambda: recipe.fit(X, y), PATH: whole_path}
    seconds, results = in_turn(works, 1, warm_up=False)
    predicted = labels_of(problem, *results[LOOP])
    X_val = problem.splits["val"][0]
    plain, by_sgd, by_path = (
        problem.accuracy("val", labels)
        for labels in (predicted["val"], recipe.predict(X_val), path.predict(X_val))
    )
    assert by_sgd > joint, f"cRT reaches {by_sgd:.3f}, stage 1 {joint:.3f}"
    assert abs(by_sgd - plain) <= BY_CHANCE, f"the recipe reaches {by_sgd:.3f}, a loop {plain:.3f}"
    assert by_path >= by_sgd - BY_CHANCE, f"the path reaches {by_path:.3f}, SGD {by_sgd:.3f}"
    on = ", ".join(f"{s} {100 * problem.accuracy(s, p):.2f}" for s, p in predicted.items())
    tried = f"weight decay {path.weight_decay:g} of {len(results[PATH])}"
    reached = {
        LOOP: on,
        RECIPE: problem.reached(recipe),
        PATH: f"{problem.reached(path)}; {tried}",
    }
    yield from rows_of(problem.size(), LOOP, seconds, reached)


def labels_of(problem: Problem, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Return the labels that a linear classifier gives to val and test."""
    return {
        split: linear_scores(problem.splits[split][0], weight, bias).argmax(dim=1)
        for split in ("val", "test")
    }


def loop(problem: Problem) -> tuple[Tensor, Tensor]:
    """Train a classifier by the recipe as a plain loop over torch's optimiser."""
    X, y = problem.splits["train"]
    recipe = Recipe()
    weight = X.new_zeros(len(problem.counts), X.shape[1])
    bias = X.new_zeros(len(problem.counts))

    def gradient(rows: Tensor) -> tuple[Tensor, Tensor]:
        block = X[rows]
        _, error = softmax_error(linear_scores(block, weight, bias), y[rows])
        error /= len(rows)
        return error.T @ block, error.sum(dim=0)

    batches = sampled_rows(y, recipe, plan_steps(len(X), recipe), np.random.default_rng(0))
    rates = [recipe.rate(epoch) for epoch in range(recipe.epochs)]
    by_torch([weight, bias], gradient, batches, rates)
    return weight, bias


def one_weight_decay(problem: Problem) -> Iterator[Row]:
    """Time one fit on a few rows of about a hundred classes, where scikit-learn's takes seconds."""
    X, y = few_rows(problem)
    theirs = LogisticRegression(class_weight="balanced", C=1 / (DECAY * len(X)), max_iter=200)
    ours = ClassifierRetraining(weight_decay=DECAY)
    works = {THEIRS: lambda: theirs.fit(X.numpy(), y.numpy()), OURS: lambda: ours.fit(X, y)}
    seconds, _ = in_turn(works, 3)
    values = {
        THEIRS: objective(
            X, y, torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_)
        ),
        OURS: objective(X, y, ours.weight_, ours.bias_),
    }
    assert values[OURS] <= values[THEIRS] * (1 + 1e-4), f"no optimum: {values}"
    reached = {name: f"objective {value:.5f}" for name, value in values.items()}
    size = f"{len(X)} x {X.shape[1]}, C = {len(theirs.classes_)}"
    yield from rows_of(size, THEIRS, seconds, reached)


def few_rows(problem: Problem) -> tuple[Tensor, Tensor]:
    """Return the first rows of every so-manieth class, on the CPU."""
    X, y = problem.splits["train"]
    every = max(1, len(problem.counts) // MOST_CLASSES)
    rows = [(y == c).nonzero()[:MOST_ROWS, 0] for c in range(0, len(problem.counts), every)]
    return X[torch.cat(rows)].cpu(), y[torch.cat(rows)].cpu()


def objective(X: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> float:
    """Return the class-balanced mean of cross-entropies, and the penalty of both parameters."""
    _, place, counts = torch.unique(y, return_inverse=True, return_counts=True)
    scores = X.double() @ weight.double().T + bias.double()
    losses, _ = softmax_error(scores, place)
    balanced = float(losses @ (1 / (len(counts) * counts[place])).double())
    return balanced + DECAY / 2 * float(weight.square().sum() + bias.square().sum())


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    run(__doc__, measure, SIZES, words)


if __name__ == "__main__":
    main()
