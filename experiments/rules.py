"""Compare rules that choose tau on val, by the test accuracy they give and its spread.

    python -m experiments.rules --banks 4 --draws 20
    python -m experiments.rules --draws 20 --per-class 3,10,20 A.zarr B.zarr

Without banks on disk, on simulated ones (benchmarks/features.py).
On each bank the test curve is exact, so every rule's regret (the best test accuracy minus that at
its choice) is known; val is drawn anew many times, with few rows a class as in practice.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks import features
from benchmarks.banks import problem_of
from benchmarks.features import Problem
from heads.curves.curve import StepCurve, exact_adjust_curve, exact_tau_curve
from heads.curves.rules import RULES, choose_on_curve

FIXED = 1.0


def redrawn(curve: StepCurve, per_class: int, rng: np.random.Generator) -> StepCurve:
    """Return the curve of a few rows of each class, drawn without replacement."""
    order = rng.permutation(len(curve.y_idx))
    order = order[np.argsort(curve.y_idx[order], kind="stable")]
    counts = np.bincount(curve.y_idx)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = order[place < per_class]
    return dataclasses.replace(
        curve, first=curve.first[rows], last=curve.last[rows], y_idx=curve.y_idx[rows]
    )


def simulated(n_banks: int) -> Iterator[tuple[Problem, tuple[Tensor, Tensor]]]:
    """Yield simulated banks that are harder or easier, with their stage-1 classifiers."""
    for bank in range(n_banks):
        shape = dataclasses.replace(features.SMALL, n_val=100, spread=0.6 + 0.15 * bank)
        problem = features.make(shape, bank)
        yield problem, features.stage1(problem, 5, bank)


def main() -> None:
    """Draw val anew many times and print every rule's regret."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--banks", type=int, default=4)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--per-class", default="3,10,20")
    parser.add_argument("bank", nargs="*", type=Path)
    given = parser.parse_args()
    found = list(map(problem_of, given.bank) if given.bank else simulated(given.banks))
    print("| head | val rows a class | rule | regret, points | its spread | spread of tau |")
    print("|---|---|---|---|---|---|")
    for family in ("tau", "logit-adjust"):
        curves = [
            [
                exact_tau_curve(W, *problem.splits[s], problem.counts) if family == "tau"
                else exact_adjust_curve(W, b, *problem.splits[s], problem.counts)
                for s in ("val", "test")
            ]
            for problem, (W, b) in found
        ]  # fmt: skip
        for per_class in map(int, given.per_class.split(",")):
            losses: dict[str, list[float]] = {rule: [] for rule in (*RULES, "fixed at 1")}
            chosen: dict[str, list[float]] = {rule: [] for rule in losses}
            for bank, (val, test) in enumerate(curves):
                best = test.maximum()[2]
                for draw in range(given.draws):
                    rng = np.random.default_rng([bank, draw, per_class])
                    few = redrawn(val, per_class, rng)
                    for rule in losses:
                        at = FIXED if rule == "fixed at 1" else choose_on_curve(few, rule).best
                        losses[rule].append(100 * (best - float(test.at(at)["all"] or 0)))
                        chosen[rule].append(at)
            for rule, values in losses.items():
                taus = np.reshape(chosen[rule], (len(found), -1)).std(axis=1).mean()
                print(
                    f"| {family} | {per_class} | {rule} | {np.mean(values):.2f} "
                    f"| {np.std(values):.2f} | {taus:.3f} |"
                )


if __name__ == "__main__":
    main()
