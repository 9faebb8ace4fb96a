"""Sampling by q and weighting of the loss: the samplers, the shares, and cRT under both solvers."""

from dataclasses import astuple

import numpy as np
import pytest
import torch

from heads import ClassifierRetraining
from heads.balancing import sampling
from heads.balancing.class_frequency import class_probabilities, effective_number
from heads.balancing.sampling import rows_by_q
from heads.balancing.weighting import class_shares, loss_factors
from heads.solvers import path as exact
from heads.solvers.rows import TrainingRows
from heads.solvers.sgd import plan_steps
from tests import reference
from tests.test_heads.data import cloud

GRID = [
    (0.0, "none"),
    (1.0, "none"),
    (0.5, "none"),
    (1.0, "class-balanced"),
    (1.0, "effective"),
    (-1.0, "effective"),
]
cases = pytest.mark.parametrize(("q", "weighting"), GRID)


@cases
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99])
def test_shares_are_those_of_the_definition(q: float, weighting: str, beta: float) -> None:
    counts = torch.tensor([300, 40, 0, 7, 1])

    got = class_shares(counts, q, weighting, beta)

    want = reference.class_shares(counts.tolist(), q, weighting, beta)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)
    mean = class_probabilities(counts.numpy(), q) @ loss_factors(counts, q, weighting, beta).numpy()
    assert mean == pytest.approx(1)


def test_effective_numbers_run_from_one_to_the_count() -> None:
    counts = torch.tensor([0, 1, 2, 1000])

    assert effective_number(counts, 0.5)[:3].tolist() == [0, 1, 1.5]
    assert effective_number(counts, 0).tolist() == [0, 1, 1, 1]
    np.testing.assert_allclose(effective_number(counts, 1 - 1e-12), counts)


@pytest.mark.parametrize("q", [-1e6, -3.0, 50.0, 1e6])
def test_probabilities_stay_finite_whatever_the_exponent(q: float) -> None:
    p = class_probabilities(np.array([100_000, 5, 0, 5]), q)

    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1)
    assert p[2] == 0
    assert p[1] == p[3]


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, -1.0])
def test_rows_are_drawn_by_the_probabilities_of_their_classes(
    rng: np.random.Generator, q: float
) -> None:
    y = rng.permutation(np.repeat([0, 2, 3], [60, 12, 3]))
    n = 40_000
    drawn = np.bincount(rows_by_q(y, q, n, 4, rng), minlength=len(y))

    p = class_probabilities(np.bincount(y), q)[y] / np.bincount(y)[y]
    assert (np.abs(drawn - n * p) < 5 * np.sqrt(n * p)).all()


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("few_at_once", [False, True])
def test_fewer_draws_are_the_first_of_more(
    q: float, few_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if few_at_once:
        monkeypatch.setattr(sampling, "_SHUFFLE_BITS", 2)  # shuffles are sorted four at a time
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 3, 7], [40, 11, 1, 4]))
    long = rows_by_q(y, q, 3000, 4, np.random.default_rng(3))

    for n in (1, 16, 17, 500, 2999):
        short = rows_by_q(y, q, n, 4, np.random.default_rng(3))
        np.testing.assert_array_equal(short, long[:n])
    if q == 0:
        reference.check_class_aware(long[:2992], y, 4)


def test_natural_sampling_takes_every_row_once_before_any_twice(rng: np.random.Generator) -> None:
    y = rng.integers(0, 3, size=50)
    rows = rows_by_q(y, 1, 150, 4, rng).reshape(3, 50)

    assert (np.sort(rows, axis=1) == np.arange(50)).all()
    assert not (rows[0] == rows[1]).all()


@cases
def test_the_exact_solver_is_at_the_optimum_of_its_weights(
    rng: np.random.Generator, seed: int, q: float, weighting: str
) -> None:
    data = cloud(rng)
    head = ClassifierRetraining(weight_decay=1e-2, q=q, weighting=weighting, beta=0.9)
    head.fit(data.X, data.y)

    weights = reference.class_shares(data.counts, q, weighting, 0.9) / data.counts
    _, dW, db = reference.weighted_softmax(data.X, data.y, head.weight_, head.bias_, weights, 0)
    assert np.abs(dW + 1e-2 * head.weight_).max() < 1e-6
    assert np.abs(db + 1e-2 * head.bias_).max() < 1e-6


def test_re_weighting_and_re_sampling_have_one_optimum(rng: np.random.Generator) -> None:
    data = cloud(rng)
    sampled, weighted, effective = (
        ClassifierRetraining(weight_decay=1e-2, **params).fit(data.X, data.y)
        for params in (
            {},
            {"q": 1.0, "weighting": "class-balanced"},
            {"q": 1.0, "weighting": "effective", "beta": 1 - 1e-12},
        )
    )

    np.testing.assert_allclose(weighted.weight_, sampled.weight_, atol=1e-6)
    np.testing.assert_allclose(effective.weight_, sampled.weight_, atol=1e-6)


@cases
def test_sgd_learns_what_autograd_learns(
    rng: np.random.Generator, q: float, weighting: str
) -> None:
    data = cloud(rng)
    params = {"q": q, "weighting": weighting, "beta": 0.9}
    head = ClassifierRetraining("sgd", batch=16, epochs=2, lr=0.05, **params).fit(data.X, data.y)
    draws = np.random.default_rng(0)
    steps_per_epoch, n_steps, _ = astuple(plan_steps(len(data.X), head._recipe()))
    theta = torch.from_numpy(draws.uniform(-1, 1, size=(6, 6)) / np.sqrt(5)).requires_grad_()
    rows = rows_by_q(data.y, q, n_steps * 16, 4, draws).reshape(-1, 16)
    p = data.counts**q / (data.counts**q).sum()
    factor = torch.from_numpy(reference.class_shares(data.counts, q, weighting, 0.9) / p)
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    sgd = torch.optim.SGD([theta], lr=0.05, momentum=0.9, weight_decay=5e-4)
    for step, batch in enumerate(rows):
        sgd.param_groups[0]["lr"] = head._recipe().rate(step // steps_per_epoch)
        sgd.zero_grad()
        losses = torch.nn.functional.cross_entropy(
            X[batch] @ theta[:, :5].T + theta[:, 5], y[batch], reduction="none"
        )
        (losses * factor[y[batch]]).mean().backward()
        sgd.step()

    np.testing.assert_allclose(head.weight_, theta.detach()[:, :5], rtol=1e-8)


@pytest.mark.parametrize(("q", "weighting"), GRID[:4])
def test_the_path_on_few_rows_keeps_the_shares_of_all(
    rng: np.random.Generator, q: float, weighting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "SMALL", 0)
    seen, plain = [], TrainingRows.loss_shares

    def spy(train: TrainingRows, class_shares: torch.Tensor | None = None) -> torch.Tensor:
        parts = plain(train, class_shares)
        seen.append(torch.bincount(train.y_idx, parts))
        return parts

    monkeypatch.setattr(TrainingRows, "loss_shares", spy)
    data = cloud(rng)
    ClassifierRetraining(q=q, weighting=weighting).fit_path(
        data.X, data.y, data.X_test, data.y_test, data.counts
    )

    assert len(seen) > 2
    for shares in seen:  # of the reduced problem's rows, and of all
        want = reference.class_shares(data.counts, q, weighting, 0.9999)
        np.testing.assert_allclose(shares.numpy(), want, rtol=1e-12)
