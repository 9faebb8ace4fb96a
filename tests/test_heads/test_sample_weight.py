"""Weights of rows: a row of weight 2 is two rows, one of weight 0 none; in every head."""

import ast
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

import heads
from heads import fit_many
from heads.balancing.sampling import rows_by_q
from heads.solvers import sums as stats
from heads.solvers.sgd import plan_steps
from tests import reference
from tests.test_heads.data import cloud

EXACT = [
    heads.JointClassifier(),
    heads.TauNorm(),
    heads.LogitAdjustment(),
    heads.LearnableWeightScaling(),
    heads.ClassifierRetraining(weight_decay=1e-2),
    heads.ClassifierRetraining(weight_decay=1e-2, q=0.5, weighting="effective", beta=0.9),
    heads.ClassifierRetraining(weight_decay=1e-2, q=1.0, anchor="stage1"),
    heads.BalancedSoftmax(weight_decay=1e-2),
    *(heads.NearestClassMean(transform) for transform in ("un", "l2n", "cl2n")),
]
each = pytest.mark.parametrize("head", EXACT, ids=str)


@each
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_weight_is_a_number_of_rows(rng: np.random.Generator, head: Any, kind: str) -> None:
    data = cloud(rng, n_max=80)
    times = rng.integers(0, 4, len(data.y))
    times[[np.flatnonzero(data.y == c)[0] for c in range(6)]] = 1
    X, y, weights = data.X, data.y, times.astype(float)
    if kind == "torch":
        X, y, weights = torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(weights)
    weighted = clone(head).fit(X, y, sample_weight=weights)
    repeated = clone(head).fit(np.repeat(data.X, times, axis=0), np.repeat(data.y, times))

    got, want = (np.asarray(h.decision_function(data.X_test)) for h in (weighted, repeated))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    plain = clone(head).fit(data.X, data.y).decision_function(data.X_test)
    assert np.abs(got - plain).max() > 1e-3


