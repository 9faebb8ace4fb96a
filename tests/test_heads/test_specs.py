import numpy as np
import pytest

import heads
from heads import specs
from heads.errors import HeadSpecError


@pytest.mark.parametrize(
    ("name", "params", "want"),
    [
        ("joint", {}, {"weight_decay": None}),
        ("ncm", {"transform": "l2n", "metric": "cosine"}, {"transform": "l2n", "metric": "cosine"}),
        ("tau", {"tau": "0.7", "bias": "keep"}, {"tau": 0.7, "keep_bias": True}),
        ("tau", {"tau": 1, "bias": "drop"}, {"tau": 1.0, "keep_bias": False}),
        (
            "crt",
            {"solver": "sgd", "lr": "1e-1", "epochs": "3", "batch": 64},
            {"lr": 0.1, "epochs": 3, "batch": 64},
        ),
        ("lws", {"solver": "sgd", "momentum": "0"}, {"solver": "sgd", "momentum": 0.0}),
        (
            "crt",
            {"q": "1", "weighting": "effective", "beta": "0.99"},
            {"q": 1.0, "weighting": "effective", "beta": 0.99},
        ),
    ],
)
def test_text_becomes_values(name: str, params: dict, want: dict) -> None:
    got = specs.build(name, params).get_params()

    assert {key: got[key] for key in want} == want
    assert all(type(got[key]) is type(value) for key, value in want.items())


def test_stage_one_and_seed_reach_the_heads_that_take_them() -> None:
    W, b = np.eye(3), np.ones(3)
    for name in specs.SPEC_NAMES:
        got = specs.build(name, weight=W, bias=b, random_state=7).get_params()
        assert (got.get("weight") is W) == (name != "ncm")
        assert specs.needs_stage1(name) == (name not in ("ncm", "crt"))
        assert got.get("random_state", 7) == 7
        assert ("random_state" in got) == (name in ("crt", "lws"))
    assert specs.needs_stage1("crt", {"anchor": "stage1"})
    assert not specs.needs_stage1("balanced-softmax", {"anchor": "zero"})


def test_a_path_is_followed_only_where_the_weight_decay_is_open() -> None:
    for name, params, want in [
        ("crt", {}, True),
        ("crt", {"weight_decay": 0.1}, False),
        ("crt", {"solver": "sgd"}, False),
        ("balanced-softmax", {}, True),
        ("lws", {}, False),
    ]:
        assert specs.has_path(specs.build(name, params)) == want


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("taunorm", {}, r"unknown head 'taunorm' \(did you mean tau\?\); known"),
        ("xyz", {}, r"unknown head 'xyz'; known are balanced-softmax, joint, .*, crt, lws$"),
        ("ctr", {}, r"unknown head 'ctr' \(did you mean crt\?\); known are"),
        ("crt", {"epoch": 3}, r"no parameter 'epoch' \(did you mean epochs\?\); it has solver, lr"),
        ("ncm", {"metric": "l1"}, r"metric must be one of: l2, cosine, dot\. Got 'l1' instead"),
        ("tau", {"bias": "yes"}, r"bias must be one of: drop, keep\. Got 'yes' instead"),
        ("tau", {"tau": "high"}, r"tau must be a number\. Got 'high' instead"),
        ("tau", {"tau": "-1"}, r"'tau' parameter of TauNorm must be .* of at least 0. Got -1.0"),
        ("tau", {"tau": "nan"}, r"Got nan instead"),
        ("tau", {"tau": True}, r"tau must be a number\. Got True"),
        ("crt", {"epochs": "2.5"}, r"epochs must be a whole number\. Got '2.5'"),
        ("crt", {"epochs": "inf"}, r"epochs must be a whole number\. Got 'inf'"),
        ("crt", {"solver": "sgd", "epochs": "0"}, r"'epochs' parameter .* at least 1"),
        ("crt", {"solver": "newton"}, r"solver must be one of: exact, sgd\. Got 'newton'"),
        ("crt", {"beta": "1"}, r"'beta' parameter .* must be below 1. Got 1.0 .*class-balanced"),
        ("crt", {"weighting": "inverse"}, r"weighting must be one of: none, class-balanced, eff"),
        ("lws", {"q": "1"}, r"head 'lws' has no parameter 'q'"),
        ("ncm", {"keep_bias": True}, r"has no parameter 'keep_bias'"),
    ],
)  # fmt: skip
def test_a_spec_is_refused_in_one_line(name: str, params: dict, words: str) -> None:
    with pytest.raises(HeadSpecError, match=words) as caught:
        specs.build(name, params)

    assert "\n" not in str(caught.value)


