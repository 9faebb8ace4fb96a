import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from heads import metrics
from tests import reference


def draws(rng: np.random.Generator, n_classes: int = 12) -> tuple[np.ndarray, ...]:
    y = rng.integers(0, n_classes, size=400)
    predicted = np.where(rng.random(400) < 0.6, y, rng.integers(0, n_classes, size=400))
    return y, predicted, rng.integers(1, 200, size=n_classes)


def test_groups_are_strict_at_both_thresholds() -> None:
    got = metrics.ShotGroups([101, 100, 20, 19, 0, 1280]).of_class

    assert got.tolist() == [0, 1, 1, 2, 2, 0]
    assert metrics.Shots(60, 20).groups([61, 60, 19]).tolist() == [0, 1, 2]


def test_metrics_agree_with_scikit_learn(rng: np.random.Generator, seed: int) -> None:
    y, predicted, counts = draws(rng)
    got = metrics.evaluate(y, predicted, counts)

    assert got["all"] == pytest.approx(balanced_accuracy_score(y, predicted), abs=1e-15)
    assert got["micro"] == pytest.approx(accuracy_score(y, predicted), abs=1e-15)
    assert got["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"), abs=1e-15)


def test_group_metrics_agree_with_the_definition(rng: np.random.Generator, seed: int) -> None:
    y, predicted, counts = draws(rng)
    y[y == 3] = 4  # a class without rows is left out, not counted as 0
    want = reference.shot_metrics(y, predicted, counts, 100, 20)

    got = metrics.evaluate(y, predicted, counts)

    assert {name: got[name] for name in want} == pytest.approx(want, abs=1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn says that class 3 was predicted
        assert got["all"] == pytest.approx(balanced_accuracy_score(y, predicted))
        assert got["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))


def test_a_group_without_classes_is_none_and_never_zero() -> None:
    got = metrics.evaluate([0, 1, 0], [1, 0, 1], [50, 5, 500])

    assert got["many"] is None  # class 2 has no rows
    assert got["medium"] == 0
    assert got["few"] == 0
    assert metrics.confidence_interval([0, 1], [0, 1], [50, 5])["many"] is None


def test_absent_classes_are_those_that_all_is_no_mean_over() -> None:
    labels = np.array([4, 1, 1, 4])

    absent = metrics.absent_classes(labels, 6)
    assert absent.tolist() == [0, 2, 3, 5]
    assert metrics.absent_classes([0, 1, 2], 3).tolist() == []
    with pytest.raises(ValueError, match=r"label 6 \(row 1\) is outside 0\.\.5"):
        metrics.absent_classes([0, 6], 6)
    with pytest.raises(ValueError, match="with n >= 1"):
        metrics.absent_classes([], 6)


def test_intervals_are_those_of_resampled_rows(rng: np.random.Generator) -> None:
    y, predicted, counts = draws(rng)
    resampled = []
    for _ in range(2000):
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(y == c), size=(y == c).sum() - 1) for c in range(12)]
        )
        resampled.append(metrics.evaluate(y[rows], predicted[rows], counts))
    got = metrics.confidence_interval(y, predicted, counts, draws=2000)

    for name in ("all", *metrics.GROUPS, "micro"):
        values = np.array([drawn[name] for drawn in resampled])
        want = np.percentile(values, [2.5, 97.5])
        np.testing.assert_allclose(got[name], want, atol=0.2 * values.std() + 1e-12)


def test_intervals_repeat_with_their_seed_and_hold_the_value(rng: np.random.Generator) -> None:
    y, predicted, counts = draws(rng)
    first, again = (metrics.confidence_interval(y, predicted, counts, seed=5) for _ in range(2))
    value = metrics.evaluate(y, predicted, counts)["all"]

    assert first == again
    assert first != metrics.confidence_interval(y, predicted, counts, seed=6)
    assert first["all"] is not None
    assert first["all"][0] < value < first["all"][1]


@pytest.mark.parametrize(
    ("y", "predicted", "words"),
    [
        ([0, 3], [0, 1], r"label 3 \(row 1\) is outside 0\.\.2"),
        ([0, 1], [-1, 1], r"prediction -1 \(row 0\) is outside 0\.\.2"),
        ([], [], r"labels \(0,\) and predictions \(0,\) must be \(n,\) with n >= 1"),
        ([0, 1], [0], r"labels \(2,\) and predictions \(1,\)"),
        (["a"], [0], r"labels must be class numbers 0\.\.2; got dtype <U1"),
        ([0.5], [0], r"label 0\.5 \(row 0\) is no whole number in 0\.\.2"),
        ([0, np.nan], [0, 0], r"label nan \(row 1\) is no whole number in 0\.\.2"),
        ([0, np.inf], [0, 0], r"label inf \(row 1\) is outside 0\.\.2"),
    ],
)
def test_labels_that_do_not_fit_are_named(y: list, predicted: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metrics.evaluate(y, predicted, [5, 5, 5])
