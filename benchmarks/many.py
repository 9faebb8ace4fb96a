"""A grid of cRT heads by the recipe's SGD, one epoch each: one after another, and in one pass.

With one seed all heads see the same batches, one stream of them; each seed more is one more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from benchmarks.common import Row, in_turn, rows_of, run, same
from benchmarks.features import IMAGENET_LT, SMALL, TINY, Shape, make
from heads import ClassifierRetraining, fit_many

RATES, DECAYS, SEEDS = (0.05, 0.1, 0.2, 0.4), (0.0, 1e-4, 5e-4, 2e-3), (0, 1, 2, 3)


@dataclass(frozen=True)
class Size:
    """Heads for so many rates, times as many weight decays or seeds."""

    side: int
    rounds: int
    shape: Shape


SIZES = {
    "small": (Size(2, 1, replace(TINY, spread=0.75)),),
    "usual": (Size(4, 3, replace(SMALL, spread=0.75)),),
    "full": tuple(Size(4, 3, replace(shape, spread=0.75)) for shape in (SMALL, IMAGENET_LT)),
}
# Both take the same steps, and only the order of float32 sums differs.
WITHIN = 1e-5


def measure(size: Size, device: str) -> Iterator[Row]:
    """Time two grids."""
    problem = make(size.shape).on(device)
    X, y = problem.splits["train"]
    for grid, name, values in (
        ("rates x weight decays, one stream", "weight_decay", DECAYS),
        ("rates x seeds, streams of their own", "random_state", SEEDS),
    ):
        heads = partial(grid_of, name, values[: size.side], RATES[: size.side])
        alone, together = f"{grid}: {len(heads())} fits", f"{grid}: in one pass"
        works = {
            alone: lambda heads=heads: [head.fit(X, y) for head in heads()],
            together: lambda heads=heads: fit_many(heads(), X, y),
        }
        seconds, results = in_turn(works, size.rounds)
        weights = {
            work: torch.stack([head.weight_ for head in fitted]) for work, fitted in results.items()
        }
        reached = {together: same("weights", weights[together], weights[alone], WITHIN)}
        yield from rows_of(problem.size(), alone, seconds, reached)


def grid_of(
    name: str, values: Sequence[float], rates: Sequence[float]
) -> list[ClassifierRetraining]:
    """Return a head for each rate and each value of a parameter."""
    return [
        ClassifierRetraining("sgd", epochs=1, lr=rate, **{name: value})
        for rate in rates
        for value in values
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    run(__doc__, measure, SIZES, words)


if __name__ == "__main__":
    main()
