"""Labels of any kind mean the same everywhere: in a fit, on a path, in a choice, on a curve."""

from typing import Any

import numpy as np
import pytest
import torch

import heads
from heads import metrics
from heads.curves.curve import exact_adjust_curve, exact_tau_curve
from heads.curves.sweep import choose, tau_curve
from heads.metrics import calibration
from tests.test_heads.data import cloud

PATHS = (heads.ClassifierRetraining, heads.BalancedSoftmax)
# What stands for the classes 0..5, in an order that sorting keeps.
NAMES: dict[str, Any] = {
    "from one": np.arange(1, 7),
    "negative": np.array([-9, -4, -1, 0, 2, 70]),
    "far apart": np.array([3, 5, 10**12, 10**13, 2**60, 2**62]),
    "strings": np.array(["ant", "bee", "cat", "fox", "owl", "yak"]),
    "objects": np.array(["ant", "bee", "cat", "fox", "owl", "yak"], dtype=object),
    "floats": np.array([0.0, 1, 2, 3, 4, 5]),
    "unsigned": np.arange(10, 16, dtype=np.uint8),
}
kinds = pytest.mark.parametrize("kind", NAMES)


def path(head: Any, data: Any, names: Any, counts: Any = None) -> tuple[list[float], Any]:
    """Follow the path with classes named, and return what it says with the head's predictions."""
    counts = data.counts if counts is None else counts
    tried = head.fit_path(data.X, names[data.y], data.X_test, names[data.y_test], counts)
    return [point.metrics["all"] for point in tried], head.predict(data.X_test)


@kinds
@pytest.mark.parametrize("head", PATHS)
def test_names_of_classes_change_nothing_on_the_path(
    rng: np.random.Generator, head: type, kind: str
) -> None:
    data, names = cloud(rng), NAMES[kind]
    plain, want = path(head(), data, np.arange(6))
    named, got = path(chosen := head(), data, names)

    assert named == plain
    np.testing.assert_array_equal(got, names[want])
    assert chosen.classes_.tolist() == names.tolist()


@pytest.mark.parametrize("head", PATHS)
@pytest.mark.parametrize("missing", [[0], [1], [5], [2, 3]], ids=str)
def test_a_class_without_training_rows_is_wrong_on_the_path_where_counts_know_it(
    rng: np.random.Generator, head: type, missing: list[int]
) -> None:
    data = cloud(rng, width=3)
    kept = ~np.isin(data.y, missing)
    X, y = data.X[kept], data.y[kept]
    counts = np.bincount(y, minlength=6)
    decay = [0.1]
    tried = head().fit_path(X, y, data.X_test, data.y_test, counts, weight_decays=decay)

    alone = head(weight_decay=0.1).fit(X, y)
    want = metrics.evaluate(data.y_test, alone.predict(data.X_test), counts)
    assert tried[0].metrics == pytest.approx(want, abs=0.03)
    known = ~np.isin(data.y_test, missing)
    rows = data.X_test[known], data.y_test[known]
    named = head().fit_path(X, y, *rows, counts[counts > 0], weight_decays=decay)
    share = (6 - len(missing)) / 6
    assert tried[0].metrics["all"] == pytest.approx(named[0].metrics["all"] * share)


@pytest.mark.parametrize(
    ("train", "val", "counts", "words"),
    [
        ([10, 10, 11, 11], [0, 1], [2, 2], r"label 0 \(row 0\) is not among the 2 classes of the"),
        ([0, 0, 1, 1], [0, 2], [2, 2], r"label 2 \(row 1\) is outside 0\.\.1"),
        ([0, 0, 2, 2], [0, 3], [2, 0, 2], r"label 3 \(row 1\) is outside 0\.\.2"),
        ([0, 0, 2, 2], [0, -1], [2, 0, 2], r"label -1 \(row 1\) is outside 0\.\.2"),
        ([0, 0, 2, 2], [0, 1], [2, 2], r"label 1 \(row 1\) is not among the 2 classes of the fit"),
        ([1, 1, 2, 2], [1, 2], [2, 2, 2, 2, 2], None),
        ([1, 1, 5, 5], [1, 5], [2, 2, 2], r"counts has 3 classes, but the labels have 2"),
        (["a", "a", "b", "b"], ["a", "c"], [2, 2], r"label c \(row 1\) is not among the 2 classes"),
        (["a", "a", "b", "b"], [0, 1], [2, 2], r"label 0 \(row 0\) is not among the 2 classes"),
        (["1", "1", "2", "2"], [1, 2], [2, 2], r"label 1 \(row 0\) is not among the 2 classes"),
        ([1, 1, 2, 2], ["1", "2"], [2, 2], r"label 1 \(row 0\) is not among the 2 classes"),
        (["a", "a", "b", "b"], ["a", "b"], [2, 2, 1], r"counts has 3 classes, but the labels have"),
        ([0, 0, 1, 1], [0.5, 1], [2, 2], r"label 0\.5 \(row 0\) is no whole number"),
        ([1, 1, 2, 2], [np.nan, 1], [2, 2], r"label nan \(row 0\) is not among"),
        ([0, 0, 1, 1], [0, 1, 1], [2, 2], r"2 rows of X_val for labels y_val of shape \(3,\)"),
        ([0, 0, 1, 1], [0, 1], [2, -2], "counts must hold a number of rows"),
        ([0, 0, 1, 1], [0, 1], [2, np.nan], "counts must hold a number of rows"),
    ],
)
@pytest.mark.parametrize("head", PATHS)
def test_val_labels_that_are_no_class_are_named(
    head: type, train: list, val: list, counts: list, words: str | None
) -> None:
    X, X_val = np.eye(4), np.eye(4)[:2]
    if words is None:
        head().fit_path(X, train, X_val, val, counts)
        return
    with pytest.raises(ValueError, match=words):
        head().fit_path(X, train, X_val, val, counts)


