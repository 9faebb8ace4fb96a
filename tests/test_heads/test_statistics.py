"""Intervals, tests and calibration against slow definitions, known answers and simulation."""

import numpy as np
import pytest
import scipy.stats
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from heads.metrics import bootstrap, calibration, mcnemar
from heads.metrics import holm as multiplicity
from heads.metrics import projection as plane
from heads.metrics.unseen import unseen
from tests import reference


def rows(rng: np.random.Generator, sizes: list[int], experiments: int, low: float = 0.3) -> tuple:
    """Draw classes' accuracies, labels, and rows that are right with them: (n, K)."""
    accuracy = rng.uniform(low, 0.95, size=len(sizes))
    y = np.repeat(np.arange(len(sizes)), sizes)
    right = rng.random((len(y), experiments)) < accuracy[y][:, None]
    return accuracy, y, right


def test_draws_have_the_unbiased_variance_of_a_mean_over_classes(
    rng: np.random.Generator,
) -> None:
    sizes = [2, 3, 5, 30]
    _, y, right = rows(rng, sizes, 4)
    drawn = bootstrap.resample(right, y, np.zeros(4, np.int8), draws=20_000)["all"]
    for column in range(4):
        # s^2 / n of each class, with the n - 1 of an unbiased s^2.
        parts = [right[y == c, column].var(ddof=1) / n for c, n in enumerate(sizes)]
        want = np.sqrt(sum(parts)) / len(sizes)
        assert drawn[:, column].std() == pytest.approx(want, rel=0.03)
        mean = np.mean([right[y == c, column].mean() for c in range(4)])
        assert drawn[:, column].mean() == pytest.approx(mean, abs=5 * want / np.sqrt(20_000))


def test_classes_of_one_row_are_drawn_together_within_their_group(
    rng: np.random.Generator,
) -> None:
    y = np.array([0, 1, 2, 3, 4, 5, 6, 6])  # 0 to 3 many, 4 and 5 few, 6 few with two rows
    groups = np.array([0, 0, 0, 0, 2, 2, 2], np.int8)
    right = np.array([1, 1, 0, 1, 1, 1, 1, 0], bool)[:, None]
    drawn = bootstrap.resample(right, y, groups, draws=20_000)
    assert set(np.unique((drawn["many"] * 3).round(9))) == {0, 1, 2, 3}
    assert drawn["many"].std() == pytest.approx(np.sqrt(np.var([1, 1, 0, 1], ddof=1) / 4), rel=0.03)
    assert drawn["many"].mean() == pytest.approx(0.75, abs=0.01)
    assert set(np.unique((drawn["few"] * 3).round(9))) == {2, 3}
    np.testing.assert_allclose(drawn["all"], (4 * drawn["many"] + 3 * drawn["few"]) / 7)
    alone = bootstrap.resample(right[:2], y[:2] * 4, groups, draws=10)  # one row in each group
    assert (alone["all"] == 1).all()


@pytest.mark.parametrize("classes", [127, 300])
def test_more_classes_than_a_small_number_holds(rng: np.random.Generator, classes: int) -> None:
    y = np.concatenate([np.arange(classes), np.arange(classes - 3)])  # the last three alone
    groups = np.full(classes, 2, np.int8)
    right = rng.random((len(y), 2)) < 0.7
    drawn = bootstrap.resample(right, y, groups)["all"]
    assert drawn.mean(axis=0) == pytest.approx(
        [np.mean([right[y == c, k].mean() for c in range(classes)]) for k in range(2)], abs=0.01
    )


def test_every_draw_is_a_mean_over_classes_of_whole_rows(rng: np.random.Generator) -> None:
    _, y, right = rows(rng, [4, 3], 1)
    groups = np.array([0, 2], np.int8)
    drawn = bootstrap.resample(right, y, groups, draws=200)
    assert set(drawn) == {"all", "many", "few", "micro"}
    assert set(np.unique((drawn["many"] * 3).round(9))) <= {0, 1, 2, 3}
    assert set(np.unique((drawn["few"] * 2).round(9))) <= {0, 1, 2}
    np.testing.assert_allclose(drawn["all"], (drawn["many"] + drawn["few"]) / 2, atol=1e-12)
    np.testing.assert_allclose(drawn["micro"], (4 * drawn["many"] + 3 * drawn["few"]) / 7)


