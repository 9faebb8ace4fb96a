"""Convex heads at their optimum: against references, scikit-learn, and the paths' promises."""

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from heads import (
    BalancedSoftmax,
    ClassifierRetraining,
    JointClassifier,
    LearnableWeightScaling,
    LogitAdjustment,
    NearestClassMean,
    TauNorm,
)
from heads.balancing.weighting import class_loss_share
from heads.metrics import evaluate
from heads.solvers import path as exact
from heads.solvers.coordinates import principal_basis
from heads.solvers.lbfgs import minimise
from heads.solvers.objective import Goal, SoftmaxObjective
from heads.solvers.optimum import unit_of
from heads.solvers.rows import TrainingRows
from tests import reference
from tests.test_heads.data import cloud


def objective(head: object, data: object, W: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The class-balanced or balanced-softmax objective and its steepest slope, in float64."""
    balanced = isinstance(head, ClassifierRetraining)
    shift = 0 if balanced else np.log(data.counts / data.counts.sum())
    weights = 1 / (6 * data.counts) if balanced else np.full(6, 1 / len(data.y))
    anchor = (data.W, data.b) if head.anchor == "stage1" else (0 * data.W, 0 * data.b)
    value, dW, db = reference.weighted_softmax(data.X, data.y, W, b, weights, shift)
    decay = head.weight_decay
    for part, zero in ((W, anchor[0]), (b, anchor[1])):
        value += decay / 2 * ((part - zero) ** 2).sum()
    dW, db = dW + decay * (W - anchor[0]), db + decay * (b - anchor[1])
    return value, max(np.abs(dW).max(), np.abs(db).max())


@pytest.mark.parametrize("kind", [ClassifierRetraining, BalancedSoftmax])
@pytest.mark.parametrize("anchor", ["zero", "stage1"])
@pytest.mark.parametrize("weight_decay", [1e-1, 1e-3])
@pytest.mark.parametrize("width", [5, 200])  # fewer and more than there are rows
def test_the_gradient_vanishes_at_the_optimum(
    rng: np.random.Generator, seed: int, kind: type, anchor: str, weight_decay: float, width: int
) -> None:
    data = cloud(rng, width=width)
    head = kind(weight_decay=weight_decay, anchor=anchor, weight=data.W, bias=data.b)
    head.fit(data.X, data.y)

    assert head.gradient_ <= 1e-6
    assert objective(head, data, head.weight_, head.bias_)[1] < 1e-6


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("width", [5, 200])
def test_the_optimum_is_reached_far_from_the_origin(
    rng: np.random.Generator, dtype: str, width: int
) -> None:
    """The penalty ties the bias to every weight there."""
    data = cloud(rng, width=width)
    data = data._replace(X=data.X + 300)
    head = ClassifierRetraining(weight_decay=1e-2).fit(data.X.astype(dtype), data.y)

    fine = ClassifierRetraining(weight_decay=1e-2).fit(data.X, data.y)
    assert fine.gradient_ < 1e-6
    assert head.n_steps_ < 400
    values = [
        objective(h, data, h.weight_.astype(float), h.bias_.astype(float))[0] for h in (head, fine)
    ]
    assert values[0] - values[1] < 1e-5


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e6, 1e9])
def test_a_boundary_that_needs_the_bias_is_found_beside_large_features(
    dtype: str, scale: float
) -> None:
    X = (np.linspace(1, 3, 201)[:, None] * scale).astype(dtype)
    y = (X[:, 0] > 2 * scale).astype(np.int64)
    head = ClassifierRetraining(weight_decay=1e-6)

    with warnings.catch_warnings():  # rounding may leave the last digits unproved
        warnings.simplefilter("ignore", ConvergenceWarning)
        head.fit(X, y)
    assert (head.predict(X) == y).mean() > 0.98


@pytest.mark.parametrize("width", [6, 40])
def test_a_large_column_hides_no_other(rng: np.random.Generator, width: int) -> None:
    y = np.arange(30) % 3
    X = rng.normal(size=(3, width))[y] * 2 + rng.normal(size=(30, width)) / 10
    plain = ClassifierRetraining(weight_decay=1e-2).fit(X[:, 1:], y)
    X[:, 0] = 1.7e9 + np.arange(30)  # as time stamps are

    head = ClassifierRetraining(weight_decay=1e-2).fit(X, y)

    np.testing.assert_array_equal(head.predict(X), plain.predict(X[:, 1:]))


def test_the_optimum_is_that_of_scikit_learn(rng: np.random.Generator, seed: int) -> None:
    data = cloud(rng)
    padded = np.hstack([data.X, np.ones((len(data.X), 1))])
    # Its objective is C sum_i u_i CE_i + ||theta||^2 / 2 with u_i = n / (6 n_c).
    theirs = LogisticRegression(
        C=1 / (5e-3 * len(padded)), class_weight="balanced", fit_intercept=False,
        tol=1e-10, max_iter=5000,
    ).fit(padded, data.y)  # fmt: skip
    ours = ClassifierRetraining(weight_decay=5e-3).fit(data.X, data.y)

    np.testing.assert_allclose(
        np.hstack([ours.weight_, ours.bias_[:, None]]), theirs.coef_, atol=2e-4
    )


@pytest.mark.parametrize("kind", [ClassifierRetraining, BalancedSoftmax])
def test_float32_reaches_the_objective_of_float64(rng: np.random.Generator, kind: type) -> None:
    data = cloud(rng)
    fine = kind(weight_decay=1e-2, anchor="zero").fit(data.X, data.y)
    coarse = kind(weight_decay=1e-2, anchor="zero").fit(data.X.astype("float32"), data.y)

    assert coarse.weight_.dtype == np.float32
    values = [
        objective(h, data, h.weight_.astype(float), h.bias_.astype(float))[0]
        for h in (fine, coarse)
    ]
    assert 0 <= values[1] - values[0] < 1e-7


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kept", [True, False])
def test_lws_is_at_the_optimum_of_an_independent_solver(
    rng: np.random.Generator, seed: int, dtype: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heads.solvers.scale_only.KEPT", 1 << 28 if kept else 1)
    data = cloud(rng)
    logits = data.X @ data.W.T + data.b
    weights = 1 / (6 * data.counts)

    def value(s: np.ndarray) -> float:
        scores = logits * s
        scores = scores - scores.max(axis=1, keepdims=True)
        losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(scores)), data.y]
        return float(weights[data.y] @ losses + 5e-4 / 2 * s @ s)

    theirs = minimize(value, np.ones(6), method="BFGS", options={"gtol": 1e-7}).fun
    head = LearnableWeightScaling(weight=data.W, bias=data.b)
    head.fit(data.X.astype(dtype), data.y)

    assert value(head.scale_.astype(float)) <= theirs + 1e-7
    assert head.gradient_ <= (1e-6 if dtype == "float64" else 1e-3)
    sgd = LearnableWeightScaling("sgd", weight=data.W, bias=data.b).fit(data.X, data.y)
    assert value(head.scale_.astype(float)) <= value(sgd.scale_)


def test_weights_share_a_class_s_part_among_its_rows() -> None:
    counts = torch.tensor([8, 2, 0, 1])
    n_c, shares = counts.double(), torch.tensor([0.5, 0.3, 0, 0.2]).double()

    torch.testing.assert_close(
        class_loss_share(counts) * n_c, torch.tensor([1, 1, 0, 1]).double() / 3
    )
    torch.testing.assert_close(class_loss_share(counts, shares) * n_c, shares)


@pytest.mark.parametrize(("rank", "n_rows"), [(3, 300), (20, 300), (60, 300), (60, 21), (20, 21)])
def test_coordinates_keep_scores_norms_and_gradients(
    rng: np.random.Generator, rank: int, n_rows: int
) -> None:
    X = torch.from_numpy(rng.normal(size=(n_rows, 60)) * np.linspace(3, 0.1, 60) + 1)
    y = torch.from_numpy(rng.integers(0, 5, n_rows))
    weights = torch.full((5,), 1 / n_rows, dtype=torch.float64)
    basis = principal_basis(X, weights[y], rank)
    Z, share = basis.coordinates(X), weights[y].double()
    objective = SoftmaxObjective(Z, y, 5, share, 0.1, basis.stretch)
    n_coordinates = basis.into.shape[1]
    assert n_coordinates == min(n_rows, rank + 2, 61)
    point = torch.from_numpy(rng.normal(size=(5, n_coordinates)))
    linear = basis.linear(point)
    W, b = linear[:, :-1], linear[:, -1]
    want, _, _ = reference.weighted_softmax(X, y.numpy(), W.numpy(), b.numpy(), weights.numpy(), 0)
    want += 0.05 * float(W.square().sum() + b.square().sum())

    value, slope = objective.value_and_gradient(point)

    assert value == pytest.approx(want, rel=1e-6)
    torch.testing.assert_close(basis.point(linear), point)
    nudge = torch.from_numpy(rng.normal(size=point.shape)) * 1e-5
    ahead, behind = (objective.value_and_gradient(p)[0] for p in (point + nudge, point - nudge))
    assert (ahead - behind) / 2 == pytest.approx(float((slope * nudge).sum()), rel=1e-5)
    torch.testing.assert_close(Z.T @ Z / n_rows, torch.eye(n_coordinates).double())


class Scripted(exact._Tried):
    """Points whose scores are given by weight decay, else 0.2; other rows are right at each."""

    def __init__(self, scores: dict[float, float], n_rows: int) -> None:
        self.all, self.scores, self.n_rows = [], scores, n_rows
        self.generator = torch.Generator().manual_seed(0)

    def follow(self, weight_decays: list[float], start: object = None) -> None:
        for decay in weight_decays:
            score = self.scores.get(decay, 0.2)
            rows = torch.randperm(self.n_rows, generator=self.generator)
            parts = (rows < round(score * self.n_rows)).double() / self.n_rows
            found = exact.Score(score, parts)
            self.all.append(exact.PathPoint(decay, found, torch.zeros(())))


def explored(scores: dict[float, float], unit: int = 0, n_rows: int = 10_000) -> exact._Tried:
    tried = Scripted(scores, n_rows)
    exact._explore(tried, unit)
    return tried


RISING = {1e-1: 0.3, 3e-2: 0.4, 1e-2: 0.5, 3e-3: 0.6, 1e-3: 0.7, 3e-4: 0.75, 1e-4: 0.8}


@pytest.mark.parametrize(
    ("scores", "ends", "best"),
    [
        (RISING, (1e-1, 3e-5), 1e-4),  # one fall beyond the usual range ends the path
        (RISING | {3e-5: 0.8, 1e-5: 0.8}, (1e-1, 1e-5), 1e-4),  # so do two points without a gain
        (RISING | {3e-5: 0.8, 1e-5: 0.85}, (1e-1, 3e-6), 1e-5),
        (RISING | {3e-3: 0.35, 1e-3: 0.35}, (1e-1, 1e-3), 1e-2),  # two falls in a row end it
        (RISING | {3e-3: 0.35}, (1e-1, 3e-5), 1e-4),  # one does not
        ({1e-1: 0.8, 3e-2: 0.7, 1e-2: 0.6}, (3e-1, 1e-2), 1e-1),  # the best may be stronger
        ({3e-1: 0.9, 1e-1: 0.8, 3e-2: 0.7, 1e-2: 0.6}, (1, 1e-2), 3e-1),
        ({1: 0.8, 3e-1: 0.8, 1e-1: 0.8, 3e-2: 0.7, 1e-2: 0.6}, (1, 1e-2), 1e-1),  # not for a tie
    ],
)
def test_the_path_goes_on_where_val_may_rise(
    scores: dict[float, float], ends: tuple[float, float], best: float
) -> None:
    tried = explored(scores)
    decays = [point.weight_decay for point in tried.all]

    assert (max(decays), min(decays)) == ends
    assert len(set(decays)) == len(decays)
    assert tried.best.weight_decay == best


def test_falls_within_the_noise_do_not_end_the_path() -> None:
    near_chance = {1e-1: 0.32, 3e-2: 0.315, 1e-2: 0.31, 3e-3: 0.312, 1e-3: 0.31, 3e-4: 0.4}
    found = near_chance | {1e-4: 0.6}

    assert explored(found, n_rows=200).best.weight_decay == 1e-4
    assert explored(found, n_rows=10**6).best.weight_decay == 1e-1  # so many tell the falls apart


def test_a_plateau_ends() -> None:
    assert (
        len(explored(dict.fromkeys((exact.half_decade(s) for s in range(-40, 40)), 0.7)).all) < 12
    )


@pytest.mark.parametrize("kind", [ClassifierRetraining, BalancedSoftmax, JointClassifier])
@pytest.mark.parametrize("unit", [-8, 6])
def test_the_path_is_the_same_in_any_unit(rng: np.random.Generator, kind: type, unit: int) -> None:
    data = cloud(rng)
    size = 10 ** (unit / 4)  # weight decays go with its square
    head, other = kind(), kind()
    groups = (data.y_test, data.counts)
    tried = head.fit_path(data.X, data.y, data.X_test, *groups)
    again = other.fit_path(size * data.X, data.y, size * data.X_test, *groups)

    ratio = again[0].weight_decay / tried[0].weight_decay
    assert ratio == pytest.approx(10 ** (unit / 2))
    # The bias has no unit, so that its penalty counts for less or more: a little differs.
    scores = [h.score(s * data.X_test, data.y_test) for h, s in ((head, 1), (other, size))]
    assert abs(scores[0] - scores[1]) < 0.08
    assert other.weight_decay == other.weight_decay_


@pytest.mark.parametrize("kind", [ClassifierRetraining, BalancedSoftmax, JointClassifier])
def test_the_default_weight_decay_goes_with_the_features(
    rng: np.random.Generator, kind: type
) -> None:
    data = cloud(rng)
    usual = 5e-4 if kind is JointClassifier else 3e-3
    size = np.sqrt(30 / data.X.var(axis=0).sum())
    decays = [
        kind().fit(size * scale * data.X, data.y).weight_decay_ for scale in (1, 10, 1e-3, 1e-6)
    ]

    for decay, ratio in zip(decays, (1, 1e2, 1e-6, 1e-12), strict=True):
        assert usual / 4 < decay / ratio < usual * 4  # to a half decade, and one digit
    assert kind(weight_decay=0.7).fit(data.X, data.y).weight_decay_ == 0.7


def test_features_that_are_all_alike_have_no_unit() -> None:
    y = torch.arange(6) % 2
    apart = float("1e30") * torch.randn(6, 2)

    assert unit_of(TrainingRows(torch.ones(6, 2), y, 2), Goal()) == 0
    assert unit_of(TrainingRows(apart, y, 2), Goal()) > 100


def test_a_given_classifier_has_no_weight_decay_to_choose(rng: np.random.Generator) -> None:
    data = cloud(rng)
    with pytest.raises(ValueError, match="a given weight is taken as it is"):
        JointClassifier(data.W, data.b).fit_path(
            data.X, data.y, data.X_test, data.y_test, data.counts
        )


def test_minimise_finds_the_minimum_of_a_quadratic(rng: np.random.Generator, seed: int) -> None:
    A = torch.from_numpy(rng.normal(size=(30, 12)))
    target = torch.from_numpy(rng.normal(size=30))

    def quadratic(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        rest = A @ x - target
        return float(rest @ rest / 2), A.T @ rest

    found = minimise(quadratic, torch.zeros(12).double(), lambda v, g: float(g.norm()) < 1e-9, 200)

    torch.testing.assert_close(found.point, torch.linalg.lstsq(A, target[:, None]).solution[:, 0])
    assert found.evaluations < 100
    assert minimise(quadratic, found.point, lambda v, g: False, 7).evaluations <= 7


@pytest.mark.parametrize("kind", [ClassifierRetraining, BalancedSoftmax])
@pytest.mark.parametrize("small", [True, False])
def test_the_path_is_best_where_it_says(
    rng: np.random.Generator, kind: type, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:
        monkeypatch.setattr(exact, "SMALL", 0)
    data = cloud(rng, width=8)
    head = kind()
    tried = head.fit_path(data.X, data.y, data.X_test, data.y_test, data.counts)

    best = max(point.metrics["all"] for point in tried)
    good = [point.weight_decay for point in tried if point.metrics["all"] == best]
    reached = evaluate(data.y_test, head.predict(data.X_test), data.counts)["all"]
    assert head.weight_decay in {point.weight_decay for point in tried}
    if small:
        assert head.weight_decay == max(good)
        alone = kind(weight_decay=head.weight_decay).fit(data.X, data.y)
        np.testing.assert_allclose(head.weight_, alone.weight_, atol=1e-4)
    else:
        assert reached == best
    assert type(head.gradient_) is float


def test_a_path_of_given_points_tries_them_all(rng: np.random.Generator) -> None:
    data = cloud(rng)
    given = [1e-5, 1.0, 1e-6, 10.0, 1e2, 1e-4]
    splits = (data.X, data.y, data.X_test, data.y_test, data.counts)
    head = ClassifierRetraining()
    tried = head.fit_path(*splits, weight_decays=given)

    assert [point.weight_decay for point in tried] == sorted(given, reverse=True)
    alone = ClassifierRetraining(weight_decay=head.weight_decay).fit(data.X, data.y)
    np.testing.assert_allclose(head.weight_, alone.weight_, atol=1e-4)
    with pytest.raises(ValueError, match="'weight_decays' parameter .* above 0. Got 0 instead"):
        ClassifierRetraining().fit_path(*splits, weight_decays=[0.1, 0])


def test_what_does_not_belong_together_is_refused(rng: np.random.Generator) -> None:
    data = cloud(rng)
    with pytest.raises(ValueError, match="lr, epochs: only for solver='sgd', not for 'exact'"):
        ClassifierRetraining(lr=0.1, epochs=3).fit(data.X, data.y)
    with pytest.raises(ValueError, match="anchor='stage1' belongs to solver='exact'"):
        ClassifierRetraining("sgd", anchor="stage1").fit(data.X, data.y)
    with pytest.raises(ValueError, match="counts the balance twice"):
        BalancedSoftmax(sampling="class").fit(data.X, data.y)
    with pytest.raises(ValueError, match="'anchor' .* must be one of: zero, stage1"):
        ClassifierRetraining(anchor="one").fit(data.X, data.y)
    with pytest.raises(ValueError, match="'weight_decay' .* above 0"):
        ClassifierRetraining(weight_decay=0).fit(data.X, data.y)


def test_balanced_softmax_starts_from_stage_one_where_there_is_one(
    rng: np.random.Generator,
) -> None:
    data = cloud(rng)
    strong = BalancedSoftmax(weight_decay=1e4, weight=data.W, bias=data.b).fit(data.X, data.y)

    np.testing.assert_allclose(strong.weight_, data.W, atol=1e-3)


def test_logit_adjustment_subtracts_the_log_prior(rng: np.random.Generator, seed: int) -> None:
    data = cloud(rng)
    head = LogitAdjustment(0.7, data.W, data.b).fit(data.X, data.y)
    want = data.X_test @ data.W.T + data.b - 0.7 * np.log(data.counts / data.counts.sum())

    np.testing.assert_allclose(head.decision_function(data.X_test), want, atol=1e-12)
    W, b = head.linear()
    np.testing.assert_allclose(data.X_test @ W.T + b, want, atol=1e-12)
    np.testing.assert_array_equal(
        head.predict(data.X_test),
        reference.adjusted_winners(data.X_test, data.W, data.b, data.counts, 0.7),
    )


@pytest.mark.parametrize(
    ("head", "grid"),
    [
        (JointClassifier(), {"weight_decay": [1e-1, 1e-3]}),
        (TauNorm(), {"tau": [0.0, 1.0]}),
        (ClassifierRetraining("sgd", epochs=2), {"lr": [0.05, 0.1]}),
        (LogitAdjustment(), {"tau": [0.0, 1.0]}),
        (ClassifierRetraining(), {"weight_decay": [1e-1, 1e-3]}),
        (BalancedSoftmax(), {"weight_decay": [1e-1, 1e-3]}),
        (LearnableWeightScaling(), {"weight_decay": [1e-1, 1e-3]}),
        (NearestClassMean(), {"transform": ["un", "cl2n"]}),
    ],
)
def test_grid_search_and_pipelines_work(
    rng: np.random.Generator, head: object, grid: dict[str, list[object]]
) -> None:
    data = cloud(rng)
    pipeline = make_pipeline(StandardScaler(), head)
    name = type(head).__name__.lower()
    search = GridSearchCV(pipeline, {f"{name}__{key}": value for key, value in grid.items()}, cv=2)
    search.fit(data.X_test, data.y_test)

    assert search.score(data.X_test, data.y_test) > 0.5