@pytest.mark.parametrize(
    ("X_val", "words"),
    [
        (np.ones((2, 3)), "X has 3 features, but .* is expecting 4 features"),
        (np.full((2, 4), np.nan), "contains NaN"),
        (torch.full((2, 4), torch.inf), "contains infinity"),
        (np.ones(4), "Expected 2D array"),
        (np.ones((0, 4)), r"Found array with 0 sample\(s\)"),
    ],
)
def test_val_features_that_do_not_fit_are_refused(X_val: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        heads.ClassifierRetraining().fit_path(np.eye(4), [0, 0, 1, 1], X_val, [0, 1], [2, 2])


def test_a_path_of_arrays_and_none_for_sgd(rng: np.random.Generator) -> None:
    data = cloud(rng)
    splits = (data.X, data.y, data.X_test, data.y_test, data.counts)
    tried = heads.ClassifierRetraining().fit_path(*splits, weight_decays=np.array([0.01, 0.1]))

    assert [point.weight_decay for point in tried] == [0.1, 0.01]
    with pytest.raises(ValueError, match="needs solver='exact'"):
        heads.ClassifierRetraining("sgd").fit_path(*splits)


@kinds
def test_metrics_and_curves_take_the_classes_of_a_head(rng: np.random.Generator, kind: str) -> None:
    data, names = cloud(rng), NAMES[kind]
    head = heads.JointClassifier().fit(data.X, names[data.y])
    predicted, true = head.predict(data.X_test), names[data.y_test]
    known = {"classes": head.classes_}
    places = np.searchsorted(names, predicted)

    for measure in (metrics.evaluate, metrics.confidence_interval):
        got = measure(true, predicted, data.counts, **known)
        assert got == measure(data.y_test, places, data.counts)
    W, b = head.weight_, head.bias_
    rows, plain = (data.X_test, true, data.counts), (data.X_test, data.y_test, data.counts)
    assert tau_curve(W, *rows, taus=[0, 1], **known) == tau_curve(W, *plain, taus=[0, 1])
    for curve, want in (
        (exact_tau_curve(W, *rows, **known), exact_tau_curve(W, *plain)),
        (exact_adjust_curve(W, b, *rows, **known), exact_adjust_curve(W, b, *plain)),
    ):
        np.testing.assert_array_equal(curve.first, want.first)
        assert curve.at(0.5) == want.at(0.5)


def test_curves_name_what_they_cannot_take(rng: np.random.Generator) -> None:
    data = cloud(rng)
    rows = (data.X_test, data.y_test + 1, data.counts)
    for make in (exact_tau_curve, lambda W, *rest: tau_curve(W, *rest, taus=[1.0])):
        with pytest.raises(ValueError, match=r"whole numbers in 0\.\.5, .* 6 .* outside 0\.\.5"):
            make(data.W, *rows)
    with pytest.raises(ValueError, match="classes has 5 labels, but weight has 6"):
        exact_tau_curve(data.W, *rows, classes=np.arange(5))
    curve = exact_tau_curve(data.W, *rows, classes=np.arange(1, 7))
    for metric in ("alle", "class x", "class -1"):
        with pytest.raises(ValueError, match="metric must be one of: all, many"):
            curve.maximum(metric)
    for prior in (np.zeros(6), -data.counts, np.full(6, np.nan), data.counts[:5]):
        with pytest.raises(ValueError, match="the prior must hold a number"):
            exact_adjust_curve(data.W, data.b, data.X_test, data.y_test, data.counts, prior=prior)
    with pytest.raises(ValueError, match="metric must be one of: tau, all"):
        choose(tau_curve(data.W, data.X_test, data.y_test, data.counts, taus=[0.0]), "alle")


@pytest.mark.parametrize("y", [[0, 1, 3], [0, -1, 1], ["a", "b", "c"], [0, 0.5, 1], [0, 1]])
def test_calibration_refuses_labels_that_are_no_columns(y: list) -> None:
    for measure in (calibration.confidence_and_nll, calibration.fit_temperature):
        with pytest.raises(ValueError, match=r"label|scores"):
            measure(np.eye(3), np.array(y))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_calibration_refuses_scores_that_are_not_finite(bad: float) -> None:
    scores = np.eye(3)
    scores[1, 2] = bad
    for measure in (calibration.confidence_and_nll, calibration.fit_temperature):
        with pytest.raises(ValueError, match="scores must be finite"):
            measure(scores, [0, 1, 2])


@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.inf, "x", True])
def test_a_temperature_is_a_number_above_zero(temperature: Any) -> None:
    with pytest.raises(ValueError, match="'temperature'"):
        calibration.confidence_and_nll(np.eye(3), [0, 1, 2], temperature)
