"""All stage-1 recipes x all heads on Digits-LT: accuracy on test, mean and deviation over seeds.

    python -m experiments.recipes --seeds 5

Of each recipe the checkpoint best on val is banked and every head is fitted on it, chosen on val.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.common import arguments, gain, measured, spread, table, trained

HEADS = ("joint", "ncm", "tau", "crt", "lws", "logit-adjust", "balanced-softmax")

# The first is what the others are compared with.
RECIPES: dict[str, dict[str, Any]] = {
    "ce": {},
    "sampler sqrt": {"sampler": "sqrt"},
    "sampler progressive": {"sampler": "progressive"},
    "sampler class": {"sampler": "class"},
    "sampler reversed": {"sampler": "reversed"},
    "cb-ce": {"loss": "cb-ce"},
    "focal": {"loss": "focal"},
    "cb-focal": {"loss": "cb-focal"},
    "ldam": {"loss": "ldam"},
    "ldam drw": {"loss": "ldam", "defer": "drw"},
    "ce drw": {"defer": "drw"},
    "ce drs": {"defer": "drs"},
    "balanced-softmax": {"loss": "balanced-softmax"},
    "logit-adjusted, tau 1.5": {"loss": "logit-adjusted:tau=1.5"},
    "smoothing 0.1": {"label_smoothing": 0.1},
    "mixup": {"mixup": "input"},
    "mixup, class partner": {"mixup": "input:partner=class"},
    "manifold": {"mixup": "manifold"},
    "manifold, class partner": {"mixup": "manifold:partner=class"},
    "bbn": {"method": "bbn"},
}


def folder(out: Path, seed: int, name: str) -> Path:
    """Return where a recipe's training of one seed is."""
    return out / f"seed{seed}" / name.replace(", ", "-").replace(" ", "-")


def main() -> None:
    """Run what is missing, seed by seed, and print the tables."""
    given = arguments(__doc__)
    found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in RECIPES}
    for seed in range(given.seeds):
        for name, settings in RECIPES.items():
            where = folder(given.out, seed, name)
            run = trained(where, seed, {"epochs": given.epochs, **settings})
            found[name].append(measured(run, "heads", HEADS, seed))
    for group in ("all", "few"):
        columns = {
            name: [[seed[head][group] for seed in seeds] for head in range(len(HEADS))]
            for name, seeds in found.items()
        }
        rows = [[name, *map(spread, each)] for name, each in columns.items()]
        print(f"\n`{group}` on test, %\n\n{table(['recipe', *HEADS], rows)}")
        plain = columns["ce"]
        rows = [[name, *map(gain, each, plain)] for name, each in columns.items() if name != "ce"]
        print(f"\n`{group}` over ce with the same head\n\n{table(['recipe', *HEADS], rows)}")


if __name__ == "__main__":
    main()
