"""Exact heads end within their tolerance of the optimum, on features of any scale, or say so."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from heads import BalancedSoftmax, ClassifierRetraining, JointClassifier, LearnableWeightScaling
from heads.solvers import optimum as exact
from heads.solvers.certificate import Verdict
from heads.solvers.curvature import HessianStandIn
from heads.solvers.linear import cross_entropy_and_error
from heads.solvers.newton import conjugate_gradients, newton
from heads.solvers.objective import SoftmaxObjective, natural
from heads.solvers.rows import TrainingRows
from tests.test_heads.data import cloud

TOLERANCE = {"float64": 1e-9, "float32": 1e-6}
X, y = load_digits(return_X_y=True)
TAIL = np.concatenate([np.flatnonzero(y == c)[: max(1, 170 >> c)] for c in range(10)])


class Formula(NamedTuple):
    """sum_i u_i CE(y_i, T (x_i, 1) + shift) + (weight_decay / 2) ||T - anchor||^2."""

    X: np.ndarray
    y: np.ndarray
    u: np.ndarray
    weight_decay: float
    shift: Any = 0.0
    anchor: Any = 0.0

    def at(self, theta: np.ndarray) -> tuple[float, float]:
        """Return the value, and how far above the optimum it is at most."""
        rows, padded = np.arange(len(self.y)), np.c_[self.X, np.ones(len(self.y))]
        scores = padded @ theta.T + self.shift
        lead = scores - scores[rows, self.y][:, None]
        lead[rows, self.y] = -np.inf
        most = np.maximum(lead.max(axis=1), 0)
        others = np.exp(lead - most[:, None])
        rest = others.sum(axis=1)
        losses = most + np.log1p(np.expm1(-most) + rest)
        total = np.exp(-most) + rest
        error = others / total[:, None]
        error[rows, self.y] = -rest / total
        pull = theta - self.anchor
        slope = (error * self.u[:, None]).T @ padded + self.weight_decay * pull
        value = losses @ self.u + self.weight_decay / 2 * (pull**2).sum()
        return float(value), float((slope**2).sum()) / (2 * self.weight_decay)

    def best(self) -> float:
        """Return scikit-learn's optimum; without shift or anchor."""
        model = LogisticRegression(
            C=1 / (self.weight_decay * self.u.sum()), solver="newton-cholesky",
            fit_intercept=False, tol=1e-12, max_iter=1000,
        )  # fmt: skip
        padded = np.c_[self.X, np.ones(len(self.y))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            coef = model.fit(padded, self.y, sample_weight=self.u).coef_
        return self.at(coef - coef.mean(axis=0))[0]


def theta(head: Any) -> np.ndarray:
    return np.c_[head.weight_, head.bias_].astype(np.float64)


def class_parts(labels: np.ndarray, q: float, weights: np.ndarray | None = None) -> np.ndarray:
    """Each row's part of the loss where classes count by n^q."""
    counts = np.bincount(labels, weights)
    shares = counts**q / (counts**q).sum()
    return (shares / counts)[labels] * (1 if weights is None else weights)


# Features and labels, from which what is solved follows.
DATA = {
    "plain": (X, y),
    "times 10": (10 * X, y),
    "times 100": (100 * X, y),
    "times 0.01": (X / 100, y),
    "times 1e-6": (X / 1e6, y),
    "far from the origin": (X + 300, y),
    "long tail": (X[TAIL], y[TAIL]),
    "fewer rows than features": (X[:40], y[:40]),
    "one row a class": (X[:10], y[:10]),
    "standardised": ((X - X.mean(axis=0)) / (X.std(axis=0) + 1e-12), y),
}
QUICK = [
    ("plain", 1e-5, 1.0),
    ("times 100", 1e-3, 1.0),
    ("times 1e-6", 1e-15, 1.0),
    ("long tail", 1e-6, 0.0),
    ("fewer rows than features", 1e-4, 1.0),
    ("one row a class", 1e-6, 0.0),
]
FULL = [
    (name, decay, q)
    for name in DATA
    for decay in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    for q in (0.0, 1.0)
]


def reaches_the_optimum(name: str, weight_decay: float, q: float, dtype: str) -> None:
    features, labels = DATA[name]
    features = features.astype(dtype)
    head = ClassifierRetraining(weight_decay=weight_decay, q=q).fit(features, labels)
    formula = Formula(features.astype(float), labels, class_parts(labels, q), weight_decay)
    value, excess = formula.at(theta(head))

    assert value - min(formula.best(), value) <= TOLERANCE[dtype] * value
    if dtype == "float64":
        assert excess <= TOLERANCE[dtype] * value


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "weight_decay", "q"), QUICK)
def test_the_optimum_is_reached(name: str, weight_decay: float, q: float, dtype: str) -> None:
    reaches_the_optimum(name, weight_decay, q, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "weight_decay", "q"), FULL)