@each
def test_only_the_proportions_of_weights_matter(rng: np.random.Generator, head: Any) -> None:
    if isinstance(head, heads.ClassifierRetraining) and head.weighting == "effective":
        pytest.skip("an effective number is not proportional to the count")
    data = cloud(rng)
    weights = rng.uniform(0.1, 1, len(data.y))
    small, large = (clone(head).fit(data.X, data.y, scale * weights) for scale in (1e-3, 1e3))

    np.testing.assert_allclose(
        small.decision_function(data.X_test),
        large.decision_function(data.X_test),
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_path_weighs_rows_too(rng: np.random.Generator) -> None:
    data = cloud(rng)
    times = rng.integers(1, 4, len(data.y))
    held_out = (data.X_test, data.y_test, data.counts)
    weighted, repeated = heads.ClassifierRetraining(), heads.ClassifierRetraining()
    weighted.fit_path(data.X, data.y, *held_out, sample_weight=times)
    repeated.fit_path(np.repeat(data.X, times, axis=0), np.repeat(data.y, times), *held_out)

    assert weighted.weight_decay == repeated.weight_decay
    np.testing.assert_allclose(weighted.weight_, repeated.weight_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("weighting", ["none", "effective"])
def test_by_sgd_weights_multiply_the_loss(
    rng: np.random.Generator, q: float, weighting: str
) -> None:
    """Its expected gradient is that of the exact objective, whatever the sampler draws."""
    data = cloud(rng)
    weights = rng.uniform(0.2, 3, len(data.y))
    params = {"q": q, "weighting": weighting, "beta": 0.9, "batch": 16, "epochs": 2, "lr": 0.05}
    head = heads.ClassifierRetraining("sgd", **params).fit(data.X, data.y, weights)
    draws, plan = np.random.default_rng(0), plan_steps(len(data.X), head._recipe())
    theta = torch.from_numpy(draws.uniform(-1, 1, size=(6, 6)) / np.sqrt(5)).requires_grad_()
    rows = rows_by_q(data.y, q, plan.n_steps * 16, 4, draws).reshape(-1, 16)
    heavy = np.bincount(data.y, weights)
    mass = reference.class_shares(heavy, q, weighting, 0.9)[data.y] * weights / heavy[data.y]
    p = data.counts**q / (data.counts**q).sum()
    factor = torch.from_numpy(mass / (p / data.counts)[data.y])
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    sgd = torch.optim.SGD([theta], lr=0.05, momentum=0.9, weight_decay=5e-4)
    for step, batch in enumerate(rows):
        sgd.param_groups[0]["lr"] = head._recipe().rate(step // plan.steps_per_epoch)
        sgd.zero_grad()
        losses = torch.nn.functional.cross_entropy(
            X[batch] @ theta[:, :5].T + theta[:, 5], y[batch], reduction="none"
        )
        (losses * factor[batch]).mean().backward()
        sgd.step()

    np.testing.assert_allclose(head.weight_, theta.detach()[:, :5], rtol=1e-8)


def test_lws_by_sgd_weighs_rows_within_their_classes(rng: np.random.Generator) -> None:
    data = cloud(rng)
    recipe = {"lr": 0.01, "batch": 16, "weight": data.W / 4}
    by_class = np.array([1.0, 5, 2, 9, 1, 3])[data.y]
    plain, same, other = (
        heads.LearnableWeightScaling("sgd", **recipe).fit(data.X, data.y, weights).scale_
        for weights in (None, by_class, rng.uniform(0.1, 1, len(data.y)))
    )

    np.testing.assert_allclose(same, plain, rtol=1e-9)  # classes weigh the same as ever
    assert np.abs(other - plain).max() > 1e-4


def test_many_heads_take_weights_together(rng: np.random.Generator) -> None:
    data = cloud(rng)
    weights = rng.uniform(0, 2, len(data.y))
    grid = [heads.ClassifierRetraining("sgd", lr=lr, q=q) for lr in (0.05, 0.1) for q in (0, 1)]
    alone = [clone(head).fit(data.X, data.y, weights) for head in grid]

    for got, want in zip(fit_many(grid, data.X, data.y, weights), alone, strict=True):
        np.testing.assert_allclose(got.weight_, want.weight_, rtol=1e-9)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([-1.0, 1, 1, 1], "Negative values"),
        ([np.nan, 1, 1, 1], "sample_weight contains NaN"),
        ([0.0, 0, 0, 0], "must contain at least one non-zero"),
        ([1.0, 1], r"sample_weight.shape == \(2,\), expected \(4,\)"),
        ([1.0, 1, 0, 0], "needs at least 2 classes; got 1 class, 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        heads.NearestClassMean().fit(np.eye(4), [0, 0, 1, 1], sample_weight=weights)


SCALES = [1e-190, 1e-60, 1e30, 1e190]
BY_SGD = [
    heads.ClassifierRetraining("sgd", epochs=2),
    heads.ClassifierRetraining("sgd", epochs=2, q=1.0, weighting="class-balanced"),
    heads.LearnableWeightScaling("sgd", epochs=2),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("head", [*EXACT, *BY_SGD], ids=str)
def test_weights_far_from_one_are_as_good_as_any(
    rng: np.random.Generator, head: Any, scale: float, dtype: str
) -> None:
    """In float32 the first of them are zero, and the last infinity."""
    if isinstance(head, heads.ClassifierRetraining) and head.weighting == "effective":
        pytest.skip("an effective number is not proportional to the count")
    data = cloud(rng)
    weights = rng.uniform(0.1, 1, len(data.y))
    X, X_test = data.X.astype(dtype), data.X_test.astype(dtype)
    want, got = (clone(head).fit(X, data.y, by * weights) for by in (1, scale))

    np.testing.assert_allclose(
        got.decision_function(X_test), want.decision_function(X_test), rtol=2e-3, atol=2e-3
    )


@pytest.mark.parametrize("head", [*EXACT, *BY_SGD], ids=str)
def test_a_class_that_weighs_next_to_nothing_is_noted(rng: np.random.Generator, head: Any) -> None:
    data = cloud(rng)
    weights = np.where(data.y == 2, 1e-50, 1.0)
    with pytest.warns(UserWarning, match=r"reaches from 1\.0e-50 to 1\.0e\+00: .* in float32"):
        fitted = clone(head).fit(data.X.astype(np.float32), data.y, weights)

    scores = fitted.decision_function(data.X_test.astype(np.float32))
    assert np.isfinite(scores).all()
    if isinstance(head, heads.NearestClassMean) and head.get_params()["transform"] == "un":
        want = data.X[data.y == 2].mean(axis=0)  # a mean of rows that weigh the same
        np.testing.assert_allclose(fitted.centroids_[2], want, rtol=1e-5)


@pytest.mark.parametrize("head", [*EXACT, *BY_SGD], ids=str)
@pytest.mark.parametrize("label", [0, 3])
def test_a_class_without_weight_is_left_out_and_named(
    rng: np.random.Generator, head: Any, label: int
) -> None:
    data = cloud(rng)
    weights = (data.y != label).astype(float)
    with pytest.warns(UserWarning, match=rf"0 on every row of class {label} \(1 of 6 classes\)"):
        fitted = clone(head).fit(data.X, data.y, weights)

    kept = data.y != label
    want = clone(head).fit(data.X[kept], data.y[kept])
    assert label not in fitted.classes_
    np.testing.assert_allclose(
        fitted.decision_function(data.X_test), want.decision_function(data.X_test), atol=1e-5
    )


def test_a_class_of_stage_one_without_weight_is_no_news(rng: np.random.Generator) -> None:
    data = cloud(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = heads.TauNorm(weight=data.W).fit(data.X, data.y, (data.y != 3).astype(float))
    assert head.classes_.tolist() == list(range(6))


@pytest.mark.parametrize("weight", [1e-300, 5e-324, 1e300, 1.7e308])
@pytest.mark.parametrize("head", [*EXACT, *BY_SGD], ids=str)
def test_weights_whose_sums_are_no_numbers_are_refused(head: Any, weight: float) -> None:
    X, y = np.eye(4), np.array([0, 0, 1, 1])
    words = r"largest sample_weight is .*: scale the weights"
    with pytest.raises(ValueError, match=words):
        clone(head).fit(X, y, np.full(4, weight))
    if isinstance(head, heads.NearestClassMean) and head.get_params()["transform"] != "cl2n":
        with pytest.raises(ValueError, match=words):
            clone(head).partial_fit(X, y, [0, 1], np.full(4, weight))


@pytest.mark.parametrize(
    "weights", [[1, 2], [-1.0, 1, 1, 1], [np.nan, 1, 1, 1], ["a"] * 4, np.ones((4, 4)), [0] * 4]
)
def test_weights_that_cannot_be_are_refused_everywhere(weights: Any) -> None:
    X, y = np.eye(4), np.array([0, 0, 1, 1])
    for head in [*EXACT, *BY_SGD]:
        with pytest.raises(ValueError, match=r"weight|float|could not convert"):
            clone(head).fit(X, y, weights)
    grid = [clone(BY_SGD[0]), clone(BY_SGD[1])]
    with pytest.raises(ValueError, match=r"weight|float|could not convert"):
        fit_many(grid, X, y, weights)
    with pytest.raises(ValueError, match=r"weight|float|could not convert"):
        heads.ClassifierRetraining().fit_path(X, y, X, y, [2, 2], sample_weight=weights)
    with pytest.raises(ValueError, match=r"weight|float|could not convert"):
        heads.NearestClassMean("un").partial_fit(X, y, [0, 1], sample_weight=weights)


@pytest.mark.parametrize("transform", ["un", "l2n"])
@pytest.mark.parametrize("centroids", ["mean", "unit"])
@pytest.mark.parametrize("scale", [1.0, 1e-60, 1e60])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_partial_fits_weigh_rows_as_one_fit_does(
    rng: np.random.Generator, transform: str, centroids: str, scale: float, kind: str
) -> None:
    data = cloud(rng)
    weights = scale * rng.uniform(0, 2, len(data.y)) * (rng.random(len(data.y)) < 0.8)
    weights[[np.flatnonzero(data.y == c)[0] for c in range(6)]] = scale
    X: Any = data.X.astype(np.float32)
    X, given = (torch.from_numpy(X), torch.from_numpy(weights)) if kind == "torch" else (X, weights)
    whole = heads.NearestClassMean(transform, centroids=centroids).fit(X, data.y, given)
    parts = heads.NearestClassMean(transform, centroids=centroids)
    for start in range(0, len(X), 17):
        some = slice(start, start + 17)
        if (weights[some] > 0).any():
            parts.partial_fit(X[some], data.y[some], np.arange(6), sample_weight=given[some])

    np.testing.assert_allclose(
        np.asarray(parts.centroids_), np.asarray(whole.centroids_), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(np.asarray(parts.predict(X)), np.asarray(whole.predict(X)))


def test_a_partial_fit_goes_on_from_a_weighted_fit(rng: np.random.Generator) -> None:
    data = cloud(rng)
    weights = rng.uniform(0.5, 2, len(data.y))
    half = np.arange(len(data.y)) % 2 == 0
    half[[np.flatnonzero(data.y == c)[0] for c in range(6)]] = True
    head = heads.NearestClassMean("l2n").fit(data.X[half], data.y[half], weights[half])
    head.partial_fit(data.X[~half], data.y[~half], sample_weight=weights[~half])
    want = heads.NearestClassMean("l2n").fit(data.X, data.y, weights)

    np.testing.assert_allclose(head.centroids_, want.centroids_, rtol=1e-12)


def test_a_class_whose_rows_weigh_nothing_has_no_rows_yet(rng: np.random.Generator) -> None:
    data = cloud(rng)
    head = heads.NearestClassMean("un")
    head.partial_fit(data.X, data.y, np.arange(6), (data.y != 4).astype(float))
    with pytest.raises(ValueError, match="class 4 has no rows yet"):
        head.predict(data.X_test)
    head.partial_fit(data.X, data.y)
    assert np.isfinite(head.decision_function(data.X_test)).all()


def test_what_is_not_finite_is_refused_where_it_weighs_nothing_too() -> None:
    X = np.eye(4)
    X[1, 1] = np.nan
    for head in (heads.NearestClassMean(), heads.JointClassifier()):
        with pytest.raises(ValueError, match="contains NaN"):
            head.fit(X, [0, 0, 1, 1], sample_weight=[1, 0, 1, 1])


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_weighted_class_sums(rng: np.random.Generator, centred: bool, unit: bool) -> None:
    X = torch.from_numpy(rng.normal(size=(500, 7)))
    y, w = rng.integers(0, 4, 500), torch.from_numpy(rng.uniform(size=500))
    centre = X.mean(0) if centred else None
    got = stats.class_sums(X, torch.from_numpy(y), 4, centre=centre, unit=unit, sample_weight=w)

    rows = X - centre if centred else X
    rows = rows / rows.norm(dim=1, keepdim=True) if unit else rows
    want = np.stack([(w[:, None] * rows).numpy()[y == c].sum(0) for c in range(4)])
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-10)


def test_the_weights_of_rows_have_one_name_from_fit_to_the_solvers() -> None:
    other = {"weights", "row_weight", "row_weights", "sample_weights", "mass", "heavy"}
    root = Path(heads.__file__).parent
    sources = [
        path for room in ("estimators", "solvers", ".") for path in (root / room).glob("*.py")
    ]
    assert len(sources) > 30
    found = {
        f"{source.name}: {node.arg}"
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.arg | ast.keyword) and node.arg in other
    }

    assert found == set()
