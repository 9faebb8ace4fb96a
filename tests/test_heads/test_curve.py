"""Exact curves against brute force, in float64 with ties made equal, and against the heads."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import heads._arrays
from heads import TauNorm
from heads.curves._intervals import best_column, bounded_intervals, pairwise_intervals
from heads.curves.curve import exact_adjust_curve, exact_tau_curve, samples, widest_top
from heads.curves.families import AdjustLines, TauLines, log_prior
from heads.curves.sweep import tau_curve
from heads.metrics import evaluate
from tests import reference
from tests.test_heads.data import cloud

GRID = [round(0.05 * step, 2) for step in range(41)]


def assert_same(
    curve: object,
    W: NDArray,
    b: object,
    X: NDArray,
    y: NDArray,
    n_c: NDArray,
    taus: list[float] = GRID,
) -> None:
    """The curve's metrics are those of exact arithmetic at every point of the grid."""
    for tau in taus:
        if b is None:
            predicted = reference.tau_winners(X, W, tau)
        else:
            predicted = reference.adjusted_winners(X, W, b, n_c, tau)
        want = evaluate(y, predicted, n_c)
        got = curve.at(tau)
        assert got == {key: want[key] for key in got}, tau


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("n_classes", [6, 100])
def test_curves_are_brute_force_at_every_point(
    rng: np.random.Generator, seed: int, dtype: str, n_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads._arrays, "_BLOCK_ELEMENTS", 7000)
    data = cloud(rng, n_classes)
    X, W, b = (part.astype(dtype).astype("float64") for part in (data.X_test, data.W, data.b))
    given = X.astype(dtype)

    tau = exact_tau_curve(W.astype(dtype), given, data.y_test, data.counts)
    adjust = exact_adjust_curve(W.astype(dtype), b.astype(dtype), given, data.y_test, data.counts)

    assert_same(tau, W, None, X, data.y_test, data.counts)
    assert_same(adjust, W, b, X, data.y_test, data.counts)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "torch"])
def test_the_curve_the_grid_and_the_head_agree(
    rng: np.random.Generator, seed: int, dtype: str
) -> None:
    data = cloud(rng, 40, 5, 200)
    X = data.X_test.astype("float32" if dtype == "torch" else dtype)
    X = torch.from_numpy(X) if dtype == "torch" else X
    curve = exact_tau_curve(data.W, X, data.y_test, data.counts)

    for point in tau_curve(data.W, X, data.y_test, data.counts, taus=GRID):
        got = curve.at(point["tau"])
        assert {key: got[key] for key in point if key != "tau"} == {
            key: value for key, value in point.items() if key != "tau"
        }
        predicted = TauNorm(point["tau"], weight=data.W).fit(X, data.y_test).predict(X)
        assert got["micro"] == np.mean(np.asarray(predicted) == data.y_test)


# Small whole numbers give equal norms, equal scores, zeros, negative scores and duplicates.
SMALL = st.integers(-2, 3)


# Where small whole numbers tie, and beside; the slow test takes the whole grid.
COARSE = [0.0, 0.25, 0.5, 0.95, 1.0, 1.05, 1.5, 2.0]


@st.composite
def tied_problems(draw: st.DrawFn) -> tuple[NDArray, ...]:
    """Return W (C, D), b (C,), X (6, D), y (6,) and counts (C,) of small whole numbers."""
    n_classes, width = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    dtype = draw(st.sampled_from(["float32", "float64"]))

    def numbers(values: st.SearchStrategy[int], *shape: int) -> NDArray:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)

    W, b, X = (
        numbers(SMALL, *s).astype(dtype) for s in ((n_classes, width), (n_classes,), (6, width))
    )
    return W, b, X, numbers(st.integers(0, n_classes - 1), 6), numbers(st.integers(1, 3), n_classes)


def check_ties(problem: tuple[NDArray, ...], taus: list[float]) -> None:
    """The curves, the grid and the head decide ties as exact arithmetic does."""
    W, b, X, y, n_c = problem
    assert_same(exact_tau_curve(W, X, y, n_c), W, None, X, y, n_c, taus)
    assert_same(exact_adjust_curve(W, b, X, y, n_c), W, b, X, y, n_c, taus)
    for point in tau_curve(W, X, y, n_c, taus=taus):
        winners = reference.tau_winners(X, W, point["tau"])
        assert point["all"] == evaluate(y, winners, n_c)["all"]
        if point["tau"] in (0.0, 1.0):
            head = TauNorm(point["tau"], weight=W).fit(X, y)
            np.testing.assert_array_equal(head.predict(X), winners)


@settings(max_examples=200, deadline=None)
@given(tied_problems())
def test_adversarial_ties(problem: tuple[NDArray, ...]) -> None:
    check_ties(problem, COARSE)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(tied_problems())
def test_adversarial_ties_on_the_whole_grid(problem: tuple[NDArray, ...]) -> None:
    check_ties(problem, GRID)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e15])
def test_float32_near_ties_are_decided_as_exact_arithmetic_does(
    rng: np.random.Generator, size: float
) -> None:
    """Classes whose rows differ in their last bits: float32 scores tie or swap by rounding."""
    base = rng.normal(size=(1, 8)).astype("float32")
    W = np.repeat(base, 70, axis=0) * np.float32(size)
    W[1::2] = np.nextafter(W[1::2], np.float32(np.inf))
    X, y = rng.normal(size=(300, 8)).astype("float32"), rng.integers(0, 70, 300)
    n_c = np.ones(70)
    curve = exact_tau_curve(W, X, y, n_c, high=1.5)

    for point in tau_curve(W, X, y, n_c, taus=GRID[:31]):
        assert curve.at(point["tau"])["all"] == point["all"]


