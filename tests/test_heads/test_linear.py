"""Joint, tau-norm and LWS scores, and the softmax fit, against the equations."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from heads import ClassifierRetraining, JointClassifier, LearnableWeightScaling, TauNorm
from heads.solvers.linear import softmax_error
from heads.solvers.objective import SoftmaxObjective, natural
from heads.solvers.rows import TrainingRows
from tests import reference
from tests.test_heads.data import cloud


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("keep_bias", [False, True])
def test_tau_norm_scores(rng: np.random.Generator, seed: int, tau: float, keep_bias: bool) -> None:
    data = cloud(rng)
    head = TauNorm(tau, keep_bias, weight=data.W, bias=data.b).fit(data.X, data.y)
    want = reference.tau_scores(data.X_test, data.W, tau, data.b if keep_bias else None)

    np.testing.assert_allclose(head.decision_function(data.X_test), want, rtol=1e-12, atol=1e-12)
    W, b = head.linear()
    np.testing.assert_allclose(data.X_test @ W.T + b, want, rtol=1e-12, atol=1e-12)


def test_tau_zero_gives_the_weight_back(rng: np.random.Generator) -> None:
    data = cloud(rng)
    W, b = TauNorm(0, weight=data.W, bias=data.b).fit(data.X, data.y).linear()

    np.testing.assert_array_equal(W, data.W)
    assert not b.any()


def test_tau_one_gives_rows_of_norm_one(rng: np.random.Generator) -> None:
    data = cloud(rng)
    W, _ = TauNorm(1, weight=data.W).fit(data.X, data.y).linear()

    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, rtol=1e-15)


def test_a_row_of_zeros_stays_zero_at_every_tau(rng: np.random.Generator) -> None:
    data = cloud(rng)
    data.W[2] = 0
    for tau in (0, 0.5, 2):
        head = TauNorm(tau, weight=data.W).fit(data.X, data.y)
        assert not head.linear()[0][2].any()
        assert not head.decision_function(data.X_test)[:, 2].any()


def test_a_row_too_small_for_tau_is_named(rng: np.random.Generator) -> None:
    data = cloud(rng)
    W = data.W.astype(np.float32)
    W[1] = 1e-30

    with pytest.raises(ValueError, match=r"weight row 1 has norm 2\.2e-30: too small for tau=2"):
        TauNorm(2, weight=W).fit(data.X.astype(np.float32), data.y)


def test_lws_scores_scale_the_bias_too(rng: np.random.Generator, seed: int) -> None:
    data = cloud(rng)
    head = LearnableWeightScaling(weight=data.W, bias=data.b).fit(data.X, data.y)
    want = reference.lws_scores(data.X_test, data.W, data.b, head.scale_)

    assert np.ptp(head.scale_) > 0.01
    np.testing.assert_allclose(head.decision_function(data.X_test), want, rtol=1e-12, atol=1e-12)
    W, b = head.linear()
    np.testing.assert_allclose(data.X_test @ W.T + b, want, rtol=1e-11, atol=1e-11)


def test_lws_with_scale_one_is_stage_one(rng: np.random.Generator) -> None:
    data = cloud(rng)
    head = LearnableWeightScaling(weight=data.W, bias=data.b).fit(data.X, data.y)
    head.scale_ = np.ones_like(head.scale_)
    joint = JointClassifier(data.W, data.b).fit(data.X, data.y)

    np.testing.assert_array_equal(
        head.decision_function(data.X_test), joint.decision_function(data.X_test)
    )


def test_joint_takes_stage_one_as_it_is(rng: np.random.Generator) -> None:
    data = cloud(rng)
    head = JointClassifier(data.W, data.b).fit(data.X, data.y)

    np.testing.assert_array_equal(head.weight_, data.W)
    np.testing.assert_array_equal(head.bias_, data.b)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_objective_and_gradient(
    rng: np.random.Generator, seed: int, dtype: torch.dtype, rtol: float
) -> None:
    data = cloud(rng)
    want = reference.softmax_objective(data.X, data.y, data.W, data.b, 0.1)
    train = TrainingRows(torch.from_numpy(data.X).to(dtype), torch.from_numpy(data.y), 6)
    objective = SoftmaxObjective.on_features(train, natural(train), 0.1)
    W, b = torch.from_numpy(data.W), torch.from_numpy(data.b)

    value, gradient = objective.exactly(objective.point(W, b))

    for part, expected in zip((value, gradient[:, :-1], gradient[:, -1]), want, strict=True):
        np.testing.assert_allclose(part, expected, rtol=rtol, atol=rtol)


def test_softmax_error_survives_scores_of_any_size() -> None:
    scores = torch.tensor([[-1.25e5, -1.3e5], [3e4, 0.0], [0.0, 0.0]])

    losses, error = softmax_error(scores, torch.tensor([0, 1, 1]))

    np.testing.assert_allclose(losses, [0, 3e4, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(error, [[0, 0], [1, -1], [0.5, -0.5]], atol=1e-18)


@pytest.mark.parametrize("weight_decay", [5e-4, 1e-1])
def test_own_fit_is_at_the_minimum(
    rng: np.random.Generator, seed: int, weight_decay: float
) -> None:
    data = cloud(rng)
    head = JointClassifier(weight_decay=weight_decay).fit(data.X, data.y)
    _, dW, db = reference.softmax_objective(data.X, data.y, head.weight_, head.bias_, weight_decay)

    assert max(np.abs(dW).max(), np.abs(db).max()) < 2e-7


def test_own_fit_agrees_with_scikit_learn(rng: np.random.Generator) -> None:
    # scikit-learn leaves the intercept unpenalised, so it is made a feature here.
    data = cloud(rng)
    padded = np.hstack([data.X, np.ones((len(data.X), 1))])
    theirs = LogisticRegression(
        C=1 / (5e-3 * len(padded)), fit_intercept=False, tol=1e-10, max_iter=5000
    ).fit(padded, data.y)
    ours = JointClassifier(weight_decay=5e-3).fit(data.X, data.y)

    both = np.hstack([ours.weight_, ours.bias_[:, None]])
    np.testing.assert_allclose(both, theirs.coef_, atol=2e-4)


def test_float32_fit_agrees_with_float64(rng: np.random.Generator) -> None:
    data = cloud(rng)
    fine = JointClassifier().fit(data.X, data.y)
    coarse = JointClassifier().fit(data.X.astype(np.float32), data.y)

    assert coarse.weight_.dtype == np.float32
    values = [
        reference.softmax_objective(data.X, data.y, h.weight_.astype(float), h.bias_, 5e-4)[0]
        for h in (fine, coarse)
    ]
    assert values[1] - values[0] < 1e-5


@pytest.mark.parametrize("head", [JointClassifier(), TauNorm(), LearnableWeightScaling()])
def test_absent_classes_keep_their_row_of_stage_one(
    rng: np.random.Generator, head: JointClassifier
) -> None:
    data = cloud(rng)
    kept = ~np.isin(data.y, [0, 3])
    head.set_params(weight=data.W, bias=data.b).fit(data.X[kept], data.y[kept])

    np.testing.assert_array_equal(head.classes_, np.arange(6))
    assert head.decision_function(data.X_test).shape == (len(data.X_test), 6)
    if not isinstance(head, LearnableWeightScaling):  # which learns that nothing is 0 or 3
        assert {0, 3} & set(head.predict(data.X_test))


@pytest.mark.parametrize("head", [ClassifierRetraining("sgd"), LearnableWeightScaling("sgd")])
def test_training_is_repeatable_and_leaves_global_state_alone(
    rng: np.random.Generator, head: ClassifierRetraining
) -> None:
    data = cloud(rng)
    first = head.fit(data.X, data.y).decision_function(data.X_test)
    torch.rand(3)
    before, before_np = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    again = head.fit(data.X, data.y).decision_function(data.X_test)
    other = head.set_params(random_state=1).fit(data.X, data.y).decision_function(data.X_test)

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(before_np, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("name", ["un", "cl2n"])
def test_permuting_samples_and_classes(rng: np.random.Generator, name: str) -> None:
    from heads import NearestClassMean

    data = cloud(rng)
    order, rename = rng.permutation(len(data.X)), rng.permutation(6)
    for head in (NearestClassMean(name), JointClassifier(weight_decay=1e-2)):
        base = head.fit(data.X, data.y).decision_function(data.X_test)
        shuffled = head.fit(data.X[order], data.y[order]).decision_function(data.X_test)
        renamed = head.fit(data.X, rename[data.y]).decision_function(data.X_test)
        np.testing.assert_allclose(shuffled, base, atol=1e-4)
        np.testing.assert_allclose(renamed[:, rename], base, atol=1e-4)
