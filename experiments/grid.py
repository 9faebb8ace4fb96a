"""{CE, re-weighting, re-sampling} for the representation x the same three for the classifier.

    python -m experiments.grid --seeds 5

The experiment that motivates BBN (Zhou et al., CVPR 2020, figure 2), on Digits-LT: train with one,
freeze the representation, train the classifier anew with one. Weights are 1 / n. The classifier is
trained by cRT's SGD, because at its optimum re-weighting and re-sampling are the same problem; the
optimum, with the weight decay chosen on val, is a second table.
"""

from __future__ import annotations

from experiments.common import arguments, gain, measured, spread, table, trained
from experiments.recipes import folder

REPRESENTATIONS = {
    "ce": {},
    "rw": {"loss": "cb-ce:beta=1"},
    "rs": {"sampler": "class"},
}
CLASSIFIERS = {"ce": "q=1", "rw": "q=1,weighting=class-balanced", "rs": "q=0"}
# Stage 1's own batch and rate: with the recipe's 512, more than there are images, both ways
# of balancing come to the same classifier here.
SOLVERS = {"sgd": "solver=sgd,batch=32,lr=0.05,epochs=20", "exact": "solver=exact"}
FOLDERS = {"ce": "ce", "rw": "rw", "rs": "sampler class"}  # two of them are recipes.py's


def main() -> None:
    """Run what is missing and print the grids."""
    given = arguments(__doc__)
    specs = [f"crt:{solver},{how}" for solver in SOLVERS.values() for how in CLASSIFIERS.values()]
    found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in REPRESENTATIONS}
    for seed in range(given.seeds):
        for name, settings in REPRESENTATIONS.items():
            where = folder(given.out, seed, FOLDERS[name])
            run = trained(where, seed, {"epochs": given.epochs, **settings})
            found[name].append(measured(run, "grid", specs, seed))
    header = ["representation", *(f"classifier {name}" for name in CLASSIFIERS)]
    for i, solver in enumerate(SOLVERS):
        for group in ("all", "few"):
            cells = {
                name: [[seed[3 * i + j][group] for seed in seeds] for j in range(3)]
                for name, seeds in found.items()
            }
            rows = [[name, *map(spread, each)] for name, each in cells.items()]
            print(f"\n{solver}: `{group}` on test, %\n\n{table(header, rows)}")
            rows = [[name, *map(gain, cells[name], cells["ce"])] for name in ("rw", "rs")]
            print(f"\n{solver}: `{group}` over the ce representation\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