def test_description_fills_in_the_recipe() -> None:
    X, y = np.eye(4), [0, 0, 1, 1]
    crt = specs.build("crt", {"solver": "sgd", "batch": 2}).fit(X, y)

    assert specs.describe(crt) == {
        "solver": "sgd", "lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4, "batch": 2,
        "epochs": 10, "per_class": 4, "q": 0.0, "weighting": "none", "n_steps": 200,
        "floored": True, "gradient": None, "seed": 0,
    }  # fmt: skip
    assert specs.describe(specs.build("lws", {"solver": "sgd"}))["epochs"] == 5
    assert specs.describe(specs.build("crt", {"solver": "sgd", "seed": "3"}))["seed"] == 3
    drawing = heads.ClassifierRetraining("sgd", random_state=np.random.default_rng(0))
    assert specs.describe(drawing)["seed"] is None
    assert specs.describe(specs.build("tau", {"bias": "keep"})) == {"tau": 1.0, "bias": "keep"}
    assert specs.describe(specs.build("joint", weight=X)) == {}
    assert specs.describe(specs.build("ncm"))["transform"] == "cl2n"


def test_description_builds_the_same_head() -> None:
    for name in specs.SPEC_NAMES:
        head = specs.build(name)
        again = specs.build(name, specs.describe(head))
        assert specs.describe(again) == specs.describe(head)
        assert type(head).__name__ in heads.__all__


def test_lists_become_every_combination_and_decays_of_exact_heads_a_path() -> None:
    def points(name: str, **params: object) -> list[tuple[dict, tuple[float, ...] | None]]:
        return [(point.varied, point.path) for point in specs.expand(name, params)]

    assert points("crt", lr="0.1", solver="sgd") == [({}, None)]
    assert points("crt", lr="[0.1]", solver="sgd") == [({}, None)]
    assert points("crt", solver="sgd", lr="[0.1, 0.2]", q=[0, 1]) == [
        ({"lr": lr, "q": q}, None) for lr in (0.1, 0.2) for q in (0, 1)
    ]
    assert points("crt", weight_decay="[1e-3,0.1,1e-2]") == [({}, (0.1, 1e-2, 1e-3))]
    assert points("crt", weight_decay=[0.1, 1], anchor="[zero,stage1]") == [
        ({"anchor": anchor}, (1, 0.1)) for anchor in ("zero", "stage1")
    ]
    assert points("crt", weight_decay="[0.1,1]", solver="[sgd,exact]") == [
        ({"weight_decay": 0.1, "solver": "sgd"}, None),
        ({"weight_decay": 1, "solver": "sgd"}, None),
        ({"solver": "exact"}, (1, 0.1)),
    ]
    assert points("tau", bias="['drop','keep']") == [({"bias": b}, None) for b in ("drop", "keep")]


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("crt", {"lr": "[]"}, r"lr=\[\] must list one value or more, each once"),
        ("crt", {"lr": "[0.1,1e-1]"}, r"lr=\[0.1,1e-1\] must list one value or more, each once"),
        ("crt", {"solver": "sgd", "lr": "[0.1,0]"}, r"'lr' parameter .* above 0"),
        ("crt", {"lr": "[0.1,fast]"}, r"lr must be a number\. Got 'fast' instead"),
        ("crt", {"weight_decay": "[0.1,0]"}, r"'weight_decay' parameter .* above 0"),
        ("ncm", {"transform": [["un"]]}, r"transform must be one of: .* Got \['un'\] instead"),
        ("crt", {"seed": "[1,2]"}, "seed: only for solver='sgd'; the exact solver draws nothing"),
        (
            "tau",
            {"tau": [i / 100 for i in range(10_001)]},
            "head 'tau' has 10001 combinations of values; at most 10000 go",
        ),
    ],
)
def test_lists_that_make_no_grid_are_refused(name: str, params: dict, words: str) -> None:
    with pytest.raises(HeadSpecError, match=words) as caught:
        specs.expand(name, params)

    assert "\n" not in str(caught.value)
