"""Times the engine beside the straightforward loops and scikit-learn, with what each reaches.

    python -m benchmarks.engine --shape imagenet-lt --rows tau,lws,crt,ncm --out table.md

What is compared runs in turn, round by round, and a ratio is the median of the rounds' ratios to
the first of its table (in brackets the least and the greatest): absolute times move with what else
runs. The recipe and the loops take minutes and run once, between two runs of ours. Where other
processes hold the cores, `OMP_NUM_THREADS=1 ... --clock cpu` counts one thread's processor time
instead, which those lengthen less.
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
from heads.balancing.weighting import class_loss_share
from heads.curves.curve import exact_tau_curve
from heads.curves.rules import choose_on_curve
from heads.metrics import evaluate
from heads.solvers.linear import linear_scores, softmax_error
from heads.solvers.path import few_rows
from heads.solvers.sgd import Recipe, plan_steps, sampled_rows

SHAPES = {
    "imagenet-lt": dataclasses.replace(features.IMAGENET_LT, spread=0.75),
    "places-lt": dataclasses.replace(features.PLACES_LT, spread=0.75),
    "inaturalist-slice": dataclasses.replace(
        features.INATURALIST_SLICE, n_classes=2000, n_max=400, n_train=60_000, spread=0.75
    ),
    "small": dataclasses.replace(features.SMALL, spread=0.75),
}


Work = Callable[[], Any]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CLOCK = [time.perf_counter]  # the last is used


class Table:
    """Rows of what, seconds, ratio to the first of the group, and what was reached."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def group(self, title: str) -> None:
        """Begin a table."""
        self.lines += ["", title, ""]
        self.lines += ["| what | seconds | times the first | reached |", "|---|---|---|---|"]
        print(title, flush=True)

    def add(self, what: str, seconds: list[float], first: list[float], reached: str = "") -> None:
        """Add a row; ratios are round by round, or of each round to the first's median."""
        against = first if len(first) == len(seconds) else [float(np.median(first))] * len(seconds)
        ratios = np.array(seconds) / against
        spread = f" ({ratios.min():.3g} to {ratios.max():.3g})" if len(ratios) > 1 else ""
        cells = (what, f"{np.median(seconds):.3g}", f"{np.median(ratios):.3g}{spread}", reached)
        self.lines.append("| " + " | ".join(cells) + " |")
        print(self.lines[-1], flush=True)