def test_one_classifier_more_leaves_the_others_draws_as_they_were(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, y, right = rows(rng, [9, 5, 7], 3)
    groups = np.array([0, 1, 2], np.int8)
    whole = bootstrap.resample(right, y, groups, draws=50)
    alone = bootstrap.resample(right[:, 1:2], y, groups, draws=50)
    monkeypatch.setattr(bootstrap, "_BLOCK_ROWS", 100)
    cut = bootstrap.resample(right, y, groups, draws=50)
    for name in whole:
        np.testing.assert_array_equal(whole[name][:, 1:2], alone[name])
        np.testing.assert_array_equal(whole[name], cut[name])
    other = bootstrap.resample(right, y, groups, draws=50, seed=1)
    assert (other["all"] != whole["all"]).any()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"got \(3,\), \(3,\) and 10"):
        bootstrap.resample([True] * 3, [0, 0, 1], [0, 0], draws=10)
    with pytest.raises(ValueError, match=r"got \(3, 1\), \(3,\) and 0"):
        bootstrap.resample([[True]] * 3, [0, 0, 1], [0, 0], draws=0)
    for labels in ([0, 0, 2], [0, -1, 1], [0, 0.5, 1], ["a", "b", "b"]):
        with pytest.raises(ValueError, match=r"labels? .*0\.\.1"):
            bootstrap.resample([[True]] * 3, labels, [0, 0], draws=10)
        with pytest.raises(ValueError, match=r"labels? .*0\.\.1"):
            unseen([True] * 3, labels, np.zeros(2, np.int8))
    with pytest.raises(ValueError, match=r"values \(2,\) and labels \(3,\)"):
        unseen([True] * 2, [0, 0, 1], np.zeros(2, np.int8))
    with pytest.raises(ValueError, match="counts of rows must be at least 0; got -1 and 3"):
        mcnemar.mcnemar(-1, 3)
    with pytest.raises(ValueError, match=r"the same rows are needed for both: .* got \(2,\)"):
        mcnemar.discordant([True, False], [True])
    with pytest.raises(ValueError, match=r"confidence \(1,\) and right \(2,\)"):
        calibration.expected_calibration_error([0.5], [True, False])


@pytest.mark.parametrize("sizes", [[50] * 10, [3] * 100, [10] * 40], ids=len)
def test_95_percent_intervals_hold_the_truth_in_93_to_97_percent(
    rng: np.random.Generator, sizes: list[int]
) -> None:
    accuracy, y, right = rows(rng, sizes, 2000)
    drawn = bootstrap.resample(right, y, np.zeros(len(sizes), np.int8))["all"]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    held = (low <= accuracy.mean()) & (accuracy.mean() <= high)
    assert 0.93 <= held.mean() <= 0.97


def twins(rng: np.random.Generator, sizes: list[int], experiments: int) -> tuple:
    """Draw two classifiers of equal accuracy that agree on most rows: y, (n, K), (n, K)."""
    accuracy, y, _ = rows(rng, sizes, 1)
    agree = rng.random((len(y), experiments)) < 0.7
    both = rng.random((len(y), experiments)) < accuracy[y][:, None]
    each = rng.random((len(y), experiments)) < 0.5
    return y, np.where(agree, both, each), np.where(agree, both, ~each)