def test_the_optimum_is_reached_everywhere(
    name: str, weight_decay: float, q: float, dtype: str
) -> None:
    reaches_the_optimum(name, weight_decay, q, dtype)


@pytest.mark.parametrize(("scale", "weight_decay"), [(1.0, 1e-2), (100.0, 1e-5)])
@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("kind", [ClassifierRetraining, BalancedSoftmax])
def test_anchors_and_weights_change_the_problem_not_the_tolerance(
    rng: np.random.Generator,
    kind: type,
    weighted: bool,
    anchored: bool,
    weight_decay: float,
    scale: float,
) -> None:
    features, labels = scale * X[TAIL][:, ::4], y[TAIL]
    weights = rng.uniform(0.1, 3, len(labels)) if weighted else None
    anchor = rng.normal(size=(10, 17)) / 10 if anchored else np.zeros((10, 17))
    counts = np.bincount(labels, weights)
    balanced = kind is ClassifierRetraining
    parts = class_parts(labels, 0.0 if balanced else 1.0, weights)
    shift = 0.0 if balanced else np.log(counts / counts.sum())
    formula = Formula(features, labels, parts, weight_decay, shift, anchor)
    head = kind(weight_decay=weight_decay, anchor="stage1" if anchored else "zero")
    head.set_params(weight=anchor[:, :-1], bias=anchor[:, -1])

    fine = theta(head.fit(features, labels, sample_weight=weights))
    value, excess = formula.at(fine)
    assert excess <= 1e-9 * value
    coarse = theta(head.fit(features.astype("float32"), labels, sample_weight=weights))
    assert formula.at(coarse)[0] - value <= 1e-6 * value


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3])
def test_an_own_stage_one_classifier_is_the_same_in_any_unit(
    rng: np.random.Generator, dtype: str, scale: float
) -> None:
    data = cloud(rng)
    features = (data.X * scale).astype(dtype)
    head = JointClassifier(weight_decay=3e-3 * scale**2).fit(features, data.y)
    parts = np.full(len(data.y), 1 / len(data.y))
    formula = Formula(features.astype(float), data.y, parts, 3e-3 * scale**2)
    exactly = JointClassifier(weight_decay=3e-3 * scale**2).fit(features.astype(float), data.y)

    value, excess = formula.at(theta(exactly))
    assert excess <= 1e-9 * value
    assert formula.at(theta(head))[0] - value <= TOLERANCE[dtype] * value


