import numpy as np
import pytest
import torch

import heads._arrays
from heads import TauNorm
from heads.curves.chosen import Chosen, Maximum
from heads.curves.sweep import choose, tau_curve, widest_maximum
from heads.metrics import ShotGroups, Shots, evaluate
from tests.test_heads.data import cloud

TAUS = [round(0.1 * step, 1) for step in range(21)]


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "torch"])
@pytest.mark.parametrize("keep_bias", [False, True])
def test_the_curve_is_the_head_at_every_point(
    rng: np.random.Generator,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    keep_bias: bool,
) -> None:
    monkeypatch.setattr(heads._arrays, "_BLOCK_ELEMENTS", 400)  # several blocks, one of them short
    data = cloud(rng)
    X = data.X_test.astype("float32" if kind == "torch" else kind)
    X = torch.from_numpy(X) if kind == "torch" else X
    bias = data.b if keep_bias else None

    groups = ShotGroups(data.counts, Shots(25, 5))
    curve = tau_curve(data.W, X, data.y_test, groups, taus=TAUS, bias=bias)

    for point in curve:
        head = TauNorm(point["tau"], keep_bias, data.W, data.b).fit(X, data.y_test)
        predicted = np.asarray(head.predict(X))
        want = evaluate(data.y_test, predicted, groups)
        assert {key: want[key] for key in point if key != "tau"} == {
            key: value for key, value in point.items() if key != "tau"
        }
    assert [point["tau"] for point in curve] == TAUS


def test_curve_names_what_does_not_fit(rng: np.random.Generator) -> None:
    data = cloud(rng)
    ones = np.ones(6)
    cases = [
        ((data.W[:, :3], data.X, data.y, ones), "weight has 3 columns, but X has 5 features"),
        ((data.W, data.X, data.y[1:], ones), "rows of features for labels of shape"),
        ((data.W, data.X, data.y, ones[1:]), "counts has shape .5,., but weight has 6 classes"),
        ((data.W[:4], data.X, data.y, ones[:4]), r"labels must be whole numbers in 0\.\.3"),
    ]
    for arrays, words in cases:
        with pytest.raises(ValueError, match=words):
            tau_curve(*arrays, taus=[1.0])
    with pytest.raises(ValueError, match="'taus' .* Got -1 instead"):
        tau_curve(data.W, data.X, data.y, ones, taus=[-1])


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([1, 3, 2], (1, 1, 1)),
        ([3, 1, 3, 3, 3, 1], (2, 3, 4)),  # the widest run, its middle
        ([3, 3, 3, 3], (0, 1, 3)),  # of two middles the first
        ([1, 3, 3, 1, 3, 3], (1, 1, 2)),  # of two runs the first
        ([3], (0, 0, 0)),
    ],
)
def test_widest_run(values: list[float], want: tuple[int, int, int]) -> None:
    assert widest_maximum([round(0.1 * i, 1) for i in range(len(values))], values) == want


def test_width_is_measured_in_tau_and_not_in_points() -> None:
    positions, values = [0, 0.1, 0.2, 1, 2], [3, 3, 1, 3, 3]

    assert widest_maximum(positions, values) == (3, 3, 4)


def test_choice_reports_the_rule_and_the_maximum() -> None:
    curve = [
        {"tau": tau, "all": v, "few": None} for tau, v in ((0, 0.4), (1, 0.5), (2, 0.5), (3, 0.5))
    ]

    assert choose(curve) == Chosen("maximum", 2, 0.5, Maximum((1, 3), 0.5))
    with pytest.raises(ValueError, match="no class of the split is in 'few'"):
        choose(curve, "few")