@pytest.mark.parametrize("sizes", [[50] * 10, [10] * 40], ids=len)
def test_tests_of_equal_classifiers_claim_a_difference_in_5_percent(
    rng: np.random.Generator, sizes: list[int]
) -> None:
    y, one, other = twins(rng, sizes, 1000)
    groups = np.zeros(len(sizes), np.int8)
    shares = [
        np.array([r[y == c].mean(0) for c in range(len(sizes))]).mean(0) for r in (one, other)
    ]
    drawn = bootstrap.resample(np.hstack([one, other]), y, groups)["all"]
    paired, apart, exact = np.zeros((3, 1000))
    for k in range(1000):
        value, columns = shares[0][k] - shares[1][k], (drawn[:, k], drawn[:, 1000 + k])
        paired[k] = bootstrap.difference(value, *columns)[1]
        apart[k] = bootstrap.difference(value, *columns, paired=False)[1]
        exact[k] = mcnemar.mcnemar(*mcnemar.discordant(one[:, k], other[:, k]))
    assert 0.035 <= (paired < 0.05).mean() <= 0.065
    assert 0.03 <= (exact < 0.05).mean() <= 0.06
    assert (apart < 0.05).mean() < 0.035  # what pairing would have gained is given away


def test_unpaired_draws_are_independent(rng: np.random.Generator) -> None:
    drawn = rng.normal(size=4000)
    ends, _ = bootstrap.difference(0.0, drawn, drawn, paired=False)
    assert ends == pytest.approx([-1.96 * 2**0.5, 1.96 * 2**0.5], abs=0.15)
    assert bootstrap.difference(0.0, drawn, drawn) == ([0.0, 0.0], 1.0)
    assert bootstrap.difference(1.0, drawn + 1, drawn)[1] == 1  # only rounding varies
    assert bootstrap.difference(1.0, np.ones(99), np.zeros(99))[1] == 1


def test_p_is_that_of_the_normal_distribution(rng: np.random.Generator) -> None:
    one, other = rng.normal(size=(2, 1000))
    _, p = bootstrap.difference(0.3, one, other)
    want = 2 * scipy.stats.norm.sf(0.3 / (one - other).std(ddof=1))
    assert p == pytest.approx(want, rel=1e-12)


def test_mcnemar_is_the_mid_p_of_the_binomial() -> None:
    # Bentur et al. (2009), as Fagerland, Lydersen and Laake (2013) give it.
    assert mcnemar.mcnemar(1, 7) == pytest.approx(0.0391, abs=5e-5)
    for b, c in ((0, 0), (3, 3), (0, 9), (12, 40), (900, 1100), (30_000, 31_000)):
        below = scipy.stats.binom.cdf(min(b, c), b + c, 0.5)
        want = min(1, 2 * below - scipy.stats.binom.pmf(min(b, c), b + c, 0.5))
        assert mcnemar.mcnemar(b, c) == mcnemar.mcnemar(c, b)
        assert mcnemar.mcnemar(b, c) == pytest.approx(want, rel=1e-9)
    assert mcnemar.discordant([1, 1, 0, 0], [1, 0, 1, 0]) == (1, 1)


def test_holm_steps_down() -> None:
    got = multiplicity.holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(got, [0.03, 0.06, 0.06, 0.02])
    assert multiplicity.holm([0.4, 0.9]).tolist() == [0.8, 0.9]
    assert multiplicity.holm([0.7, 0.8]).tolist() == [1.0, 1.0]
    assert multiplicity.holm([]).tolist() == []


def scores(rng: np.random.Generator, n: int = 600, classes: int = 7) -> tuple:
    """Draw logits, and labels that follow their softmax."""
    z = rng.normal(scale=2.0, size=(n, classes))
    y = np.array([rng.choice(classes, p=p) for p in softmax(z, axis=1)])
    return z.astype(np.float32), y


