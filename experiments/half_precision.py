"""What float16 storage costs: every head on the same features, as float32 and rounded to float16.

    python -m experiments.half_precision                      # synthetic features
    python -m experiments.half_precision --run RUN --out BANK  # and a run's, extracted as float32

Both times the heads compute in float32, choose on val as `featbank.fit` does, and are evaluated on
test features of the same storage.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import featbank
from benchmarks import features
from benchmarks.banks import problem_of, write_bank
from benchmarks.features import Problem
from featbank import Bank
from featbank.extraction.extract import extract

HEADS = ("joint", "ncm", "ncm:transform=un", "tau", "logit-adjust", "lws", "crt",
         "crt:solver=sgd", "balanced-softmax")  # fmt: skip


def compare(name: str, problem: Problem, classifier: tuple[Tensor, Tensor]) -> None:
    """Print a row for each head: test `all` by storage, and how many labels differ."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float32", "float16"):
            bank = Path(folder, dtype)
            write_bank(bank, problem, classifier, dtype)
            X_test = Bank.open(bank)["test"].read("float32")
            found[dtype] = [
                (100 * (fit.metrics["all"] or 0), fit.head.predict(X_test))
                for fit in featbank.fit(bank, HEADS, select="val", report="test")
            ]
    for head, (full, one), (half, other) in zip(HEADS, *found.values(), strict=True):
        moved = 100 * float((one != other).mean())
        row = f"| {name} | {head} | {full:.2f} | {half:.2f} | {half - full:+.2f} | {moved:.2f} |"
        print(row, flush=True)


def synthetic() -> tuple[Problem, tuple[Tensor, Tensor]]:
    """Return features like a trained network's, 10,847 x 256 of 100 classes."""
    problem = features.make(dataclasses.replace(features.SMALL, spread=0.75))
    return problem, features.stage1(problem)


def extracted(run: Path, out: Path) -> tuple[Problem, tuple[Tensor, Tensor]]:
    """Extract a run's features as float32; half of test, in turn, takes a missing val's place."""
    if not out.exists():
        extract(run, out, dtype="float32")
    problem, classifier = problem_of(out)
    splits = dict(problem.splits)
    if "val" not in splits:
        X, y = splits["test"]
        order = torch.argsort(y, stable=True)
        for name, rows in (("val", order[::2]), ("test", order[1::2])):
            splits[name] = X[rows], y[rows]
    return Problem(problem.counts, splits), classifier


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("float32.zarr"))
    given = parser.parse_args()
    print("| features | head | float32 | float16 | difference | labels that differ, % |")
    print("|---|---|---|---|---|---|")
    compare("synthetic", *synthetic())
    if given.run:
        compare(given.run.name, *extracted(given.run, given.out))


if __name__ == "__main__":
    main()
