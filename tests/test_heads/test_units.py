"""Heads on features in tiny units or far from the origin: as good as elsewhere, or a warning."""

import warnings

import numpy as np
import pytest
import torch

from heads import (
    BalancedSoftmax,
    ClassifierRetraining,
    JointClassifier,
    LearnableWeightScaling,
    LogitAdjustment,
    NearestClassMean,
    TauNorm,
)
from heads.estimators.base import Head

N_CLASSES, WIDTH = 8, 16
UNITS = [(1.0, 0.0), (1e-6, 0.0), (1e8, 0.0), (1.0, 1e4), (1e-6, 1.0)]
EXACT = [
    JointClassifier,
    LogitAdjustment,
    LearnableWeightScaling,
    ClassifierRetraining,
    BalancedSoftmax,
]


def rows(each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(7).normal(size=(N_CLASSES, WIDTH))
    y = np.repeat(np.arange(N_CLASSES), each)
    return means[y] + 0.7 * rng.normal(size=(len(y), WIDTH)), y


def accuracy(head: Head, unit: float, offset: float, dtype: str) -> float:
    (X, y), (T, t) = rows(40, 0), rows(50, 1)
    head.fit((unit * X + offset).astype(dtype), y)
    return float((head.predict((unit * T + offset).astype(dtype)) == t).mean())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("unit", "offset"), UNITS)
@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
def test_the_cosine_tells_classes_far_from_the_origin(
    transform: str, unit: float, offset: float, dtype: str
) -> None:
    assert accuracy(NearestClassMean(transform, "cosine"), unit, offset, dtype) > 0.95
    unit_means = NearestClassMean(transform, "dot", centroids="unit")
    assert accuracy(unit_means, unit, offset, dtype) > 0.95
    assert accuracy(NearestClassMean(transform), unit, offset, dtype) > 0.95


def test_near_ties_of_the_cosine_are_told_in_float64() -> None:
    (X, y), (T, _) = rows(40, 0), rows(50, 1)
    X, T = (torch.from_numpy(part + 3e4).float() for part in (X, T))
    head = NearestClassMean("un", "cosine").fit(X, y)
    exactly = NearestClassMean("un", "cosine").fit(X.double(), y)

    assert float((head.predict(T) == exactly.predict(T.double())).double().mean()) > 0.99


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("unit", "offset"), [(1.0, 100.0), (1e-6, 1.0), (1e3, 1e6)])
def test_inner_products_that_cannot_tell_the_classes_are_named(
    unit: float, offset: float, dtype: str
) -> None:
    with pytest.warns(UserWarning, match=r"metric='dot': .* hardly tell the classes: use trans"):
        found = accuracy(NearestClassMean("un", "dot"), unit, offset, dtype)
    assert found < 0.5
    assert accuracy(NearestClassMean("cl2n", "dot"), unit, offset, dtype) > 0.95


def test_inner_products_of_rows_of_one_norm_are_named_where_float32_loses_them() -> None:
    head = NearestClassMean("l2n", "dot")
    assert accuracy(head, 1.0, 1e4, "float64") > 0.95
    assert accuracy(head, 1.0, 100.0, "float32") > 0.95
    with pytest.warns(UserWarning, match="hardly tell the classes"):
        accuracy(head, 1.0, 1e4, "float32")
    with pytest.warns(UserWarning, match="class means are all the same"):
        NearestClassMean("un", "dot").fit(np.ones((4, 2)), [0, 0, 1, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("unit", "offset"), UNITS)
@pytest.mark.parametrize("kind", EXACT)
def test_exact_heads_need_no_scaling(kind: type, unit: float, offset: float, dtype: str) -> None:
    with warnings.catch_warnings():
        if (unit, offset) == (1e-6, 1.0) and dtype == "float32":  # seven digits hold only one
            warnings.simplefilter("ignore")
        assert accuracy(kind(), unit, offset, dtype) > (0.4 if offset == 1 else 0.95)


@pytest.mark.parametrize(("unit", "offset"), [(1e-6, 0.0), (1e8, 0.0), (1.0, 1e4)])
def test_the_recipe_names_features_that_its_rate_does_not_fit(unit: float, offset: float) -> None:
    with pytest.warns(UserWarning, match="solver='sgd' takes steps for features of a usual size"):
        accuracy(ClassifierRetraining("sgd"), unit, offset, "float32")
    assert accuracy(ClassifierRetraining("sgd"), 1.0, 0.0, "float32") > 0.95


def test_tau_norm_says_where_the_bias_was_needed() -> None:
    with pytest.warns(UserWarning, match="drops the bias, without which .* tells"):
        accuracy(TauNorm(), 1e-3, 1.0, "float32")
    assert accuracy(TauNorm(keep_bias=True, tau=0), 1e-3, 1.0, "float32") > 0.95
    assert accuracy(TauNorm(), 1.0, 0.0, "float32") > 0.9