def test_confidence_and_nll_are_those_of_the_softmax(rng: np.random.Generator) -> None:
    z, y = scores(rng)
    confidence, nll = calibration.confidence_and_nll(z * 1e4, y, 1e4 / 3)
    want = log_softmax(3.0 * z.astype(np.float64), axis=1)
    np.testing.assert_allclose(confidence, np.exp(want.max(axis=1)), rtol=2e-6)
    np.testing.assert_allclose(nll, -want[np.arange(len(y)), y], rtol=3e-6, atol=3e-6)
    pair = calibration.confidence_and_nll(np.array([2.0, -1.0], np.float32), np.array([1, 1]))
    np.testing.assert_allclose(pair[0], [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))], rtol=1e-6)


def test_ece_is_that_of_a_loop_over_bins(rng: np.random.Generator) -> None:
    confidence = np.concatenate([rng.uniform(0, 1, 300), [1.0, 1 / 15, 0.2, 0.0]])
    right = rng.random(304) < confidence**2
    want = reference.ece(confidence, right, 15)
    assert calibration.expected_calibration_error(confidence, right) == pytest.approx(want)
    assert calibration.expected_calibration_error([0.5, 0.5], [True, False]) == 0
    # 0.2 is the last of the third bin of 15: it and 0.21 do not make up for each other.
    apart = calibration.expected_calibration_error([0.2, 0.21], [True, False])
    assert apart == pytest.approx((0.8 + 0.21) / 2)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
def test_the_temperature_minimises_the_nll(rng: np.random.Generator, scale: float) -> None:
    z, y = scores(rng)

    def nll(log_t: float) -> float:
        return -float(log_softmax(scale * z / np.exp(log_t), axis=1)[np.arange(len(y)), y].mean())

    want = minimize_scalar(nll, bounds=(-9, 9), method="bounded", options={"xatol": 1e-9})
    got = calibration.fit_temperature((scale * z).astype(np.float32), y)
    assert got == pytest.approx(np.exp(want.x), rel=1e-4)
    assert got / scale == pytest.approx(1, abs=0.2)  # labels follow these very scores


def test_a_temperature_that_does_not_exist_is_small_or_large(rng: np.random.Generator) -> None:
    z = rng.normal(size=(50, 4))
    assert 1e-4 <= calibration.fit_temperature(z, z.argmax(axis=1)) < 1e-2
    assert calibration.fit_temperature(z, z.argmin(axis=1)) == pytest.approx(1e4, rel=1e-2)
    assert np.isfinite(calibration.fit_temperature(np.zeros((50, 4)), z.argmax(axis=1)))


@pytest.mark.parametrize("shape", [(40, 6), (5, 30)], ids=str)
def test_the_plane_is_that_of_the_singular_vectors(
    rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    X = (rng.normal(size=shape) * np.linspace(1, 3, shape[1]) + 4).astype(np.float32)
    mean, basis = plane.principal_plane(X)
    want = np.linalg.svd(X - X.mean(axis=0, dtype=np.float64), full_matrices=False)[2][:2].T
    np.testing.assert_allclose(np.abs(basis), np.abs(want), atol=1e-5)
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-6)
    assert (basis[np.abs(basis).argmax(axis=0), [0, 1]] > 0).all()


def test_the_plane_of_rows_that_are_all_the_same_is_finite() -> None:
    for shape in ((4, 3), (3, 9), (2, 1), (1, 5), (64, 40), (64, 80)):
        mean, basis = plane.principal_plane(np.full(shape, 2.0))
        assert np.isfinite(basis).all()
        assert (mean == 2).all()


def test_the_plane_of_whole_numbers_is_found_where_rows_are_fewer_than_columns(
    rng: np.random.Generator,
) -> None:
    X = rng.integers(0, 4, size=(64, 80)) * np.array([9, 5] + [1] * 78)  # means are exact
    _, basis = plane.principal_plane(X)
    want = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][:2].T
    np.testing.assert_allclose(np.abs(basis), np.abs(want), atol=1e-5)


def test_grid_points_tile_the_plane_from_the_bottom_up() -> None:
    points = plane.grid_points([0, 4, 10, 12], 2)
    assert points.tolist() == [[1, 10.5], [3, 10.5], [1, 11.5], [3, 11.5]]
