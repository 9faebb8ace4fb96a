"""The exact curve over tau beside one product, and beside the 21 products of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from benchmarks.common import Row, in_turn, rows_of, run, same
from benchmarks.features import SIZES, Shape, with_classifier
from heads.curves.curve import exact_tau_curve
from heads.curves.rules import choose_on_curve

PRODUCT, CURVE, GRID = "one product", "exact tau curve", "21 products"
TAUS = [round(0.1 * step, 1) for step in range(21)]
BLOCK = 4096


def measure(shape: Shape, device: str) -> Iterator[Row]:
    """Time the curve of the test split."""
    problem, weight, _ = with_classifier(shape, device)
    X, y = problem.splits["test"]
    norms = weight.norm(dim=1, keepdim=True)
    blocks = [X[start : start + BLOCK] for start in range(0, len(X), BLOCK)]

    def product() -> None:
        for block in blocks:
            block @ weight.T

    def grid() -> list[float]:
        found = []
        for tau in TAUS:
            scaled = weight / norms**tau
            predicted = torch.cat([(block @ scaled.T).argmax(dim=1) for block in blocks])
            found.append(problem.accuracy("test", predicted))
        return found

    works = {PRODUCT: product, CURVE: lambda: exact_tau_curve(weight, X, y, problem.counts)}
    seconds, results = in_turn(works, 5)
    once, slow = in_turn({GRID: grid}, 1, warm_up=False)  # twenty times as long as the others
    seconds |= once
    curve = results[CURVE]
    on_curve = [curve.at(tau)["all"] for tau in TAUS]
    # One row may fall to either of two classes whose scores are equal to rounding.
    equal = same("accuracies", on_curve, slow[GRID], 1 / (shape.n_test * shape.n_classes))
    choosing, chosen = in_turn({"choosing": lambda: choose_on_curve(curve)}, 3)
    seconds["choosing from the curve"] = choosing["choosing"]
    reached = {
        CURVE: f"{len(curve.breakpoints)} breakpoints",
        GRID: f"{equal} with the curve's",
        "choosing from the curve": f"tau {chosen['choosing'].best:g}",
    }
    yield from rows_of(problem.size("test"), PRODUCT, seconds, reached)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    run(__doc__, measure, SIZES, words)


if __name__ == "__main__":
    main()
