"""How often 95 % intervals hold the truth, and how often tests of equal classifiers cry wolf.

    python -m experiments.coverage --experiments 4000

Rows are right independently, each class with its own accuracy, which is known; every experiment
draws all rows anew; 500 of them share the resampling, the next 500 have another. Beside the
intervals of `featbank compare` stand their percentiles alone, without what classes hide that are
all right or all wrong, those of a bootstrap that draws all n rows of a class, and those of all rows
thrown together, as is common.
"""

from __future__ import annotations

import argparse

import numpy as np

from heads.metrics import bootstrap, mcnemar
from heads.metrics.unseen import unseen

# Classes, rows of each on the evaluation split, lowest and highest accuracy of a class.
SETTINGS = [
    (10, 50, 0.80, 1.00),
    (10, 50, 0.30, 0.95),
    (100, 10, 0.30, 0.95),
    (100, 100, 0.05, 0.80),
    (1000, 20, 0.20, 0.90),
    (1000, 3, 0.20, 0.90),
    (1, 10, 0.90, 0.90),
    (2, 5, 0.50, 0.50),
    (2, 5, 0.90, 0.90),
    (2, 5, 0.99, 0.99),
    (10, 50, 0.99, 0.99),
    (100, 10, 0.99, 0.99),
]
DRAWS = 1000
BATCH = 500  # experiments that share their draws
# Evaluation rows up to which the bootstrap of n draws, a binomial at a time, is waited for.
MOST_NAIVE = 3000


def covered(setting: tuple[int, int, float, float], experiments: int, seed: int) -> list[float]:
    """Return the shares of intervals that hold the truth.

    Ours; their percentiles alone; n draws; rows thrown together.
    """
    classes, rows, low, high = setting
    rng = np.random.default_rng(seed)
    accuracy = rng.uniform(low, high, classes)
    y = np.repeat(np.arange(classes), rows)
    right = rng.random((len(y), experiments)) < accuracy[y][:, None]
    truth, groups = accuracy.mean(), np.full(classes, 1, np.int8)
    ours = bootstrap.resample(right, y, groups, draws=DRAWS, seed=seed)["all"]
    hits = right.reshape(classes, rows, experiments).sum(axis=1)
    naive = np.full((DRAWS, experiments), np.nan)
    pooled = np.empty((DRAWS, experiments))
    for draw in range(DRAWS):
        if len(y) <= MOST_NAIVE:
            naive[draw] = (rng.binomial(rows, hits / rows) / rows).mean(axis=0)
        pooled[draw] = rng.binomial(len(y), hits.sum(axis=0) / len(y)) / len(y)
    mine = np.empty((2, experiments))
    for k in range(experiments):
        value = float(hits[:, k].mean() / rows)
        hidden = unseen(right[:, k], y, groups)["all"]
        mine[:, k] = bootstrap.interval(ours[:, k], value=value, unseen=hidden)
    shares = [held(drawn, truth) for drawn in (ours, naive, pooled)]
    return [inside(*mine, truth), *shares]


def held(drawn: np.ndarray, truth: float) -> float:
    """Return the share of experiments whose percentile interval holds the truth."""
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return inside(low, high, truth) if not np.isnan(low).any() else np.nan


def inside(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    """Return the share of intervals that hold the truth, to rounding."""
    return float(((low <= truth + 1e-12) & (truth - 1e-12 <= high)).mean())


def false_alarms(
    setting: tuple[int, int, float, float], experiments: int, seed: int
) -> list[float]:
    """Return the shares of p < 0.05 between classifiers of equal accuracy: paired, McNemar."""
    classes, rows, low, high = setting
    rng = np.random.default_rng(seed)
    accuracy = rng.uniform(low, high, classes)
    y = np.repeat(np.arange(classes), rows)
    agree = rng.random((len(y), experiments)) < 0.8
    both = rng.random((len(y), experiments)) < accuracy[y][:, None]
    one = np.where(agree, both, rng.random(both.shape) < 0.5)
    other = np.where(agree, both, ~one)
    groups = np.full(classes, 1, np.int8)
    drawn = bootstrap.resample(np.hstack([one, other]), y, groups, draws=DRAWS, seed=seed)["all"]
    p = np.empty((2, experiments))
    values = (one.mean(axis=0) - other.mean(axis=0)).round(12)  # classes have as many rows each
    for k in range(experiments):
        apart = one[:, k].astype(np.int64) - other[:, k]
        hidden = unseen(apart, y, groups, bounds=(-1, 1))["all"]
        pair = drawn[:, k], drawn[:, experiments + k]
        p[0, k] = bootstrap.difference(values[k], *pair, unseen=hidden)[1]
        p[1, k] = mcnemar.mcnemar(*mcnemar.discordant(one[:, k], other[:, k]))
    return (p < 0.05).mean(axis=1).tolist()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(
        "| classes x rows | accuracy | interval | percentiles | n draws | pooled | paired | mid-p |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for setting in SETTINGS:
        classes, rows, low, high = setting
        seeds = range(given.seed, given.seed + 2 * given.experiments // BATCH, 2)
        batches = [
            [*covered(setting, BATCH, seed), *false_alarms(setting, BATCH, seed + 1)]
            for seed in seeds
        ]
        shares = np.mean(batches, axis=0)
        cells = " | ".join("" if np.isnan(share) else f"{100 * share:.1f}" for share in shares)
        print(f"| {classes} x {rows} | {low:.2f} to {high:.2f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
