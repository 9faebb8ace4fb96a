"""The engine beside the straightforward loops, at sizes that finish; time and result together.

Full shapes: `python -m benchmarks.engine --shape imagenet-lt`.
"""

import dataclasses

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import features
from benchmarks.features import Problem
from heads import (
    BalancedSoftmax,
    ClassifierRetraining,
    LearnableWeightScaling,
    NearestClassMean,
    fit_many,
)
from heads.curves.curve import exact_tau_curve
from heads.curves.sweep import tau_curve
from heads.metrics import evaluate

TAUS = [round(0.1 * step, 1) for step in range(21)]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return features.make(dataclasses.replace(features.TINY, spread=0.75))


@pytest.fixture(scope="module")
def linear(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    return features.stage1(problem)


def val_accuracy(problem: Problem, head: object) -> float:
    X, y = problem.splits["val"]
    return float(evaluate(y.numpy(), np.asarray(head.predict(X)), problem.counts)["all"])


def joint_accuracy(problem: Problem, linear: tuple[torch.Tensor, torch.Tensor]) -> float:
    """The classifier that stage 1 left, which every head of stage 2 has to beat."""
    X, y = problem.splits["val"]
    predicted = (X @ linear[0].T + linear[1]).argmax(dim=1)
    return float(evaluate(y.numpy(), predicted.numpy(), problem.counts)["all"])


def test_product(benchmark: BenchmarkFixture, problem: Problem, linear: tuple) -> None:
    X, _ = problem.splits["test"]
    product = benchmark(lambda: X @ linear[0].T)

    assert product.shape == (len(X), len(linear[0]))


def test_exact_tau_curve(benchmark: BenchmarkFixture, problem: Problem, linear: tuple) -> None:
    X, y = problem.splits["test"]
    curve = benchmark(lambda: exact_tau_curve(linear[0], X, y, problem.counts))

    for point in tau_curve(linear[0], X, y, problem.counts, taus=TAUS):
        assert curve.at(point["tau"])["all"] == point["all"]


def test_21_products(benchmark: BenchmarkFixture, problem: Problem, linear: tuple) -> None:
    X, y = problem.splits["test"]
    norms = linear[0].norm(dim=1, keepdim=True)
    answers = benchmark(lambda: [(X @ (linear[0] / norms**tau).T).argmax(1) for tau in TAUS])

    points = tau_curve(linear[0], X, y, problem.counts, taus=TAUS)
    for predicted, point in zip(answers, points, strict=True):
        assert evaluate(y.numpy(), predicted.numpy(), problem.counts)["all"] == point["all"]


@pytest.mark.parametrize("solver", ["sgd", "exact"])
def test_lws(benchmark: BenchmarkFixture, problem: Problem, linear: tuple, solver: str) -> None:
    head = LearnableWeightScaling(solver, weight=linear[0], bias=linear[1])
    benchmark(lambda: head.fit(*problem.splits["train"]))
    benchmark.extra_info["val_all"] = val_accuracy(problem, head)
    assert val_accuracy(problem, head) > joint_accuracy(problem, linear)


def test_crt_recipe(benchmark: BenchmarkFixture, problem: Problem, linear: tuple) -> None:
    head = ClassifierRetraining("sgd")
    benchmark(lambda: head.fit(*problem.splits["train"]))
    benchmark.extra_info["val_all"] = val_accuracy(problem, head)
    assert val_accuracy(problem, head) > joint_accuracy(problem, linear)


@pytest.mark.parametrize("kind", [ClassifierRetraining, BalancedSoftmax])
def test_whole_path(benchmark: BenchmarkFixture, problem: Problem, kind: type) -> None:
    head = kind()
    splits = (*problem.splits["train"], *problem.splits["val"], problem.counts)
    benchmark(lambda: head.fit_path(*splits))
    benchmark.extra_info["val_all"] = val_accuracy(problem, head)
    sgd = ClassifierRetraining("sgd").fit(*problem.splits["train"])
    assert val_accuracy(problem, head) >= val_accuracy(problem, sgd) - 0.03


@pytest.mark.parametrize("transform", ["un", "cl2n"])
def test_ncm(benchmark: BenchmarkFixture, problem: Problem, transform: str) -> None:
    X, y = problem.splits["train"]
    head = NearestClassMean(transform)
    benchmark(lambda: head.fit(X, y))
    benchmark.extra_info["val_all"] = val_accuracy(problem, head)

    rows = X.double().numpy()
    if transform == "cl2n":
        rows -= rows.mean(axis=0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([rows[y.numpy() == c].mean(axis=0) for c in range(len(problem.counts))])
    np.testing.assert_allclose(np.asarray(head.centroids_), means, atol=1e-5)


@pytest.mark.parametrize("together", [True, False])
def test_16_crt_heads(
    benchmark: BenchmarkFixture, problem: Problem, linear: tuple, together: bool
) -> None:
    X, y = problem.splits["train"]

    def grid() -> list[ClassifierRetraining]:
        rates, decays = (0.05, 0.1, 0.2, 0.4), (0, 1e-4, 5e-4, 2e-3)
        return [
            ClassifierRetraining("sgd", lr=lr, weight_decay=wd) for lr in rates for wd in decays
        ]

    fitted = benchmark(
        lambda: fit_many(grid(), X, y) if together else [h.fit(X, y) for h in grid()]
    )
    best = max(val_accuracy(problem, head) for head in fitted)
    benchmark.extra_info["val_all"] = best
    assert best > joint_accuracy(problem, linear)
