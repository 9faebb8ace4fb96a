"""Intervals and tests where classes are all right or all wrong: exact ones, and trials."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binomtest

from heads import metrics
from heads.metrics import bootstrap
from heads.metrics.unseen import furthest, unseen, unseen_apart

TAIL = 0.025


def exact(right: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's interval."""
    found = binomtest(right, n).proportion_ci(method="exact")
    return found.low, found.high


def of_hits(hits: list[int], sizes: list[int], **params: Any) -> dict[str, Any]:
    """Return the intervals of classes that all are few, with so many rows right."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    place = np.concatenate([np.arange(n) for n in sizes])
    predicted = np.where(place < np.array(hits)[y], y, (y + 1) % len(sizes))
    return metrics.confidence_interval(y, predicted, [5] * len(sizes), **params)


@pytest.mark.parametrize("sizes", [[10, 3], [5, 5], [1, 1, 8], [40, 2, 9]], ids=str)
def test_rows_that_are_all_right_or_all_wrong_have_the_exact_interval(sizes: list[int]) -> None:
    n = sum(sizes)

    assert of_hits(sizes, sizes)["micro"] == pytest.approx(exact(n, n))
    assert of_hits([0] * len(sizes), sizes)["micro"] == pytest.approx(exact(0, n))
    for level in (0.5, 0.9):
        low, high = of_hits(sizes, sizes, level=level)["micro"]
        assert low == pytest.approx(((1 - level) / 2) ** (1 / n))
        assert high == 1


@pytest.mark.parametrize("right", [0, 1, 6, 10, 12])
def test_a_single_class_has_the_exact_interval(right: int) -> None:
    y = np.repeat([0, 1], [12, 3])
    predicted = np.where(np.arange(15) < right, y, 1 - y)
    found = metrics.confidence_interval(y, predicted, [200, 5])

    assert found["many"] == pytest.approx(exact(right, 12))
    assert found["few"] == pytest.approx(exact(0, 3))


@pytest.mark.parametrize("draw", range(5))
def test_the_furthest_is_that_of_a_general_optimiser(draw: int) -> None:
    rng = np.random.default_rng(draw)
    gains, rows = rng.uniform(0.05, 1, 6), rng.integers(1, 30, 6)
    gains[draw % 6] = 0  # a class that changes nothing
    found = minimize(
        lambda p: (gains * p).sum() - gains.sum(),
        np.full(6, 0.99),
        bounds=[(1e-6, 1)] * 6,
        constraints={"type": "ineq", "fun": lambda p: (rows * np.log(p)).sum() - np.log(TAIL)},
    )

    assert furthest(gains, rows, TAIL) == pytest.approx(-found.fun, rel=1e-4)
    assert furthest(gains[:0], rows[:0], TAIL) == 0


def test_a_class_that_is_all_right_widens_the_interval_downwards_alone() -> None:
    right = np.array([True] * 6 + [True, False] * 20)
    y = np.repeat([0, 1], [6, 40])
    groups = np.full(2, 2, np.int8)
    drawn = bootstrap.resample(right[:, None], y, groups)["all"][:, 0]
    plain = bootstrap.interval(drawn)
    low, high = bootstrap.interval(drawn, value=0.75, unseen=unseen(right, y, groups)["all"])

    assert high == plain[1]
    hidden = (1 - TAIL ** (1 / 6)) / 2
    assert 0.75 - low == pytest.approx(np.hypot(0.75 - plain[0], hidden))


def test_where_every_class_varies_intervals_are_the_percentiles(rng: np.random.Generator) -> None:
    y, groups = np.repeat(np.arange(5), 40), np.full(5, 1, np.int8)
    right = rng.random(200) < 0.6
    drawn = bootstrap.resample(right[:, None], y, groups)["all"][:, 0]
    hidden = unseen(right, y, groups)["all"]

    assert hidden == (0, 0, False)
    value = np.mean([right[y == c].mean() for c in range(5)])
    assert bootstrap.interval(drawn, value=value, unseen=hidden) == bootstrap.interval(drawn)


SMALL = [[5, 5], [10], [2, 2, 2], [1] * 20, [5, 50], [10] * 4, [50] * 10, [10] * 100]


@pytest.mark.parametrize("sizes", SMALL, ids=lambda sizes: f"{len(sizes)}x{sizes[-1]}")
@pytest.mark.parametrize("truth", [0.5, 0.9, 0.99])
def test_intervals_of_small_classes_hold_the_truth(sizes: list[int], truth: float) -> None:
    rng, experiments = np.random.default_rng(0), 400
    y, groups = np.repeat(np.arange(len(sizes)), sizes), np.full(len(sizes), 2, np.int8)
    right = rng.random((len(y), experiments)) < truth
    drawn = bootstrap.resample(right, y, groups, draws=400)["few"]
    held, wide = 0, 0
    for k in range(experiments):
        shares = [right[y == c, k].mean() for c in range(len(sizes))]
        hidden = unseen(right[:, k], y, groups)["few"]
        low, high = bootstrap.interval(drawn[:, k], value=float(np.mean(shares)), unseen=hidden)
        held += low - 1e-9 <= truth <= high + 1e-9
        wide += high > low

    assert wide == experiments
    assert held / experiments >= 0.93


def compared(one: Any, other: Any, y: Any) -> tuple[list[float], float]:
    """Return the paired interval and p of two masks (n,)."""
    groups = np.full(y.max() + 1, 2, np.int8)
    drawn = bootstrap.resample(np.stack([one, other], axis=1), y, groups, draws=300)["all"]
    value = [np.mean([mask[y == c].mean() for c in np.unique(y)]) for mask in (one, other)]
    apart = np.subtract(one, other, dtype=np.int64)
    hidden = unseen(apart, y, groups, bounds=(-1, 1))["all"]
    return bootstrap.difference(float(value[0] - value[1]), drawn[:, 0], drawn[:, 1], unseen=hidden)


def test_two_heads_that_agree_on_every_row_may_still_differ(rng: np.random.Generator) -> None:
    y = np.repeat([0, 1], 5)
    ends, p = compared(np.ones(10, bool), np.ones(10, bool), y)
    same, _ = compared(mask := rng.random(1000) < 0.7, mask, np.repeat([0, 1], 500))

    assert ends == pytest.approx([-(1 - exact(10, 10)[0]), 1 - exact(10, 10)[0]])
    assert p == 1
    assert same == pytest.approx([-exact(0, 1000)[1], exact(0, 1000)[1]])


@pytest.mark.parametrize("n", [4, 10, 100])
def test_all_right_against_all_wrong_is_no_chance_where_rows_are_many(n: int) -> None:
    y = np.repeat([0, 1], n // 2)
    ends, p = compared(np.ones(n, bool), np.zeros(n, bool), y)
    turned, again = compared(np.zeros(n, bool), np.ones(n, bool), y)

    assert ends[1] == 1
    assert -1 <= ends[0] < 1
    assert turned == pytest.approx([-ends[1], -ends[0]])
    assert p == again
    assert (p < 0.05) == (ends[0] > 0) == (n >= 10)


def test_a_difference_on_other_rows_adds_what_both_hide() -> None:
    y, groups = np.repeat([0, 1], 5), np.full(2, 2, np.int8)
    perfect, none = (unseen(np.full(10, share), y, groups)["all"] for share in (1, 0))
    hidden = 1 - TAIL ** (1 / 10)

    assert unseen_apart(perfect, perfect) == pytest.approx((hidden, hidden, False))
    assert unseen_apart(perfect, none) == pytest.approx((hidden * 2**0.5, 0, False))
    ends, p = bootstrap.difference(
        1.0, np.ones(50), np.zeros(50), paired=False, unseen=unseen_apart(perfect, none)
    )
    assert ends == pytest.approx([1 - hidden * 2**0.5, 1])
    assert p < 1e-5


@pytest.mark.parametrize(("classes", "rows"), [(2, 10), (4, 10), (10, 50)])
def test_equal_heads_that_are_nearly_perfect_seldom_seem_to_differ(classes: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(classes), rows)
    alarms = [
        compared(*(rng.random((2, len(y))) < 0.95), y)[1] < 0.05 for _ in range(200)
    ]  # fmt: skip

    assert np.mean(alarms) <= 0.07