def test_walk_and_definition_agree_between_the_points(rng: np.random.Generator, seed: int) -> None:
    data = cloud(rng, 100, 6)
    X, W, b = (torch.from_numpy(part) for part in (data.X_test, data.W, data.b))
    y = torch.from_numpy(data.y_test)
    for lines in (TauLines(W), AdjustLines(W, b, log_prior(torch.from_numpy(data.counts)))):
        z = lines.products(X)
        own = z.gather(1, y.unsqueeze(1)).squeeze(1)
        z, label = z[lines.sign(own) == 1], y[lines.sign(own) == 1]
        values, sign = lines.fine(z, label)
        want = pairwise_intervals(values, lines.slopes, sign, label, -1, 3)
        got = bounded_intervals(
            lines.coarse_(z.clone()), lines.slopes, label, -1, 3,
            lambda r, c, lines=lines, z=z: lines.exact(z[r, c]), torch.empty(0),
        )  # fmt: skip
        assert torch.isfinite(want[0]).any()
        for ours, theirs in zip(got[:2], want, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [3, 31, 64, 65, 100, 1000])
def test_best_column_is_a_maximum(rng: np.random.Generator, width: int) -> None:
    scores = torch.from_numpy(rng.integers(0, 50, size=(200, width)).astype("float32"))
    best, column = best_column(scores)

    torch.testing.assert_close(best, scores.amax(dim=1))
    torch.testing.assert_close(scores.gather(1, column.unsqueeze(1)).squeeze(1), best)


def test_steps_hold_between_breakpoints_and_nowhere_else(
    rng: np.random.Generator, seed: int
) -> None:
    data = cloud(rng, 30, 6, 200)
    curve = exact_tau_curve(data.W, data.X_test, data.y_test, data.counts)
    for metric in ("all", "many", "medium", "few", "micro"):
        edges, values = curve.steps(metric)
        assert (edges[0], edges[-1]) == (0, 2)
        assert (np.diff(edges) > 0).all()
        inside = rng.integers(0, len(values), 40)
        for i in inside:
            want = curve.at((edges[i] + edges[i + 1]) / 2)[metric]
            np.testing.assert_allclose(values[i], want, atol=1e-11)
        low, high, value = curve.maximum(metric)
        assert curve.at((low + high) / 2)[metric] == pytest.approx(value, abs=1e-11)
        assert value == values.max()
    assert set(curve.breakpoints) <= set(curve.steps()[0])
    c = int(data.y_test[0])
    edges, values = curve.steps(f"class {c}")
    np.testing.assert_allclose(values[0], curve.per_class((edges[0] + edges[1]) / 2)[c])


def test_curve_needs_no_more_than_blocks(rng: np.random.Generator) -> None:
    data = cloud(rng)
    twice = [
        exact_tau_curve(data.W, X, y, data.counts).at(0.55)
        for X, y in (
            (data.X_test, data.y_test),
            (np.tile(data.X_test, (2, 1)), np.tile(data.y_test, 2)),
        )
    ]
    assert twice[0] == twice[1]


def test_samples_and_widest_top() -> None:
    np.testing.assert_array_equal(samples(0.02, 0.16), [0.02, 0.05, 0.1, 0.15, 0.16])
    assert len(samples(0, 2)) == 41
    edges = np.array([0, 1, 2, 3, 5.0])
    assert widest_top(edges, np.array([1, 3, 2, 3.0])) == (3, 5, 3)
    assert widest_top(edges, np.array([1.0, 1, 1, 1])) == (0, 5, 1)


def test_what_cannot_be_a_curve_is_refused(rng: np.random.Generator) -> None:
    data = cloud(rng)
    args = (data.W, data.X_test, data.y_test, data.counts)
    with pytest.raises(ValueError, match="a curve needs low < high; got 2 and 1"):
        exact_tau_curve(*args, low=2, high=1)
    with pytest.raises(ValueError, match="3 is outside the curve's range 0 to 2"):
        exact_tau_curve(*args).at(3)
    with pytest.raises(ValueError, match="counts has shape"):
        exact_tau_curve(data.W, data.X_test, data.y_test, data.counts[1:])
    with pytest.raises(ValueError, match="no class of the split is in 'many'"):
        exact_tau_curve(*args).steps("many")
    tiny = data.W.astype("float32")
    tiny[1] = 1e-30
    with pytest.raises(ValueError, match="weight row 1 has norm .* too small for tau=2"):
        exact_tau_curve(tiny, data.X_test.astype("float32"), data.y_test, data.counts)


@pytest.mark.parametrize("step", [-0.01, -1e-4, 0.0, 1e-4])
def test_a_rival_that_rounding_hides_is_found(step: float) -> None:
    """One class falls behind at 0.3; another, level with the true one at 0, stays or rises."""
    for ulps in range(-100, 101, 3):
        level = np.float32(1)
        for _ in range(abs(ulps)):
            level = np.nextafter(level, np.float32(np.sign(ulps) * np.inf))
        W = np.array([[1], [1.3], [level]], dtype="float32")
        prior = np.exp([0, 1, step])
        curve = exact_adjust_curve(
            W, np.zeros(3, "float32"), np.ones((1, 1), "float32"), [0], [9, 9, 9], prior=prior
        )
        for t in GRID:
            scores = W[:, 0].astype("float64") - t * np.array([0, 1, step])
            want = scores[0] >= scores[1:].max() - 1e-12
            assert curve.at(t)["all"] == want, (ulps, t)