def in_turn(works: dict[str, Work], rounds: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Run every work once a round; return seconds of each round, and the last results."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, work in works.items():
            took, results[name] = timed(work)
            seconds[name].append(took)
    return seconds, results


def timed(work: Work) -> tuple[float, Any]:
    """Return the seconds that a piece of work takes, and its result."""
    started = CLOCK[-1]()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return CLOCK[-1]() - started, result


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

    def loop() -> list[float]:
        found = []
        for tau in taus:
            scaled = W / W.norm(dim=1, keepdim=True) ** tau
            predicted = torch.cat([(X[s : s + 4096] @ scaled.T).argmax(1)
                                   for s in range(0, len(X), 4096)])  # fmt: skip
            found.append(accuracy(problem, "test", predicted))
        return found

    def product() -> None:
        for start in range(0, len(X), 4096):
            X[start : start + 4096] @ W.T

    def curve() -> Any:
        return exact_tau_curve(W, X, y, problem.counts)

    exact_tau_curve(W, X[:4096], y[:4096], problem.counts)  # threads begin
    seconds, results = in_turn({"product": product, "curve": curve}, 15)
    slow, values = timed(loop)
    found, first = results["curve"], seconds["product"]
    off = max(abs(v - found.at(t)["all"]) for t, v in zip(taus, values, strict=True))
    table.group(f"tau-norm on {len(X)} rows")
    table.add("one product", first, first)
    table.add("exact tau curve", seconds["curve"], first, f"{len(found.breakpoints)} breakpoints")
    table.add("21 products", [slow], first, f"largest difference from the curve {off:.1e}")
    choosing, chosen = timed(lambda: choose_on_curve(found))
    table.add("choosing from the curve", [choosing], first, f"tau {chosen['best']:g}")


def lws_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    X, y = problem.splits["train"]
    recipe = Recipe(epochs=5)
    plan = plan_steps(len(X), recipe)
    share = class_loss_share(torch.bincount(y, minlength=len(W)))

    def objective(scale: Any) -> str:
        loss = 0.0
        for s in range(0, len(X), 4096):
            scores = linear_scores(X[s : s + 4096], W, b) * scale
            losses, _ = softmax_error(scores, y[s : s + 4096])
            loss += float((losses * share[y[s : s + 4096]]).sum())
        return f"objective {loss + 2.5e-4 * float(scale.square().sum()):.5f}"

    def straight() -> Any:
        scale = torch.ones_like(b)
        rows = sampled_rows(y, recipe, plan, np.random.default_rng(0))

        def gradient(chosen: Any) -> tuple[Any]:
            frozen = linear_scores(X[chosen], W, b)
            _, error = softmax_error(frozen * scale, y[chosen])
            return ((error * frozen).mean(dim=0),)

        features.by_torch([scale], gradient, rows, [recipe.rate(epoch) for epoch in range(5)])
        return scale

    exact = LearnableWeightScaling("exact", weight=W, bias=b)
    kept = LearnableWeightScaling("sgd", weight=W, bias=b)
    ours = [timed(lambda: exact.fit(X, y))[0]]
    slow, scale = timed(straight)
    ours.append(timed(lambda: exact.fit(X, y))[0])
    middle = timed(lambda: kept.fit(X, y))[0]
    table.group("LWS")
    table.add("the recipe, a product per step", [slow], [slow], objective(scale))
    for what, seconds, head in (("the recipe on kept logits", [middle], kept),
                                ("ours, to the optimum", ours, exact)):  # fmt: skip
        steps = f"{head.n_steps_} {'steps' if head is kept else 'evaluations'}"
        what_for = f"{objective(head.scale_)}; {reached(problem, head)}; {steps}"
        table.add(what, seconds, [slow], what_for)


def crt_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    X, y = problem.splits["train"]
    recipe, ours = ClassifierRetraining("sgd"), ClassifierRetraining()
    tried: list[Any] = []

    def whole_path() -> None:
        ours.weight_decay = None
        tried[:] = ours.fit_path(X, y, *problem.splits["val"], problem.counts)

    before = timed(whole_path)[0]
    slow = timed(lambda: recipe.fit(X, y))[0]
    seconds = [before, timed(whole_path)[0]]
    table.group("cRT")
    table.add("the recipe", [slow], [slow], reached(problem, recipe))
    points = ", ".join(f"{p['weight_decay']:g}: {100 * p['metrics']['all']:.1f}" for p in tried)
    what = f"{reached(problem, ours)}; weight decay {ours.weight_decay:g} of {points} (val)"
    table.add("ours, whole path and selection", seconds, [slow], what)


def ncm_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    from sklearn.neighbors import NearestCentroid

    X, y = problem.splits["train"]
    heads = {name: NearestClassMean(name) for name in ("un", "l2n", "cl2n")}
    works: dict[str, Work] = {"read the features once (X.sum())": X.sum}
    works |= {f"NCM {name}": (lambda head=head: head.fit(X, y)) for name, head in heads.items()}
    seconds, _ = in_turn(works, 7)
    first = seconds["read the features once (X.sum())"]
    table.group("Fitting NCM")
    for name, took in seconds.items():
        head = heads.get(name.removeprefix("NCM "))
        table.add(name, took, first, reached(problem, head) if head else "")
    loop = timed(lambda: torch.stack([X[y == c].mean(0) for c in range(len(W))]))[0]
    table.add("un by a loop over classes", [loop], first)
    if not X.is_cuda:
        theirs = NearestCentroid()
        slow = timed(lambda: theirs.fit(X.numpy(), y.numpy()))[0]
        table.add("scikit-learn NearestCentroid", [slow], first, reached(problem, theirs))
    X_test = problem.splits["test"][0][:16384]
    engines = {e: NearestClassMean("cl2n", engine=e).fit(X, y) for e in ("torch", "faiss")}
    seconds, found = in_turn(
        {e: (lambda head=head: head.predict(X_test)) for e, head in engines.items()}, 3
    )
    same = f"{int((found['torch'] != found['faiss']).sum())} labels differ"
    table.group(f"Searching with NCM, {len(X_test)} rows")
    for engine, took in seconds.items():
        table.add(f"engine={engine}", took, seconds["torch"], same)


def sklearn_rows(problem: Problem, W: Any, b: Any, table: Table) -> None:
    from sklearn.linear_model import LogisticRegression

    rows = few_rows(problem.splits["train"][1], len(W), 20)
    rows = rows[problem.splits["train"][1][rows] % (len(W) // 100) == 0]  # about 100 classes
    X, y = (part[rows].cpu() for part in problem.splits["train"])
    val = problem.splits["val"]
    chosen = val[1] % (len(W) // 100) == 0
    X_val, y_val = val[0][chosen].cpu(), val[1][chosen].cpu()
    decay = 3e-3

    def objective(W: Any, b: Any) -> float:
        _, place, counts = np.unique(y.numpy(), return_inverse=True, return_counts=True)
        losses, _ = softmax_error((X @ W.T + b).double(), torch.from_numpy(place))
        loss = float(losses @ torch.from_numpy(1 / (len(counts) * counts[place])))
        return loss + decay / 2 * float(W.square().sum() + b.square().sum())

    theirs = LogisticRegression(class_weight="balanced", C=1 / (decay * len(X)), max_iter=200)
    ours = ClassifierRetraining(weight_decay=decay)
    seconds, _ = in_turn({"theirs": lambda: theirs.fit(X.numpy(), y.numpy()),
                          "ours": lambda: ours.fit(X, y)}, 2)  # fmt: skip
    table.group(f"One weight decay, {len(X)} x {X.shape[1]}, {len(theirs.classes_)} classes")
    for name, head, linear in (
        ("scikit-learn LogisticRegression, balanced, max_iter 200", theirs,
         (torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_))),
        ("cRT, exact", ours, (ours.weight_, ours.bias_)),
    ):  # fmt: skip
        right = np.asarray(head.predict(X_val.numpy())) == y_val.numpy()
        value = objective(*(part.float() for part in linear))
        what = f"objective {value:.5f}; val {100 * right.mean():.2f}"
        table.add(name, seconds["theirs" if head is theirs else "ours"], seconds["theirs"], what)


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
        grid(values, some)[0].fit(X[:4096], y[:4096])  # threads begin
        works = {
            "alone": lambda v=values, s=some: [head.fit(X, y) for head in grid(v, s)],
            "together": lambda v=values, s=some: fit_many(grid(v, s), X, y),
        }
        seconds, results = in_turn(works, 3)
        off = max(
            float((one.weight_ - other.weight_).abs().max())
            for one, other in zip(results["alone"], results["together"], strict=True)
        )
        table.group(f"16 cRT heads of one epoch, {what}")
        table.add("16 fits", seconds["alone"], seconds["alone"])
        table.add(
            "the same in one pass",
            seconds["together"],
            seconds["alone"],
            f"largest difference of a weight {off:.1e}",
        )


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
    parser.add_argument("--rows", default="ncm,tau,lws,crt,sklearn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=3, help="of stage 1")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    CLOCK.append(CLOCKS[given.clock])
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
