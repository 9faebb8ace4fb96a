"""Many heads in one pass: each equals its fit alone, and what can be shared is."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from heads import (
    ClassifierRetraining,
    LearnableWeightScaling,
    NearestClassMean,
    TauNorm,
    fit_many,
)
from heads.estimators import many as many_module
from heads.solvers import sgd
from tests.test_heads.data import cloud

# Of each key two or three values; together they make several streams, stretches and stacks.
CRT = {
    "lr": [0.05, 0.1],
    "weight_decay": [0.0, 5e-4],
    "epochs": [1, 3],
    "q": [0.0, 0.5, 1.0],
    "random_state": [0, 7],
    "momentum": [0.5, 0.9],
    "weighting": ["none", "effective"],
}
LWS = {"lr": [0.005, 0.01], "epochs": [1, 3], "per_class": [1, 4], "random_state": [0, np.int64(7)]}


def grid(kind: type, values: dict[str, list[Any]], **fixed: Any) -> list[Any]:
    return [
        kind("sgd", **dict(zip(values, point, strict=True)), **fixed)
        for point in product(*values.values())
    ]


def assert_equals_alone(heads: list[Any], data: Any, **tolerance: float) -> None:
    X, y = data
    alone = [clone(head).fit(X, y) for head in heads]

    assert fit_many(heads, X, y) == heads
    for together, single in zip(heads, alone, strict=True):
        assert together.n_steps_ == single.n_steps_
        assert together.floored_ == single.floored_
        for got, want in zip(together.linear(), single.linear(), strict=True):
            np.testing.assert_allclose(np.asarray(got), np.asarray(want), **tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_point_of_a_crt_grid_is_its_fit_alone(rng: np.random.Generator, dtype: str) -> None:
    data = cloud(rng, n_max=200)
    heads = grid(ClassifierRetraining, CRT, batch=16, beta=0.9)[::7]
    eps = float(np.finfo(dtype).eps)

    # Some 70 steps of a rate near 0.1 carry the rounding of a product on; without growth.
    assert_equals_alone(heads, (data.X.astype(dtype), data.y), rtol=0, atol=1000 * eps)
    assert len({head.weight_.tobytes() for head in heads}) == len(heads)


@pytest.mark.parametrize("width", [3, 8])
def test_every_point_of_an_lws_grid_is_its_fit_alone(rng: np.random.Generator, width: int) -> None:
    data = cloud(rng, width=width)
    heads = grid(LearnableWeightScaling, LWS, batch=16, weight=data.W / 4, bias=data.b)

    assert_equals_alone(heads, (data.X, data.y), rtol=1e-10)


def test_heads_of_any_kind_go_in_and_come_out_in_order(rng: np.random.Generator) -> None:
    data = cloud(rng)
    X = torch.from_numpy(data.X)
    heads = [
        ClassifierRetraining("sgd", epochs=1),
        NearestClassMean(),
        ClassifierRetraining(weight_decay=1e-2),
        TauNorm(0.5, weight=data.W),
        ClassifierRetraining("sgd", epochs=2),
        ClassifierRetraining("sgd", batch=64),
        ClassifierRetraining("sgd", weight=data.W),
    ]
    alone = [clone(head).fit(X, data.y) for head in heads]

    for together, single in zip(fit_many(heads, X, data.y), alone, strict=True):
        assert type(together) is type(single)
        scores = together.decision_function(X)
        assert isinstance(scores, torch.Tensor)
        torch.testing.assert_close(scores, single.decision_function(X), rtol=1e-10, atol=1e-10)


def test_generators_are_drawn_from_as_fits_in_turn_would(rng: np.random.Generator) -> None:
    data = cloud(rng)

    def heads() -> list[Any]:
        shared = np.random.default_rng(5)
        return [ClassifierRetraining("sgd", epochs=e, random_state=shared) for e in (2, 5, 2)]

    together = fit_many(heads(), data.X, data.y)

    for got, want in zip(together, [h.fit(data.X, data.y) for h in heads()], strict=True):
        np.testing.assert_allclose(got.weight_, want.weight_, rtol=1e-10)
    assert not np.allclose(together[0].weight_, together[2].weight_)


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    calls: list[Any] = []
    plain = getattr(module, name)

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return plain(*args, **kwargs)

    monkeypatch.setattr(module, name, spy)
    return calls


@pytest.mark.parametrize(
    ("values", "loops", "draws"),
    [
        ({"lr": [0.05, 0.1], "weight_decay": [0, 1e-3], "momentum": [0.5, 0.9]}, 1, 1),
        ({"epochs": [5, 10, 20]}, 1, 1),
        ({"random_state": [0, 1, 2], "lr": [0.05, 0.1]}, 1, 3),
        ({"q": [0.0, 1.0], "epochs": [5, 10]}, 1, 2),
        ({"batch": [64, 128]}, 2, 2),
    ],
)
def test_what_can_be_shared_is(
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, list[Any]],
    loops: int,
    draws: int,
) -> None:
    data = cloud(rng)
    runs, drawn = counted(monkeypatch, sgd, "_step"), counted(monkeypatch, sgd, "rows_by_q")
    heads = fit_many(grid(ClassifierRetraining, values), data.X, data.y)

    assert len({head.n_steps_ for head in heads}) == len(runs) / loops
    assert len(drawn) == draws


def test_large_grids_go_in_several_passes(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cloud(rng)
    monkeypatch.setattr(many_module, "MOST", 2 * 6 * 6)
    heads = grid(ClassifierRetraining, {"lr": [0.01, 0.02, 0.05, 0.1, 0.2]})
    runs = counted(monkeypatch, sgd, "_step")

    assert_equals_alone(heads, (data.X, data.y), rtol=1e-10)
    assert len(runs) == len(heads) + 3


def test_what_one_head_notes_of_its_input_all_note(rng: np.random.Generator) -> None:
    data = cloud(rng)
    frame = pd.DataFrame(data.X, columns=list("abcde"))
    heads = fit_many(grid(ClassifierRetraining, {"lr": [0.1, 0.2]}), frame, data.y)

    for head in heads:
        assert head.feature_names_in_.tolist() == list("abcde")
        assert head.n_features_in_ == 5


def test_a_bad_parameter_stops_before_any_head_is_fitted(rng: np.random.Generator) -> None:
    data = cloud(rng)
    heads = [NearestClassMean(), ClassifierRetraining("sgd", lr=0)]

    with pytest.raises(ValueError, match="'lr' parameter .* above 0"):
        fit_many(heads, data.X, data.y)
    assert not hasattr(heads[0], "centroids_")


def test_divergence_names_the_rate(rng: np.random.Generator) -> None:
    data = cloud(rng)
    heads = grid(ClassifierRetraining, {"lr": [0.05, 1e18]})

    with pytest.raises(ValueError, match=r"training diverged at lr=1e\+18: lower lr"):
        fit_many(heads, (1e12 * data.X).astype("float32"), data.y)


@pytest.mark.gpu
@pytest.mark.parametrize("n_heads", [1, 3])
def test_a_captured_graph_takes_the_steps_of_the_plain_loop(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, n_heads: int
) -> None:
    data = cloud(rng)
    X, y = torch.from_numpy(data.X).cuda(), torch.from_numpy(data.y).cuda()
    values = {"lr": [0.05, 0.1, 0.2][:n_heads], "epochs": [1, 3], "random_state": [0, 1]}
    captured = fit_many(grid(ClassifierRetraining, values, batch=16), X, y)
    monkeypatch.setattr(sgd, "WARM_STEPS", 1 << 30)  # no step is left for a graph
    plain = fit_many(grid(ClassifierRetraining, values, batch=16), X, y)
    on_host = fit_many(grid(ClassifierRetraining, values, batch=16), data.X, data.y)

    for one, other, host in zip(captured, plain, on_host, strict=True):
        torch.testing.assert_close(one.weight_, other.weight_, rtol=0, atol=0)
        torch.testing.assert_close(one.weight_.cpu(), torch.from_numpy(host.weight_))
