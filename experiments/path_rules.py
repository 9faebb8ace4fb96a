"""Compare rules that choose the weight decay of cRT on val; as experiments.rules does for tau.

python -m experiments.path_rules --banks 4 --draws 40
python -m experiments.path_rules --draws 40 --per-class 3,10,20 A.zarr B.zarr
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import features
from benchmarks.banks import problem_of
from heads.solvers.objective import Goal
from heads.solvers.path import Score, half_decade, path
from heads.solvers.rows import TrainingRows

# 1e-1 to 1e-4, as the path goes for usual features.
WEIGHT_DECAYS = tuple(half_decade(step) for step in range(-2, -9, -1))
SLACKS = {"maximum": 0.0, "half a standard error": 0.5, "one standard error": 1.0}


def simulated(n_banks: int) -> Iterator[features.Problem]:
    """Yield simulated banks that are harder or easier."""
    for bank in range(n_banks):
        shape = dataclasses.replace(features.SMALL, n_val=60, spread=0.6 + 0.15 * bank)
        yield features.make(shape, bank)


def main() -> None:
    """Draw val anew many times and print every rule's regret."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--banks", type=int, default=4)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--per-class", default="3,10,20")
    parser.add_argument("bank", nargs="*", type=Path)
    given = parser.parse_args()
    problems = (
        (problem_of(path)[0] for path in given.bank) if given.bank else simulated(given.banks)
    )
    found: dict[tuple[int, str], list[float]] = {}
    for bank, problem in enumerate(problems):
        n_classes = len(problem.counts)
        hits: list[torch.Tensor] = []
        held_out = [problem.splits[name] for name in ("val", "test")]
        answers = torch.cat([y for _, y in held_out])

        def score(predicted, hits=hits, answers=answers):  # type: ignore[no-untyped-def]
            hits.append(predicted == answers)
            return Score(0.0, hits[-1].double())

        X, y = problem.splits["train"]
        both = torch.cat([X for X, _ in held_out])
        path(TrainingRows(X, y, n_classes), Goal(), both, score, WEIGHT_DECAYS)
        right = torch.stack(hits).double()
        n_val = len(held_out[0][1])
        val, test = right[:, :n_val].numpy(), right[:, n_val:].numpy()
        accuracy = test.mean(axis=1)  # every class has as many rows
        labels = problem.splits["val"][1].numpy()
        for per_class in map(int, given.per_class.split(",")):
            for draw in range(given.draws):
                order = np.random.default_rng([bank, draw, per_class]).permutation(len(labels))
                order = order[np.argsort(labels[order], kind="stable")]
                rows = order.reshape(n_classes, -1)[:, :per_class].ravel()
                values = val[:, rows].mean(axis=1)
                error = np.sqrt(values.max() * (1 - values.max()) / len(rows))
                picks = {r: int(np.argmax(values >= values.max() - s * error))
                         for r, s in SLACKS.items()}  # fmt: skip
                for rule, pick in {**picks, "fixed at 3e-3": 3}.items():
                    loss = 100 * (accuracy.max() - accuracy[pick])
                    found.setdefault((per_class, rule), []).append(loss)
    print("| val rows a class | rule | regret, points | its spread |\n|---|---|---|---|")
    for (per_class, rule), losses in sorted(found.items()):
        print(f"| {per_class} | {rule} | {np.mean(losses):.2f} | {np.std(losses):.2f} |")


if __name__ == "__main__":
    main()
