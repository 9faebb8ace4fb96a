"""cRT and LWS by the paper's recipe: sampler, schedule, floor, and SGD against torch's."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from heads import ClassifierRetraining, JointClassifier, LearnableWeightScaling
from heads.balancing.sampling import class_aware_rows
from heads.metrics import evaluate
from heads.solvers.sgd import Plan, Recipe, descend_together, plan_steps, schedule_of
from tests import reference
from tests.test_heads.data import cloud


@pytest.mark.parametrize("per_class", [1, 3, 4])
@pytest.mark.parametrize("cycles", [1, 7])
def test_sampler_draws_classes_and_rows_in_shuffled_cycles(
    rng: np.random.Generator, seed: int, per_class: int, cycles: int
) -> None:
    y = rng.permutation(np.repeat([0, 1, 3, 7], [40, 11, 1, 4]))  # 2, 4, 5 and 6 have no rows
    rows = class_aware_rows(y, 4 * cycles * per_class, per_class, rng)

    reference.check_class_aware(rows, y, per_class)
    assert (np.bincount(y[rows])[[0, 1, 3, 7]] == cycles * per_class).all()


def test_sampler_stops_where_it_is_told(rng: np.random.Generator) -> None:
    y = np.array([0, 0, 1, 2])
    long, short = (class_aware_rows(y, n, 2, np.random.default_rng(3)) for n in (12, 11))

    assert len(short) == 11
    np.testing.assert_array_equal(short, long[:11])


def test_sampler_shuffles_uniformly(rng: np.random.Generator) -> None:
    # 4 rows of one class beside another class: each of the 24 orders about 1 in 24.
    y = np.array([0, 0, 0, 0, 1])
    rows = class_aware_rows(y, 2 * 4 * 24_000, 4, rng).reshape(-1, 4)
    orders = rows[y[rows[:, 0]] == 0] @ 10 ** np.arange(4)
    _, seen = np.unique(orders, return_counts=True)

    assert len(seen) == 24
    assert np.abs(seen / 1000 - 1).max() < 5 * np.sqrt(1 / 1000)  # 5 standard deviations


def test_first_class_of_a_cycle_is_uniform(rng: np.random.Generator) -> None:
    y = np.arange(5)
    first = class_aware_rows(y, 5 * 20_000, 1, rng).reshape(-1, 5)[:, 0]

    assert np.abs(np.bincount(first) / 4000 - 1).max() < 5 * np.sqrt(1 / 4000)


@pytest.mark.parametrize(
    ("n_rows", "epochs", "want"),
    [
        (115_846, 10, Plan(226, 2260, False)),  # ImageNet-LT: the paper's 226 steps an epoch
        (5120, 10, Plan(10, 100, False)),  # ten batches: not small
        (5119, 10, Plan(20, 200, True)),
        (600, 5, Plan(40, 200, True)),
        (100, 3, Plan(67, 201, True)),
        (600, 300, Plan(1, 300, False)),  # small, but asked for more than the floor
    ],
)
def test_steps_and_their_floor(n_rows: int, epochs: int, want: Plan) -> None:
    assert plan_steps(n_rows, Recipe(epochs=epochs)) == want


def test_fitted_heads_say_how_many_steps_they_took(rng: np.random.Generator) -> None:
    data = cloud(rng)
    crt = ClassifierRetraining("sgd").fit(data.X, data.y)
    lws = LearnableWeightScaling("sgd", batch=8).fit(data.X, data.y)

    assert (crt.n_steps_, crt.floored_) == (200, True)
    assert (lws.n_steps_, lws.floored_) == (5 * (len(data.X) // 8), False)


def test_rates_follow_half_a_cosine_from_the_full_rate() -> None:
    rates = [Recipe(lr=0.2, epochs=10).rate(epoch) for epoch in range(10)]

    np.testing.assert_allclose(rates[0], 0.2)
    np.testing.assert_allclose(rates[5], 0.1)
    np.testing.assert_allclose(rates[9], 0.1 * (1 + np.cos(0.9 * np.pi)))


def test_descent_is_that_of_torch(rng: np.random.Generator) -> None:
    recipe, plan = Recipe(lr=0.3, epochs=4, batch=2), Plan(5, 20, False)
    start = torch.from_numpy(rng.normal(size=6))
    batches = torch.from_numpy(rng.integers(0, 9, size=(20, 2)))
    targets = torch.from_numpy(rng.normal(size=(9, 6)))
    theirs = start.clone().requires_grad_()
    sgd = torch.optim.SGD([theirs], lr=0.3, momentum=0.9, weight_decay=5e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=4)
    for step, rows in enumerate(batches):
        sgd.zero_grad()
        ((theirs - targets[rows]) ** 2).sum(dim=1).mean().backward()
        sgd.step()
        if step % 5 == 4:
            cosine.step()
    ours = start.clone().view(1, 1, 6)  # one stream of one fit

    def gradient(params: Sequence[torch.Tensor], rows: torch.Tensor) -> list[torch.Tensor]:
        return [2 * (params[0] - targets[rows[0]].mean(dim=0))]

    descend_together([ours], gradient, batches.unsqueeze(1), schedule_of([[(recipe, plan)]], ours))

    torch.testing.assert_close(ours.view(6), theirs.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [3, 8])
def test_lws_learns_what_autograd_learns(rng: np.random.Generator, width: int) -> None:
    """With scores looked up (C <= D) and with scores recomputed (C > D)."""
    data = cloud(rng, width=width)
    head = LearnableWeightScaling("sgd", lr=0.01, batch=16, epochs=2, weight=data.W, bias=data.b)
    head.fit(data.X, data.y)
    recipe = head._recipe()
    plan = plan_steps(len(data.X), recipe)
    rows = class_aware_rows(data.y, plan.n_steps * 16, 4, np.random.default_rng(0))
    scale = torch.ones(6, dtype=torch.float64, requires_grad=True)
    X, y, W, b = (torch.from_numpy(part) for part in (data.X, data.y, data.W, data.b))
    sgd = torch.optim.SGD([scale], lr=0.01, momentum=0.9, weight_decay=5e-4)
    for step, batch in enumerate(rows.reshape(-1, 16)):
        sgd.param_groups[0]["lr"] = recipe.rate(step // plan.steps_per_epoch)
        sgd.zero_grad()
        scores = scale * (X[batch] @ W.T + b)
        torch.nn.functional.cross_entropy(scores, y[batch]).backward()
        sgd.step()

    np.testing.assert_allclose(head.scale_, scale.detach().numpy(), rtol=1e-6)


def test_crt_learns_what_autograd_learns(rng: np.random.Generator) -> None:
    data = cloud(rng)
    head = ClassifierRetraining("sgd", batch=16, epochs=2).fit(data.X, data.y)
    recipe, draws = head._recipe(), np.random.default_rng(0)
    plan = plan_steps(len(data.X), recipe)
    theta = torch.from_numpy(draws.uniform(-1, 1, size=(6, 6)) / np.sqrt(5)).requires_grad_()
    rows = class_aware_rows(data.y, plan.n_steps * 16, 4, draws)
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    sgd = torch.optim.SGD([theta], lr=0.2, momentum=0.9, weight_decay=5e-4)
    for step, batch in enumerate(rows.reshape(-1, 16)):
        sgd.param_groups[0]["lr"] = recipe.rate(step // plan.steps_per_epoch)
        sgd.zero_grad()
        scores = X[batch] @ theta[:, :5].T + theta[:, 5]
        torch.nn.functional.cross_entropy(scores, y[batch]).backward()
        sgd.step()

    np.testing.assert_allclose(head.weight_, theta.detach()[:, :5], rtol=1e-9)
    np.testing.assert_allclose(head.bias_, theta.detach()[:, 5], rtol=1e-9)


def test_crt_lifts_the_rare_classes() -> None:
    """On the mean of ten data sets: on one the classes may lie too far apart to differ."""
    few = np.zeros((10, 2))
    for index in range(10):
        data = cloud(np.random.default_rng(index), n_classes=6, width=8, n_max=300)
        for column, head in enumerate((JointClassifier(weight_decay=1e-2), ClassifierRetraining())):
            predicted = head.fit(data.X, data.y).predict(data.X_test)
            few[index, column] = evaluate(data.y_test, predicted, data.counts)["few"]

    joint, crt = few.mean(axis=0)
    assert crt > joint + 0.05


def test_divergence_is_said(rng: np.random.Generator) -> None:
    data = cloud(rng)

    with pytest.raises(ValueError, match="training diverged at lr=0.2: lower lr, or scale"):
        ClassifierRetraining("sgd").fit((data.X * 1e37).astype(np.float32), data.y)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            {"solver": "newton"},
            "'solver' parameter of ClassifierRetraining must be one of: exact, sgd",
        ),
        ({"lr": 0}, "'lr' parameter of .* must be a number above 0. Got 0 instead"),
        ({"lr": float("nan")}, "'lr' parameter .* Got nan"),
        ({"momentum": -1}, "'momentum' parameter .* of at least 0"),
        ({"batch": 2.5}, "'batch' parameter .* a whole number of at least 1. Got 2.5"),
        ({"epochs": True}, "'epochs' parameter .* Got True"),
        ({"per_class": 0}, "'per_class' parameter"),
        ({"random_state": -1}, "'random_state' parameter .* of at least 0. Got -1"),
    ],
)
def test_parameters_outside_their_range(params: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ClassifierRetraining(**{"solver": "sgd"} | params).fit(np.eye(4), [0, 0, 1, 1])
