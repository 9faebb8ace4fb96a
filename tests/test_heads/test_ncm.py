import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import heads
from heads import NearestClassMean
from tests import reference
from tests.test_heads.data import cloud

VARIANTS = list(itertools.product(("un", "l2n", "cl2n"), ("l2", "cosine", "dot"), ("mean", "unit")))


@pytest.mark.parametrize(("transform", "metric", "centroids"), VARIANTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_are_those_of_the_equations(
    rng: np.random.Generator, seed: int, transform: str, metric: str, centroids: str, dtype: type
) -> None:
    data = cloud(rng)
    head = NearestClassMean(transform, metric, centroids).fit(data.X.astype(dtype), data.y)
    want = reference.ncm_scores(data.X, data.y, data.X_test, transform, metric, centroids)

    got = head.decision_function(data.X_test.astype(dtype))

    assert got.dtype == dtype
    # One rounding of the inputs and one of each operation, relative to the largest term.
    scale = np.abs(data.X_test).max() ** 2 * 30
    np.testing.assert_allclose(got, want, rtol=0, atol=scale * np.finfo(dtype).eps)


@pytest.mark.parametrize(("transform", "metric", "centroids"), VARIANTS)
def test_both_engines_give_the_labels_of_exact_arithmetic(
    rng: np.random.Generator, seed: int, transform: str, metric: str, centroids: str
) -> None:
    data = cloud(rng, n_classes=9, width=40)
    X, X_test = data.X.astype(np.float32), rng.normal(size=(3000, 40)).astype(np.float32)
    labels = {
        engine: NearestClassMean(transform, metric, centroids, engine)
        .fit(X, data.y)
        .predict(X_test)
        for engine in ("faiss", "torch", "auto")
    }
    want = reference.ncm_scores(X, data.y, X_test[:100], transform, metric, centroids)
    top = np.sort(want, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-4

    np.testing.assert_array_equal(labels["faiss"], labels["torch"])
    np.testing.assert_array_equal(labels["auto"], labels["torch"])
    np.testing.assert_array_equal(labels["torch"][:100][clear], want.argmax(axis=1)[clear])


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_near_ties_are_settled_in_float64(rng: np.random.Generator, metric: str) -> None:
    # Centroids that differ by one float32 step far from the origin: float32 scores see nothing.
    base = (100 + rng.normal(size=64)).astype(np.float32)
    nudged = base.copy()
    nudged[3] = np.nextafter(nudged[3], np.float32(np.inf))
    X, y = np.stack([base, nudged, -base]), [0, 1, 2]
    queries = X[:2] + rng.normal(size=(200, 1, 64)).astype(np.float32)
    queries = queries.reshape(-1, 64).astype(np.float32)
    exact = queries.astype(np.float64) @ X.T.astype(np.float64)
    if metric == "l2":
        exact = -((queries[:, None].astype(np.float64) - X[None].astype(np.float64)) ** 2).sum(-1)

    for engine in ("faiss", "torch"):
        head = NearestClassMean("un", metric, engine=engine).fit(X, y)
        np.testing.assert_array_equal(head.predict(queries), exact.argmax(axis=1))


def test_equals_in_float64_go_to_the_first_whatever_the_product_rounds() -> None:
    # Both inner products are the same sum in another order, and so round differently.
    rng = np.random.default_rng(0)
    part = (rng.normal(size=(400, 64)) / 3).astype(np.float32)
    X = np.concatenate([part, part[:, ::-1]], axis=1)  # palindromes
    centroid = rng.normal(size=128).astype(np.float32)
    centroids = np.stack([centroid, centroid[::-1]])

    for engine in ("faiss", "torch"):
        head = NearestClassMean("un", "dot", engine=engine).fit(centroids, [0, 1])
        assert not head.predict(X).any()


def test_scores_of_near_ties_are_those_of_float64(rng: np.random.Generator) -> None:
    # Far from the origin a distance is small beside its terms: float32 alone loses two digits.
    X = (300 + rng.normal(size=(3, 64))).astype(np.float32)
    queries = (300 + rng.normal(size=(50, 64))).astype(np.float32)
    exact = -((queries[:, None].astype(np.float64) - X[None]) ** 2).sum(-1)

    scores = NearestClassMean("un").fit(X, [0, 1, 2]).decision_function(queries)

    np.testing.assert_allclose(scores, exact, rtol=1e-6)


@pytest.mark.parametrize("engine", ["faiss", "torch"])
def test_equal_centroids_go_to_the_first_class(rng: np.random.Generator, engine: str) -> None:
    X = np.repeat(rng.normal(size=(1, 33)), 6, axis=0).astype(np.float32)
    head = NearestClassMean("un", engine=engine).fit(X, [2, 2, 5, 5, 9, 9])

    assert set(head.predict(rng.normal(size=(500, 33)).astype(np.float32))) == {2}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prediction_is_the_largest_score(rng: np.random.Generator, dtype: type) -> None:
    data = cloud(rng, n_classes=9, width=40)
    head = NearestClassMean().fit(data.X.astype(dtype), data.y)
    X_test = rng.normal(size=(3000, 40)).astype(dtype)

    np.testing.assert_array_equal(
        head.predict(X_test), head.decision_function(X_test).argmax(axis=1)
    )


def test_class_means_are_summed_in_float64_after_a_bag_of_rows() -> None:
    # In float32, 2^24 + 1 is 2^24: a float32 sum of these would lose every one; 31 may go here.
    X = np.ones((3000, 1), dtype=np.float32)
    X[0] = 2**24
    head = NearestClassMean("un").fit(np.vstack([X, -X]), np.repeat([0, 1], 3000))

    assert head.centroids_[0, 0] == pytest.approx((2**24 + 2999) / 3000, abs=31.001 / 3000)


@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centroids_are_those_of_a_loop_over_classes_however_the_rows_are_cut(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, transform: str, dtype: type
) -> None:
    monkeypatch.setattr(
        "heads.solvers.sums.PIECE", 96 * 7
    )  # pieces of three bags: classes are split
    monkeypatch.setattr("heads.solvers.sums.PLAIN_PIECE", 64 * 7)
    X = (rng.normal(size=(900, 7)) * rng.lognormal(size=(900, 1)) + 3).astype(dtype)
    X[5] = 0
    y = rng.permutation(np.concatenate([np.arange(20), rng.integers(0, 4, 880)]))
    rows = reference.ncm_transform(X, transform, X.astype(np.float64).mean(axis=0))
    want = np.stack([rows[y == c].mean(axis=0) for c in range(20)])

    got = NearestClassMean(transform).fit(X, y).centroids_

    # 32 rows in the dtype, and a few roundings of each before; centring rounds at the size of X,
    # which counts the more the shorter the row that is left.
    centre = X.mean(axis=0) if transform == "cl2n" else 0
    norms = np.linalg.norm(X - centre, axis=1)
    size = np.abs(X).max() / (1 if transform == "un" else norms[norms > 0].min())
    np.testing.assert_allclose(got, want, rtol=0, atol=40 * size * np.finfo(dtype).eps)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_norms_whose_squares_leave_float32_are_right(
    rng: np.random.Generator, scale: float
) -> None:
    X, y = rng.normal(size=(60, 9)), np.repeat([0, 1, 2], 20)
    want = NearestClassMean("l2n").fit(X, y).centroids_

    got = NearestClassMean("l2n").fit((scale * X).astype(np.float32), y).centroids_

    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(
    rng: np.random.Generator, bad: float, kind: type, transform: str
) -> None:
    X, y = rng.normal(size=(400, 5)).astype(np.float32), np.repeat([0, 1], 200)
    X[317, 2] = bad

    with pytest.raises(ValueError, match="Input X contains (NaN|infinity)"):
        NearestClassMean(transform).fit(kind(X), y)


@pytest.mark.parametrize("transform", ["un", "l2n"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_partial_fits_amount_to_one_fit(
    rng: np.random.Generator, seed: int, transform: str, kind: type
) -> None:
    data = cloud(rng)
    whole = NearestClassMean(transform).fit(data.X, data.y)
    head = NearestClassMean(transform)
    cuts = [0, 3, 40, 41, len(data.y)]
    for start, stop in itertools.pairwise(cuts):
        head.partial_fit(kind(data.X[start:stop]), data.y[start:stop], classes=range(6))

    np.testing.assert_allclose(np.asarray(head.centroids_), whole.centroids_, rtol=1e-13)
    np.testing.assert_array_equal(head.predict(data.X_test), whole.predict(data.X_test))


def test_a_partial_fit_goes_on_from_weights_that_are_no_whole_numbers(
    rng: np.random.Generator,
) -> None:
    data = cloud(rng)
    weights = rng.random(len(data.y))
    head = NearestClassMean("un").fit(data.X, data.y, weights).partial_fit(data.X, data.y)
    whole = NearestClassMean("un").fit(
        np.concatenate([data.X, data.X]),
        np.concatenate([data.y, data.y]),
        np.concatenate([weights, np.ones_like(weights)]),
    )
    np.testing.assert_allclose(head.centroids_, whole.centroids_, rtol=1e-12)


def test_partial_fit_refuses_what_it_cannot_know(rng: np.random.Generator) -> None:
    data = cloud(rng)
    with pytest.raises(AttributeError, match="cl2n' centres every row by the mean of all rows"):
        NearestClassMean().partial_fit(data.X, data.y, classes=range(6))
    head = NearestClassMean("un")
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        head.partial_fit(data.X, data.y)
    head.partial_fit(data.X[data.y < 5], data.y[data.y < 5], classes=range(6))
    with pytest.raises(ValueError, match=r"class 5 has no rows yet \(1 of 6 classes\)"):
        head.predict(data.X_test)
    with pytest.raises(ValueError, match="label 9 .row 0. is not among the 6 classes"):
        head.partial_fit(data.X[:1], [9])
    with pytest.raises(ValueError, match="not the same as on last call"):
        head.partial_fit(data.X, data.y, classes=range(7))
    with pytest.raises(ValueError, match="fitted with another transform"):
        head.set_params(transform="l2n").partial_fit(data.X, data.y)


def test_a_loaded_head_has_no_sums_to_go_on_from(rng: np.random.Generator, tmp_path: Path) -> None:
    data = cloud(rng)
    NearestClassMean("un").fit(data.X, data.y).save(tmp_path / "ncm.head")
    head = heads.load(tmp_path / "ncm.head")

    np.testing.assert_array_equal(head.predict(data.X[:3]).shape, (3,))
    with pytest.raises(ValueError, match="this head was loaded"):
        head.partial_fit(data.X, data.y)


def test_faiss_is_not_fed_float64(rng: np.random.Generator) -> None:
    data = cloud(rng)
    head = NearestClassMean(engine="faiss").fit(data.X, data.y)

    with pytest.raises(ValueError, match="faiss holds float32 only: pass float32 features"):
        head.predict(data.X_test)


def test_missing_faiss_names_the_package(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cloud(rng)
    X = data.X.astype(np.float32)
    head = NearestClassMean(engine="faiss").fit(X, data.y)
    monkeypatch.setitem(sys.modules, "faiss", None)

    with pytest.raises(ImportError, match="pip install faiss-gpu.*pip install faiss-cpu"):
        head.predict(X)


@pytest.mark.parametrize("engine", ["faiss", "torch"])
def test_overflow_is_refused_not_labelled(engine: str) -> None:
    X = np.array([[1e30, 0], [0, 1e30], [1e30, 1e30]], dtype=np.float32)
    head = NearestClassMean("un", engine=engine).fit(X, [0, 1, 2])

    with pytest.raises(ValueError, match="not finite in float32: scale the features down"):
        head.predict(X)


def test_transform_is_a_parameter_and_no_method() -> None:
    head = NearestClassMean(transform="l2n")

    assert head.get_params()["transform"] == "l2n"
    assert head.set_params(transform="un").get_params()["transform"] == "un"
    assert not hasattr(head, "transform")


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["faiss", "torch", "auto"])
def test_a_gpu_gives_the_same_labels(rng: np.random.Generator, engine: str) -> None:
    data = cloud(rng, n_classes=9, width=40)
    X, X_test = data.X.astype(np.float32), rng.normal(size=(3000, 40)).astype(np.float32)
    want = NearestClassMean(engine="torch").fit(X, data.y).predict(X_test)
    head = NearestClassMean(engine=engine).fit(torch.from_numpy(X).cuda(), data.y)

    got = head.predict(torch.from_numpy(X_test).cuda())

    assert got.is_cuda
    assert (got.cpu().numpy() == want).mean() > 0.999  # the centroids' sums may differ in order
