"""Probabilities of heads, and the temperature that makes them honest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

import heads

HEADS: list[Any] = [
    heads.NearestClassMean(),
    heads.NearestClassMean(metric="cosine"),
    heads.NearestClassMean(transform="un", metric="dot"),
    heads.TauNorm(tau=0.7),
    heads.LogitAdjustment(),
    heads.LearnableWeightScaling(),
    heads.ClassifierRetraining(),
    heads.JointClassifier(),
    heads.BalancedSoftmax(),
]


def rows(seed: int, n: int, n_classes: int = 4) -> tuple[Any, Any]:
    """Overlapping classes: a confident head is often wrong."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(n_classes, 8))
    y = rng.integers(0, n_classes, n)
    return (centres[y] + 1.5 * rng.normal(size=(n, 8))).astype(np.float32), y


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_probabilities_are_the_softmax_of_scores_at_the_temperature(head: Any) -> None:
    X, y = rows(1, 300)
    head.fit(X, y)
    assert head.temperature == 1
    head.calibrate(*rows(2, 200))
    scores = head.decision_function(X).astype(np.float64) / head.temperature
    want = np.exp(scores - scores.max(axis=1, keepdims=True))
    want /= want.sum(axis=1, keepdims=True)
    assert head.predict_proba(X) == pytest.approx(want, abs=2e-6)
    assert np.exp(head.predict_log_proba(X)) == pytest.approx(want, abs=2e-6)
    assert (head.classes_[head.predict_proba(X).argmax(axis=1)] == head.predict(X)).all()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_temperature_minimises_log_loss(n_classes: int) -> None:
    """scikit-learn measures the loss, and scipy looks for its minimum."""
    X, y = rows(1, 300, n_classes)
    head = heads.JointClassifier().fit(X, y)
    X_val, y_val = rows(2, 400, n_classes)
    head.calibrate(X_val, y_val)

    def loss(log_temperature: float) -> float:
        head.temperature_ = float(np.exp(log_temperature))
        shares = head.predict_proba(X_val.astype(np.float64))
        return float(log_loss(y_val, shares, labels=range(n_classes)))

    fitted = head.temperature
    best = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-8})
    assert fitted == pytest.approx(np.exp(best.x), rel=1e-3)


def test_the_temperature_is_saved_and_a_new_fit_forgets_it(tmp_path: Path) -> None:
    X, y = rows(1, 300)
    head = heads.ClassifierRetraining().fit(X, y).calibrate(*rows(2, 200))
    head.save(tmp_path / "crt.head")
    again = heads.load(tmp_path / "crt.head")
    assert again.temperature == head.temperature != 1
    assert np.array_equal(again.predict_proba(X), head.predict_proba(X))
    assert head.fit(X, y).temperature == 1


def test_tensors_give_tensors() -> None:
    X, y = rows(1, 300)
    head = heads.TauNorm().fit(torch.from_numpy(X), torch.from_numpy(y))
    found = head.predict_proba(torch.from_numpy(X))
    assert isinstance(found, torch.Tensor)
    assert found.sum(dim=1).tolist() == pytest.approx([1.0] * len(X))


def test_rows_of_classes_that_the_head_does_not_know_are_left_out() -> None:
    X, y = rows(1, 300)
    X_val, y_val = rows(2, 200)
    known = y_val < 3
    some = heads.JointClassifier().fit(X[y < 3], y[y < 3])
    assert some.calibrate(X_val, y_val).temperature == pytest.approx(
        heads.JointClassifier()
        .fit(X[y < 3], y[y < 3])
        .calibrate(X_val[known], y_val[known])
        .temperature
    )
    with pytest.raises(heads.errors.HeadInputError, match="no row has a class"):
        some.calibrate(X_val[~known], y_val[~known])


def test_rows_that_are_all_right_tell_no_temperature() -> None:
    """The likelihood would grow without end, and the head would call everything certain."""
    X = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    y = np.repeat(np.arange(4), 5)
    head = heads.JointClassifier().fit(X, y)
    with pytest.raises(heads.errors.HeadInputError, match="right on every row"):
        head.calibrate(X, y)
    assert head.temperature == 1
