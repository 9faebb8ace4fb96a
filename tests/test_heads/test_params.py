"""Every parameter of every head: values that cannot be are named, and fitted heads keep theirs."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heads
from heads import specs
from tests.test_heads.data import cloud

HEADS = [getattr(heads, name) for name in heads.__all__ if isinstance(getattr(heads, name), type)]
# Parameters that belong to the solver "sgd", and what it needs beside them.
BY_SGD = {"lr": {}, "momentum": {}, "batch": {}, "epochs": {}, "per_class": {}, "random_state": {}}
VALUES: list[Any] = [
    float("nan"), float("inf"), -float("inf"), 1e39, 3e38, -1e39, 1e-50, 1e-39, 1e-20, -1e-50, -1,
    0, 1, 10**9, 1e9, 10**400, True, False, "x", "nan", "", None, [1], (), np.float32("inf"),
    np.int8(-1), np.array([1.0, 2.0]), 1j, {"a": 1}, b"x",
]  # fmt: skip
PARAMS = [
    (kind, name)
    for kind in HEADS
    for name in inspect.signature(kind).parameters
    if name not in ("weight", "bias")
]


def solver_of(kind: type, name: str) -> list[dict[str, Any]]:
    """Return what else to set, so that a parameter means something."""
    has_solver = "solver" in inspect.signature(kind).parameters
    if not has_solver or name == "solver":
        return [{}]
    return [{"solver": "sgd"}] if name in BY_SGD else [{}, {"solver": "sgd"}]


def _refusal(head: Any, X: Any, y: Any) -> str | None:
    try:
        head.fit(X, y)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!r:.12}")
@pytest.mark.parametrize(("kind", "name"), PARAMS, ids=lambda of: getattr(of, "__name__", of))
def test_a_value_is_refused_by_name_or_gives_a_head(kind: type, name: str, value: Any) -> None:
    X = np.array([[2, 0], [1.5, 0], [0, 1], [0, 0.5], [-1, -1], [-2, -2]], np.float32)
    y = np.array([0, 0, 1, 1, 2, 2])
    for beside in solver_of(kind, name):
        head = kind(**{**beside, name: value})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weak penalties may not converge, and say so
            refusal = _refusal(head, X, y)
            if refusal is not None:
                assert name in refusal
                assert "\n" not in refusal
                continue
            scores = head.decision_function(X)
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(head.predict(X), scores.argmax(axis=1))


@pytest.mark.parametrize("value", [float("nan"), 1e39, 1e-50, -1, True, "x", [], {}])
@pytest.mark.parametrize("given", ["weight", "bias"])
def test_a_stage_one_that_is_no_array_is_refused(given: str, value: Any) -> None:
    for kind in HEADS:
        if given in inspect.signature(kind).parameters:
            arrays = {"weight": np.ones((2, 2)), "bias": np.ones(2)} | {given: value}
            with pytest.raises(ValueError, match=given):
                kind(**arrays).fit(np.eye(2), [0, 1])


ODD = {
    "turned": lambda W, b: (W.T, b),
    "turned, no bias": lambda W, b: (W.T, None),
    "three dimensions": lambda W, b: (W[None], b),
    "one class": lambda W, b: (W[:1], b[:1]),
    "too few classes": lambda W, b: (W[:4], b[:4]),
    "another width": lambda W, b: (np.hstack([W, W]), b),
    "a longer bias": lambda W, b: (W, np.append(b, 0)),
    "a bias of columns": lambda W, b: (W, b[:, None]),
    "a number for a bias": lambda W, b: (W, 0.0),
    "NaN": lambda W, b: (np.where(W.min() < W, W, np.nan), b),
    "infinite bias": lambda W, b: (W, np.where(b > b.min(), b, np.inf)),
    "beyond float32": lambda W, b: (W * 1e39, b),
    "words": lambda W, b: (W.astype(str), b),
    "objects": lambda W, b: (W.astype(object), b),
    "complex": lambda W, b: (W + 0j, b),
    "truths": lambda W, b: (W > 0, b),
    "ragged": lambda W, b: ([[1.0] * 5, [2.0]], None),
    "complex tensor": lambda W, b: (torch.from_numpy(W + 0j), b),
    "empty": lambda W, b: (W[:0], b[:0]),
    "dates": lambda W, b: (W.astype("datetime64[s]"), b),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "kind", [kind for kind in HEADS if kind is not heads.NearestClassMean], ids=lambda k: k.__name__
)
def test_a_stage_one_that_cannot_be_is_refused_by_every_head(
    rng: np.random.Generator, kind: type, odd: str
) -> None:
    """Whether or not the head looks at it: a turned one made classes of its columns."""
    data = cloud(rng)
    W, b = ODD[odd](data.W, data.b)
    unused = odd == "beyond float32" and kind in (heads.ClassifierRetraining,)
    if unused:
        pytest.skip("cRT from zero computes nothing with it")
    with pytest.raises(ValueError, match="weight|bias") as caught:
        kind(weight=W, bias=b).fit(data.X.astype(np.float32), data.y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [heads.ClassifierRetraining, heads.BalancedSoftmax])
def test_counts_of_other_classes_than_the_weight_has_are_refused(
    rng: np.random.Generator, kind: type
) -> None:
    data = cloud(rng)
    for counts in (data.counts[:5], np.append(data.counts, 3)):
        with pytest.raises(ValueError, match=rf"counts has {len(counts)} classes, but .* 6"):
            kind(weight=data.W).fit_path(data.X, data.y, data.X_test, data.y_test, counts)


@pytest.mark.parametrize("form", [list, torch.from_numpy, np.asfortranarray, np.float32])
def test_a_stage_one_may_be_a_list_or_a_tensor(rng: np.random.Generator, form: Any) -> None:
    data = cloud(rng)
    W, b = np.round(data.W, 2).astype(np.float32), np.round(data.b, 2).astype(np.float32)
    given = form(W.tolist()) if form is list else form(W)
    head = heads.JointClassifier(given, form(b.tolist()) if form is list else form(b))
    want = heads.JointClassifier(W, b).fit(data.X, data.y)

    np.testing.assert_array_equal(
        head.fit(data.X, data.y).decision_function(data.X_test),
        want.decision_function(data.X_test),
    )


# Another legal value of every parameter that has one.
OTHER: dict[str, list[Any]] = {
    "tau": [0.0, 2.5], "keep_bias": [True, False], "transform": ["un", "l2n", "cl2n"],
    "metric": ["l2", "cosine", "dot"], "centroids": ["mean", "unit"],
    "engine": ["faiss", "torch", "auto"], "solver": ["sgd", "exact"], "lr": [0.7, None],
    "momentum": [0.1], "weight_decay": [0.5, 1e-3], "batch": [4], "epochs": [1], "per_class": [1],
    "random_state": [7], "views": [2], "anchor": ["stage1", "zero"], "q": [1.0],
    "weighting": ["effective"], "beta": [0.5], "sampling": ["instance"],
    "weight": [np.ones((6, 5)), None], "bias": [np.ones(6), None],
}  # fmt: skip
STARTS = [
    heads.TauNorm(tau=0.3), heads.TauNorm(tau=0.3, keep_bias=True), heads.LogitAdjustment(0.4),
    heads.NearestClassMean("un"), heads.NearestClassMean("cl2n", "dot"),
    heads.NearestClassMean("l2n", "cosine", "unit", "torch"), heads.JointClassifier(),
    heads.ClassifierRetraining(weight_decay=0.1), heads.ClassifierRetraining("sgd", epochs=2),
    heads.BalancedSoftmax(0.1), heads.LearnableWeightScaling(),
]  # fmt: skip


@pytest.mark.parametrize("start", STARTS, ids=lambda head: f"{head!r:.40}")
def test_a_fitted_head_keeps_to_what_it_was_fitted_with(
    rng: np.random.Generator, start: Any, tmp_path: Path
) -> None:
    data = cloud(rng)
    X_test = data.X_test.astype(np.float32)
    for name in start.get_params():
        head = type(start)(**start.get_params()).fit(data.X.astype(np.float32), data.y)
        want, labels = head.decision_function(X_test), head.predict(X_test)
        described = specs.describe(head)
        for value in OTHER[name]:
            head.set_params(**{name: value})
            head.save(tmp_path / "it.head")
            loaded = heads.load(tmp_path / "it.head")
            for each in (head, loaded, loaded.set_params(**{name: value})):
                np.testing.assert_array_equal(each.decision_function(X_test), want)
                np.testing.assert_array_equal(each.predict(X_test), labels)
            assert specs.describe(head) == specs.describe(loaded) == described
            if hasattr(head, "linear"):
                W, b = head.linear()
                np.testing.assert_allclose(X_test @ W.T + b, want, atol=1e-4)
        assert head.get_params()[name] is value


@pytest.mark.parametrize("start", STARTS, ids=lambda head: f"{head!r:.40}")
def test_the_next_fit_takes_what_was_set(rng: np.random.Generator, start: Any) -> None:
    data = cloud(rng)
    for name in ("tau", "transform", "weight_decay"):
        if name in start.get_params():
            value = OTHER[name][-1]
            head = type(start)(**start.get_params()).fit(data.X, data.y)
            head.set_params(**{name: value}).fit(data.X, data.y)
            fresh = type(start)(**(start.get_params() | {name: value})).fit(data.X, data.y)
            np.testing.assert_array_equal(
                head.decision_function(data.X_test), fresh.decision_function(data.X_test)
            )
            assert head.fitted_params()[name] == value


def test_predictions_of_one_head_follow_nothing_that_partial_fit_did_not_see(
    rng: np.random.Generator,
) -> None:
    data = cloud(rng)
    head = heads.NearestClassMean("un").partial_fit(data.X, data.y, np.arange(6))
    before = head.predict(data.X_test)
    head.set_params(metric="dot")
    np.testing.assert_array_equal(head.predict(data.X_test), before)
    head.partial_fit(data.X, data.y)
    want = heads.NearestClassMean("un", "dot").fit(data.X, data.y)
    np.testing.assert_array_equal(head.predict(data.X_test), want.predict(data.X_test))


@pytest.mark.parametrize("start", STARTS, ids=lambda head: f"{head!r:.40}")
def test_a_fit_that_fails_leaves_the_head_as_it_was(rng: np.random.Generator, start: Any) -> None:
    data = cloud(rng)
    head = type(start)(**start.get_params()).fit(data.X, data.y)
    want = head.decision_function(data.X_test)
    for X, y in ((data.X[:, :3], np.zeros(len(data.y))), (data.X[:, :2] * np.nan, data.y)):
        with pytest.raises(ValueError, match=r"class|NaN"):
            head.fit(X, y)
        np.testing.assert_array_equal(head.decision_function(data.X_test), want)


@pytest.mark.parametrize(
    ("norm", "tau", "words"),
    [(1e-3, 20, "too small"), (1e3, 20, "too large"), (1e30, 2, "too large")],
)
def test_a_scale_that_float32_cannot_hold_is_refused(norm: float, tau: float, words: str) -> None:
    W = np.array([[1.0, 0], [0, norm]], np.float32)
    with pytest.raises(ValueError, match=f"norm .* {words} for tau={tau}"):
        heads.TauNorm(tau, weight=W).fit(np.eye(2, dtype=np.float32), [0, 1])


@pytest.mark.parametrize(
    "params",
    [
        {"epochs": 10**9},
        {"batch": 10**12},
        {"per_class": 10**9},
        {"epochs": 10**6, "batch": 10**6},
        {"epochs": 10**8, "batch": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [heads.ClassifierRetraining, heads.LearnableWeightScaling])
def test_more_draws_than_memory_are_refused_at_once(kind: type, params: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"epochs=.*batch=.*per_class=.* at most 5\.4e\+08"):
        kind("sgd", **params).fit(np.eye(4), [0, 0, 1, 1])
