"""`featbank.compare`: a first run, the same again, and one bank more, beside plain fits.

The peer is `featbank.fit` of the same heads on each bank, which has intervals but no paired
differences, no saved heads and no page. Both must reach the same accuracies; the second run and the
one with a bank more must leave the results that are there as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import featbank
from benchmarks import features
from benchmarks.banks import write_bank
from benchmarks.common import Row, rows_of, run, timed
from featbank import Comparison, Fits

HEADS = ("joint", "ncm", "tau", "logit-adjust", "crt", "lws")
FITS, FIRST, AGAIN, MORE = "featbank.fit on each", "compare", "the same again", "one bank more"


@dataclass(frozen=True)
class Size:
    """So many banks of a shape."""

    n_banks: int
    shape: features.Shape


SIZES = {
    "small": (Size(1, features.TINY),),
    "usual": (Size(3, replace(features.SMALL, n_val=50)),),
    "full": (Size(5, replace(features.SMALL, n_train=10_000, dim=512, n_val=50)),),
}


def measure(size: Size, device: str) -> Iterator[Row]:
    """Time three runs into one folder between two rounds of plain fits."""
    with tempfile.TemporaryDirectory() as name:
        banks = [Path(name, f"bank{index}.zarr") for index in range(size.n_banks + 1)]
        for index, bank in enumerate(banks):
            write(bank, size.shape, index)

        def compared(n_banks: int) -> Comparison:
            return featbank.compare(banks[:n_banks], HEADS, Path(name, "out"), device=device)

        def fitted() -> list[Fits]:
            return [featbank.fit(bank, HEADS, device=device) for bank in banks[: size.n_banks]]

        before, fits = timed(fitted)
        first, comparison = timed(lambda: compared(size.n_banks))
        second, again = timed(lambda: compared(size.n_banks))
        more, wider = timed(lambda: compared(size.n_banks + 1))
        after, _ = timed(fitted)
    check(comparison, fits)
    assert again.results == comparison.results, "the second run changed results"
    kept = wider.results[: len(comparison.results)]
    assert [each.metrics for each in kept] == [each.metrics for each in comparison.results]
    seconds = {FITS: [before, after], FIRST: [first], AGAIN: [second], MORE: [more]}
    fitting = sum(each.fit_seconds or 0 for each in comparison.results)
    reached = {
        FIRST: f"{len(comparison.comparisons)} differences, the page; {fitting:.3g} s of fitting",
        AGAIN: "nothing is fitted",
        MORE: f"{len(wider.comparisons)} differences",
    }
    rows, dim, n_classes = size.shape.n_train, size.shape.dim, size.shape.n_classes
    shape = f"{size.n_banks} banks of {rows} x {dim}, C = {n_classes}; {len(HEADS)} heads"
    yield from rows_of(shape, FITS, seconds, reached)


def check(comparison: Comparison, fits: Sequence[Fits]) -> None:
    """Assert that comparing reaches what fitting alone does."""
    alone = [fit.metrics for each in fits for fit in each]
    together = [each.metrics for each in comparison.results]
    assert len(alone) == len(together), f"{len(together)} results in place of {len(alone)}"
    for one, other, result in zip(alone, together, comparison.results, strict=True):
        assert one == other, f"{result.spec} on {result.bank_name}: {other} is not {one}"


def write(path: Path, shape: features.Shape, seed: int) -> None:
    """Write a bank of synthetic features; all have the same reported rows."""
    problem = features.make(shape, noise=1 + 0.05 * seed)
    recipe = {"checkpoint": str(seed), "recipe": {"sampler": "instance", "seed": seed}}
    write_bank(path, problem, features.stage1(problem), provenance=recipe)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    run(__doc__, measure, SIZES, words)


if __name__ == "__main__":
    main()
