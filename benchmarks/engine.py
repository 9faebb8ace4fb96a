"""Times the engine beside the straightforward loops and scikit-learn, with what each reaches.

    python -m benchmarks.engine --shape imagenet-lt --rows tau,lws,crt,ncm --out table.md

Ratios of one run on one machine are what to compare; absolute times move with what else runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import features
from benchmarks.features import Problem, Shape
from heads import ClassifierRetraining, LearnableWeightScaling, NearestClassMean, fit_many
from heads._convex import class_weights
from heads._linear import linear_scores, softmax_error
from heads._sgd import Recipe, descend, plan_steps, sampled_rows
from heads.curve import exact_tau_curve
from heads.metrics import evaluate
from heads.rules import choose_on_curve

SHAPES = {
    "imagenet-lt": dataclasses.replace(features.IMAGENET_LT, spread=0.75),
    "places-lt": dataclasses.replace(features.PLACES_LT, spread=0.75),
    "inaturalist-slice": dataclasses.replace(
        features.INATURALIST_SLICE, n_classes=2000, n_max=400, n_train=60_000, spread=0.75
    ),
    "small": dataclasses.replace(features.SMALL, spread=0.75),
}


class Table:
    """Rows of what, time, ratio to the first of the group, and what was reached."""

    def __init__(self) -> None:
        self.lines = ["| what | seconds | times the first | reached |", "|---|---|---|---|"]
        self.first: float | None = None

    def add(self, what: str, seconds: float, reached: str = "") -> None:
        self.first = self.first or seconds
        self.lines.append(f"| {what} | {seconds:.2f} | {seconds / self.first:.3f} | {reached} |")
        print(self.lines[-1], flush=True)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def accuracy(problem: Problem, split: str, predicted: Any) -> float:
    y = problem.splits[split][1].cpu().numpy()
    return float(evaluate(y, np.asarray(torch.as_tensor(predicted).cpu()), problem.counts)["all"])


def reached(problem: Problem, head: Any) -> str:
    parts = (f"{s} {100 * accuracy(problem, s, head.predict(problem.splits[s][0])):.2f}"
             for s in ("val", "test"))  # fmt: skip
    return ", ".join(parts)


def tau_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    X, y = problem.splits["test"]
    taus = [round(0.1 * step, 1) for step in range(21)]

    def product() -> None:
        for start in range(0, len(X), 4096):
            X[start : start + 4096] @ W.T

    def loop() -> list[float]:
        found = []
        for tau in taus:
            scaled = W / W.norm(dim=1, keepdim=True) ** tau
            predicted = torch.cat([(X[s : s + 4096] @ scaled.T).argmax(1)
                                   for s in range(0, len(X), 4096)])  # fmt: skip
            found.append(accuracy(problem, "test", predicted))
        return found

    exact_tau_curve(W, X[:4096], y[:4096], problem.counts)  # threads begin
    table.first = None
    once = min(timed(product)[0] for _ in range(2))
    seconds, curve = min((timed(lambda: exact_tau_curve(W, X, y, problem.counts))
                          for _ in range(2)), key=lambda pair: pair[0])  # fmt: skip
    table.add("one product", once)
    table.add("exact tau curve", seconds, f"{len(curve.breakpoints)} breakpoints")
    slow, values = timed(loop)
    off = max(abs(v - curve.at(t)["all"]) for t, v in zip(taus, values, strict=True))
    table.add("21 products", slow, f"largest difference from the curve {off:.1e}")
    chosen, found = timed(lambda: choose_on_curve(curve))
    table.add("choosing from the curve (bootstrap)", chosen, f"tau {found['best']:g}")


def lws_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    X, y = problem.splits["train"]
    recipe = Recipe(epochs=5)
    plan = plan_steps(len(X), recipe)
    weights = class_weights(torch.bincount(y, minlength=len(W)))

    def objective(scale: Any) -> str:
        loss = 0.0
        for s in range(0, len(X), 4096):
            scores = linear_scores(X[s : s + 4096], W, b) * scale
            losses, _ = softmax_error(scores, y[s : s + 4096])
            loss += float((losses * weights[y[s : s + 4096]]).sum())
        return f"objective {loss + 2.5e-4 * float(scale.square().sum()):.5f}"

    def straight() -> Any:
        scale = torch.ones(len(W))
        rows = sampled_rows(y, recipe, plan, np.random.default_rng(0))

        def gradient(chosen: Any) -> tuple[Any]:
            frozen = linear_scores(X[chosen], W, b)
            _, error = softmax_error(frozen * scale, y[chosen])
            return ((error * frozen).mean(dim=0),)

        descend([scale], gradient, rows, recipe, plan)
        return scale

    table.first = None
    slow, scale = timed(straight)
    table.add("LWS, recipe, a product per step", slow, objective(scale))
    for solver in ("sgd", "exact"):
        head = LearnableWeightScaling(solver, weight=W, bias=b)
        seconds, _ = timed(lambda head=head: head.fit(X, y))
        what = f"{objective(head.scale_)}; {reached(problem, head)}; {head.n_steps_} evaluations"
        table.add(f"LWS, {solver}", seconds, what)


def crt_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    X, y = problem.splits["train"]
    table.first = None
    head = ClassifierRetraining("sgd")
    seconds, _ = timed(lambda: head.fit(X, y))
    table.add("cRT, recipe", seconds, reached(problem, head))
    ours = ClassifierRetraining()
    seconds, tried = timed(lambda: ours.fit_path(X, y, *problem.splits["val"], problem.counts))
    points = ", ".join(f"{p['weight_decay']:g}: {100 * p['metrics']['all']:.1f}" for p in tried)
    what = f"{reached(problem, ours)}; weight decay {ours.weight_decay:g} of {points} (val)"
    table.add("cRT, whole path and selection", seconds, what)


def ncm_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    from sklearn.neighbors import NearestCentroid

    X, y = problem.splits["train"]
    table.first = None
    table.add("read the features once (sum)", min(timed(X.sum)[0] for _ in range(3)))
    for transform in ("un", "cl2n"):
        head = NearestClassMean(transform)
        seconds = min(timed(lambda head=head: head.fit(X, y))[0] for _ in range(2))
        table.add(f"NCM {transform}", seconds, reached(problem, head))
    seconds, _ = timed(lambda: torch.stack([X[y == c].mean(0) for c in range(len(W))]))
    table.add("a loop over classes", seconds)
    theirs = NearestCentroid()
    seconds, _ = timed(lambda: theirs.fit(X.numpy(), y.numpy()))
    table.add("scikit-learn NearestCentroid", seconds)


def sklearn_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    from sklearn.linear_model import LogisticRegression

    X, y = problem.splits["train"]
    theirs = LogisticRegression(class_weight="balanced", C=1 / (3e-3 * len(X)), max_iter=200)
    table.first = None
    seconds, _ = timed(lambda: theirs.fit(X.numpy(), y.numpy()))
    table.add("scikit-learn LogisticRegression, balanced", seconds, reached(problem, theirs))
    ours = ClassifierRetraining(weight_decay=3e-3)
    seconds, _ = timed(lambda: ours.fit(X, y))
    table.add("cRT, exact, the same weight decay", seconds, reached(problem, ours))


def many_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    """16 cRT heads by the recipe's SGD, one epoch each: one after another, and in one pass."""
    X, y = problem.splits["train"]
    rates, decays = (0.05, 0.1, 0.2, 0.4), (0, 1e-4, 5e-4, 2e-3)

    def grid(values: str, some: tuple[float, ...]) -> list[ClassifierRetraining]:
        return [
            ClassifierRetraining("sgd", epochs=1, lr=lr, **{values: value})
            for lr in rates for value in some
        ]  # fmt: skip

    for what, values, some in (
        ("rates x weight decays: one stream", "weight_decay", decays),
        ("rates x seeds: four streams", "random_state", (0, 1, 2, 3)),
    ):
        table.first = None
        ClassifierRetraining("sgd", epochs=1, batch=64).fit(X[:512], y[:512])  # threads begin
        slow, alone = timed(lambda v=values, s=some: [h.fit(X, y) for h in grid(v, s)])
        table.add(f"16 cRT heads, {what}, 16 fits", slow)
        fast, together = timed(lambda v=values, s=some: fit_many(grid(v, s), X, y))
        off = max(
            float((one.weight_ - other.weight_).abs().max())
            for one, other in zip(alone, together, strict=True)
        )
        table.add("the same in one pass", fast, f"largest difference of a weight {off:.1e}")


ROWS = {
    "tau": tau_rows,
    "lws": lws_rows,
    "crt": crt_rows,
    "ncm": ncm_rows,
    "sklearn": sklearn_rows,
    "many": many_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--rows", default="tau,lws,crt,ncm")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=3, help="of stage 1")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    shape: Shape = SHAPES[given.shape]
    problem = features.make(shape)
    W, b = features.stage1(problem, given.epochs)
    problem = Problem(
        problem.counts,
        {k: (X.to(given.device), y.to(given.device)) for k, (X, y) in problem.splits.items()},
    )
    W, b = W.to(given.device), b.to(given.device)
    table = Table()
    for name in given.rows.split(","):
        ROWS[name](problem, W, b, table)
    head = (
        f"`python -m benchmarks.engine {' '.join(sys.argv[1:])}`, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {given.device}; "
        f"N = {shape.n_train}, D = {shape.dim}, C = {shape.n_classes}\n"
    )
    if given.out:
        given.out.write_text("\n".join([head, *table.lines]) + "\n")


if __name__ == "__main__":
    main()
