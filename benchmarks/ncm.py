"""Nearest class means, fitted and searched, beside scikit-learn, a plain loop, and faiss.

The first peer is one read of the features, which no way of fitting can be faster than.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from benchmarks.common import Row, in_turn, rows_of, run, same, timed
from benchmarks.features import SIZES, Problem, Shape, make
from heads import NearestClassMean

READ = "read the features once"
TRANSFORMS = ("un", "l2n", "cl2n")
# Centroids are means of float32 rows summed in float64; features are of order 1.
WITHIN = 1e-5


def measure(shape: Shape, device: str) -> Iterator[Row]:
    """Time fitting and searching."""
    problem = make(shape).on(device)
    yield from fitting(problem)
    yield from searching(problem)


def fitting(problem: Problem) -> Iterator[Row]:
    """Time fitting; compare the means with those of a loop over classes in float64."""
    X, y = problem.splits["train"]
    heads = {f"NCM {name}": NearestClassMean(name) for name in TRANSFORMS}
    fits = {name: (lambda head=head: head.fit(X, y)) for name, head in heads.items()}
    seconds, _ = in_turn({READ: X.sum, **fits}, 5)
    reached = {}
    for transform, (name, head) in zip(TRANSFORMS, heads.items(), strict=True):
        took, means = timed(lambda transform=transform: slow_means(X, y, problem, transform))
        seconds[f"{transform}, a loop in float64"] = [took]
        reached[name] = f"{same('means', head.centroids_, means, WITHIN)}; {problem.reached(head)}"
    if not X.is_cuda:
        theirs = NearestCentroid()
        took, _ = timed(lambda: theirs.fit(X.numpy(), y.numpy()))
        seconds["scikit-learn NearestCentroid"] = [took]
        same("scikit-learn's means", heads["NCM un"].centroids_, theirs.centroids_, 10 * WITHIN)
        reached["scikit-learn NearestCentroid"] = problem.reached(theirs)
    yield from rows_of(problem.size(), READ, seconds, reached)


def slow_means(X: Tensor, y: Tensor, problem: Problem, transform: str) -> Tensor:
    """Return the class means by a loop, in float64."""
    centre = X.double().mean(dim=0) if transform == "cl2n" else 0
    means = []
    for label in range(len(problem.counts)):
        rows = X[y == label].double() - centre
        if transform != "un":
            rows = rows / rows.norm(dim=1, keepdim=True)
        means.append(rows.mean(dim=0))
    return torch.stack(means)


def searching(problem: Problem) -> Iterator[Row]:
    """Time both engines; their labels are the same but where two centroids are as near."""
    X, y = problem.splits["train"]
    rows = problem.splits["test"][0][:16384]
    engines = {
        engine: NearestClassMean("cl2n", engine=engine).fit(X, y) for engine in ("torch", "faiss")
    }
    works = {
        f"search by {engine}": (lambda head=head: head.predict(rows))
        for engine, head in engines.items()
    }
    seconds, found = in_turn(works, 5)
    differ = float(
        np.mean(found["search by torch"].cpu().numpy() != found["search by faiss"].cpu().numpy())
    )
    assert differ <= 1e-3, f"faiss and torch give {100 * differ:.2f} % different labels"
    reached = {"search by faiss": f"{100 * differ:.3g} % other labels"}
    size = f"{len(rows)} x {rows.shape[1]}, C = {len(problem.counts)}"
    yield from rows_of(size, "search by torch", seconds, reached)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    run(__doc__, measure, SIZES, words)


if __name__ == "__main__":
    main()