@pytest.mark.parametrize("kind", [ClassifierRetraining, BalancedSoftmax, JointClassifier])
def test_a_fit_that_is_stopped_early_says_how_far_it_is(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    monkeypatch.setattr(exact, "FEW", 3)
    monkeypatch.setattr(exact, "LONGEST", 1)
    data = cloud(rng)
    said = (
        r"weight_decay=1e-05 stopped after \d+ evaluations, at most .* of its objective above the "
        r"optimum, where 1e-09 was asked; .* gradient is .*: raise weight_decay"
    )

    with pytest.warns(ConvergenceWarning, match=said):
        kind(weight_decay=1e-5).fit(data.X, data.y)


def test_a_scale_fit_that_is_stopped_early_says_so(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heads.solvers.scale_only.MOST", 1)
    monkeypatch.setattr("heads.solvers.scale_only.LONGEST", 1)
    data = cloud(rng)

    with pytest.warns(ConvergenceWarning, match="at most .* above the optimum"):
        LearnableWeightScaling(weight=data.W, bias=data.b).fit(data.X, data.y)


@pytest.mark.parametrize("separable", [True, False])
def test_without_a_penalty_only_a_minimum_that_exists_is_one(
    rng: np.random.Generator, separable: bool
) -> None:
    labels = rng.integers(0, 3, 200)
    features = rng.normal(size=(200, 4)) + (20 * np.eye(3, 4)[labels] if separable else 0)
    head = JointClassifier(weight_decay=0)

    if separable:
        with pytest.warns(ConvergenceWarning, match="weight_decay=0"):
            head.fit(features, labels)
        return
    head.fit(features, labels)
    train = TrainingRows(torch.from_numpy(features), torch.from_numpy(labels), 3)
    objective = SoftmaxObjective.on_features(train, natural(train), 0)
    linear = objective.point(torch.from_numpy(head.weight_), torch.from_numpy(head.bias_))
    assert float(objective.exactly(linear)[1].abs().max()) < 1e-6


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_large_problems_go_on_where_float32_stops(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(exact, "FINE", 0)  # coordinates and products in the features' precision
    monkeypatch.setattr(
        "heads.solvers.curvature.BLOCK_WORK", 0
    )  # the Hessian's diagonal stands for it
    data = cloud(rng, width=20)
    features = (data.X + 100).astype(dtype)
    head = ClassifierRetraining(weight_decay=1e-5).fit(features, data.y)
    formula = Formula(features.astype(float), data.y, class_parts(data.y, 0.0), 1e-5)

    value = formula.at(theta(head))[0]
    assert value - min(formula.best(), value) <= TOLERANCE[dtype] * value


def test_small_losses_keep_their_digits() -> None:
    lead = torch.tensor([-1e-3, -3.0, -40.0, -300.0, 5.0, 800.0], dtype=torch.float64)
    scores = torch.stack([torch.zeros(6).double(), lead], dim=1)

    losses, error = cross_entropy_and_error(scores.clone(), torch.zeros(6, dtype=torch.int64))

    # log(1 + e^x) and its slope, from their own series where the exponential is small.
    want = np.logaddexp(0, lead.numpy())
    np.testing.assert_allclose(losses, want, rtol=1e-14)
    np.testing.assert_allclose(error[:, 1], 1 / (1 + np.exp(-lead.numpy())), rtol=1e-13)
    np.testing.assert_allclose(error.sum(dim=1), 0, atol=1e-300)


def test_the_verdict_is_the_penalty_s_bound() -> None:
    slopes = torch.tensor([3.0, -4.0, 0.0]).double()

    verdict = Verdict.of(10.0, slopes, 0.5)
    assert (verdict.excess, verdict.gap, verdict.gradient) == (25.0, 2.5, 4.0)
    assert Verdict.of(10.0, slopes, 0.5, floor=9.0).excess == 1.0
    assert Verdict.of(10.0, slopes, 0.0).excess == np.inf


@pytest.mark.parametrize("small", [True, False])
def test_curvature_is_the_change_of_the_gradient(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    if not small:
        monkeypatch.setattr("heads.solvers.curvature.BLOCK_WORK", 0)
        monkeypatch.setattr("heads.solvers.objective.SHARES", 0)
    Z = torch.from_numpy(rng.normal(size=(50, 4)))
    labels = torch.from_numpy(rng.integers(0, 3, 50))
    parts, stretch = torch.full((50,), 0.02).double(), torch.ones(4).double()
    objective = SoftmaxObjective(Z, labels, 3, parts, 0.1, stretch)
    point, nudge = (torch.from_numpy(rng.normal(size=(3, 4))) for _ in range(2))
    times = objective.hessian_product(point)
    undone = HessianStandIn(objective, objective.probabilities(point)).undone

    ahead, behind = (objective.value_and_gradient(point + s * nudge)[1] for s in (1e-5, -1e-5))
    torch.testing.assert_close(times(nudge), (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8)
    level = nudge - nudge.mean(dim=0)
    found, _ = conjugate_gradients(times, undone, level, 1e-12, 100)
    torch.testing.assert_close(times(found), -level)


def test_newton_ends_at_its_aim_or_where_it_is_told(rng: np.random.Generator) -> None:
    target = torch.from_numpy(rng.normal(size=5))

    def quartic(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        rest = x - target
        return float(1 + (rest**4).sum() + rest @ rest), 4 * rest**3 + 2 * rest

    def curvature_at(x: torch.Tensor) -> Any:
        bend = 12 * (x - target) ** 2 + 2
        return (lambda v: bend * v), (lambda v: v)

    def excess(slope: torch.Tensor) -> float:
        return float(slope @ slope) / 4

    found, left = newton(quartic, curvature_at, excess, target + 3, aim=1e-12, most=1000)
    torch.testing.assert_close(found.point, target, atol=1e-6, rtol=0)
    assert left <= 1e-12 * found.value
    stopped, _ = newton(quartic, curvature_at, excess, target + 3, aim=1e-12, most=4)
    assert stopped.value > found.value
