"""Class-balanced row numbers, ten epochs of them, beside torch.multinomial.

That is what torch's WeightedRandomSampler calls: each row by chance, with a weight of 1 / n of its
class. The sampler of heads draws every class equally often to within one handful.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from benchmarks.common import Row, in_turn, rows_of, run
from benchmarks.features import IMAGENET_LT, TINY, Shape
from featbank.data.sampling import epoch_indices
from heads.balancing.sampling import class_aware_rows

SIZES = {"small": (TINY,), "usual": (IMAGENET_LT,), "full": (IMAGENET_LT,)}
EPOCHS, PER_CLASS = 10, 4


def measure(shape: Shape, _device: str) -> Iterator[Row]:
    """Time the samplers of heads and of training, and count what each class got."""
    counts = shape.counts()
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    n_draws = EPOCHS * len(y)
    weights = torch.from_numpy(1 / counts[y])
    generator = torch.Generator().manual_seed(0)
    works = {
        "torch.multinomial": lambda: torch.multinomial(
            weights, n_draws, replacement=True, generator=generator
        ).numpy(),
        "heads.balancing.sampling": lambda: class_aware_rows(
            y, n_draws, PER_CLASS, np.random.default_rng(0)
        ),
        "featbank.data.sampling, epoch by epoch": lambda: np.concatenate(
            [epoch_indices(y, "class", 0, epoch) for epoch in range(EPOCHS)]
        ),
    }
    seconds, results = in_turn(works, 5)
    # By chance, a class's number of draws has a standard deviation of about the root of its mean.
    by_chance = 12 * (n_draws / len(counts)) ** 0.5
    most = dict.fromkeys(works, by_chance) | {"heads.balancing.sampling": PER_CLASS}
    reached = {}
    for name, rows in results.items():
        apart = spread(y, rows, len(counts))
        assert len(rows) == n_draws, f"{name}: {len(rows)} rows in place of {n_draws}"
        assert apart <= most[name], f"{name}: classes differ by {apart} draws"
        rate = n_draws / np.median(seconds[name]) / 1e6
        reached[name] = f"{rate:.1f} million a second; classes differ by {apart} draws"
    drawn = f"{n_draws} draws of {len(counts)} classes"
    yield from rows_of(drawn, "torch.multinomial", seconds, reached)


def spread(y: np.ndarray, rows: np.ndarray, n_classes: int) -> int:
    """Return by how many draws the most and the least drawn class differ."""
    drawn = np.bincount(y[rows], minlength=n_classes)
    return int(drawn.max() - drawn.min())


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    run(__doc__, measure, SIZES, words)


if __name__ == "__main__":
    main()
