"""Heads that cycle through views of the same rows."""

import numpy as np
import pytest
import torch

from heads import ClassifierRetraining, LearnableWeightScaling
from heads.errors import HeadInputError
from heads.solvers.sgd import Recipe, plan_steps, sampled_rows
from tests.test_heads.data import cloud

HEADS = (ClassifierRetraining, LearnableWeightScaling)


def rows(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    found = cloud(rng, 3, 6)
    return found.X, found.y


def test_each_pass_over_the_rows_sees_the_next_view_and_draws_what_it_drew(
    rng: np.random.Generator,
) -> None:
    y = torch.from_numpy(np.repeat([0, 1, 2], [30, 12, 5]))
    plain, seen = Recipe(batch=8, epochs=3), Recipe(batch=8, epochs=3, n_views=4)
    plan = plan_steps(47, plain)
    assert plan_steps(4 * 47, seen) == plan

    base = sampled_rows(y, plain, plan, np.random.default_rng(1)).flatten()
    drawn = sampled_rows(y.repeat(4), seen, plan, np.random.default_rng(1)).flatten()

    for number, (row, place) in enumerate(zip(base.tolist(), drawn.tolist(), strict=True)):
        assert (place % 47, place // 47) == (row, number // 47 % 4)
    assert set((drawn // 47).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", HEADS)
def test_views_that_are_all_the_same_are_one(rng: np.random.Generator, kind: type) -> None:
    X, y = rows(rng)
    stage1 = {"weight": rng.normal(size=(3, 6)), "bias": np.zeros(3)}
    one = kind("sgd", **stage1).fit(X, y)
    three = kind("sgd", views=3, **stage1).fit(np.tile(X, (3, 1)), np.tile(y, 3))

    assert one.n_steps_ == three.n_steps_
    np.testing.assert_allclose(three.linear()[0], one.linear()[0], rtol=0, atol=1e-12)


def test_effective_numbers_count_an_image_once(rng: np.random.Generator) -> None:
    X, y = rows(rng)
    how = {"q": 1.0, "weighting": "effective", "beta": 0.9}
    one = ClassifierRetraining("sgd", **how).fit(X, y)
    two = ClassifierRetraining("sgd", views=2, **how).fit(np.tile(X, (2, 1)), np.tile(y, 2))
    np.testing.assert_allclose(two.weight_, one.weight_, rtol=0, atol=1e-12)


def test_the_exact_solver_weighs_all_views_alike(rng: np.random.Generator) -> None:
    X, y = rows(rng)
    other = X + rng.normal(size=X.shape)
    both, labels = np.concatenate([X, other]), np.tile(y, 2)
    told = ClassifierRetraining(weight_decay=0.1, views=2).fit(both, labels)
    untold = ClassifierRetraining(weight_decay=0.1).fit(both, labels)
    np.testing.assert_allclose(told.weight_, untold.weight_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_rows_that_are_no_views_of_each_other_are_refused(
    rng: np.random.Generator, kind: type
) -> None:
    X, y = rows(rng)
    with pytest.raises(
        HeadInputError, match="views=2 wants the same rows that often.*got 105 rows"
    ):
        kind("sgd", views=2).fit(X, y)
    with pytest.raises(HeadInputError, match="got 210 rows whose labels do not repeat"):
        kind("sgd", views=2).fit(np.tile(X, (2, 1)), np.concatenate([y, y[::-1]]))
    with pytest.raises(HeadInputError, match="'views'"):
        kind("sgd", views=-1).fit(X, y)
