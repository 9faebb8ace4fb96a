"""What goes in: kinds, devices, dtypes, layouts, odd data, and what is refused."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import heads
from heads._arrays import as_tensor, full_precision
from heads._labels import code_labels
from tests.test_heads.data import cloud

ALL = (
    "ClassifierRetraining",
    "JointClassifier",
    "LearnableWeightScaling",
    "NearestClassMean",
    "TauNorm",
)
STAGE1 = ("JointClassifier", "LearnableWeightScaling", "TauNorm")
each = pytest.mark.parametrize("name", ALL)


def make(name: str, **params: Any) -> Any:
    return getattr(heads, name)(**params)


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_tensor_gives_what_an_array_gives(
    rng: np.random.Generator, name: str, dtype: torch.dtype
) -> None:
    data = cloud(rng)
    X, X_test = (torch.from_numpy(part).to(dtype) for part in (data.X, data.X_test))
    by_tensor = make(name).fit(X, torch.from_numpy(data.y))
    by_array = make(name).fit(X.numpy(), data.y)

    got, scores = by_tensor.predict(X_test), by_tensor.decision_function(X_test)

    assert isinstance(got, torch.Tensor)
    assert got.dtype == torch.int64
    assert scores.dtype == dtype
    np.testing.assert_array_equal(got.numpy(), by_array.predict(X_test.numpy()))
    np.testing.assert_array_equal(by_tensor.predict(X_test.numpy()), got.numpy())
    assert isinstance(by_tensor.predict(X_test.numpy()), np.ndarray)
    np.testing.assert_array_equal(scores.numpy(), by_array.decision_function(X_test.numpy()))


@each
@pytest.mark.parametrize("kind", ["numpy", "torch", "bfloat16"])
def test_half_precision_is_computed_in_float32(
    rng: np.random.Generator, name: str, kind: str
) -> None:
    data = cloud(rng)
    half: Any = torch.from_numpy(data.X).to(torch.bfloat16 if kind == "bfloat16" else torch.float16)
    single = half.float()
    if kind == "numpy":
        half, single = half.numpy(), single.numpy()
    head = make(name).fit(half, data.y)

    assert str(head.decision_function(half).dtype).endswith("float32")
    np.testing.assert_array_equal(
        head.predict(half), make(name).fit(single, data.y).predict(single)
    )


@each
@pytest.mark.parametrize("layout", ["fortran", "reversed", "big-endian", "read-only", "strided"])
def test_layout_changes_nothing(rng: np.random.Generator, name: str, layout: str) -> None:
    data = cloud(rng)
    X = data.X.astype(np.float32)
    other = {
        "fortran": np.asfortranarray(X),
        "reversed": X[::-1].copy()[::-1],
        "big-endian": X.astype(">f4"),
        "read-only": X.copy(),
        "strided": np.repeat(X, 2, axis=1)[:, ::2],
    }[layout]
    other.flags.writeable = layout != "read-only"
    want, got = (make(name).fit(each_X, data.y) for each_X in (X, other))

    assert got.decision_function(other).dtype == np.float32
    np.testing.assert_array_equal(got.decision_function(other), want.decision_function(X))


def test_a_read_only_array_is_neither_copied_nor_warned_about() -> None:
    array = np.arange(6.0)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = as_tensor(array)

    assert tensor.data_ptr() == array.ctypes.data
    assert not array.flags.writeable


@each
def test_string_labels(rng: np.random.Generator, name: str) -> None:
    data = cloud(rng)
    names = np.array(["owl", "ant", "cat", "yak", "bee", "fox"])
    head = make(name).fit(data.X, names[data.y])

    assert head.classes_.tolist() == sorted(names)
    assert set(head.predict(data.X_test)) <= set(names)
    assert isinstance(head.predict(torch.from_numpy(data.X_test)), np.ndarray)
    assert (head.predict(data.X) == names[data.y]).mean() > 0.5


@each
def test_two_classes_have_one_score(rng: np.random.Generator, name: str) -> None:
    data = cloud(rng, n_classes=2)
    head = make(name).fit(data.X, np.array([7, 3])[data.y])
    scores = head.decision_function(data.X_test)

    assert scores.shape == (len(data.X_test),)
    np.testing.assert_array_equal(head.predict(data.X_test), np.where(scores > 0, 7, 3))


@each
@pytest.mark.parametrize("case", ["constant", "zeros", "wide", "one each", "huge", "tiny"])
def test_odd_data_gives_finite_scores(rng: np.random.Generator, name: str, case: str) -> None:
    data = cloud(rng)
    X, y = data.X, data.y
    if case in ("constant", "zeros"):
        X = np.full_like(X, 3.0 if case == "constant" else 0.0)
    elif case == "wide":
        X = rng.normal(size=(len(y), 3 * len(y)))
    elif case == "one each":
        X, y = X[:6], np.arange(6)
    else:
        X = X * (1e6 if case == "huge" else 1e-30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # features of 1e6 may not converge, and the fit says so
        head = make(name).fit(X.astype(np.float32), y)

    assert np.isfinite(head.decision_function(X.astype(np.float32))).all()
    assert set(head.predict(X.astype(np.float32))) <= set(y)


@each
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 3e38), (np.float64, 1e200)])
def test_rows_whose_norm_is_no_number_are_refused(
    name: str, dtype: type, size: float, kind: str
) -> None:
    """Divided by an infinite norm such a row is zero, and predictions are of the first class."""
    X: Any = (np.array([[1.0, 1], [1, -1], [0.9, 1.1], [1, -0.8]]) * size / 1.1).astype(dtype)
    assert np.isfinite(X).all()
    X = torch.from_numpy(X) if kind == "torch" else X
    with pytest.raises(ValueError, match=r"norm of (a )?row .* scale the features down|not finite"):
        make(name).fit(X, [0, 1, 0, 1])


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e19, 1e30, 1e37, 1e150, 1e200, 1e300])
def test_queries_of_any_size_are_scored_rightly_or_refused(
    rng: np.random.Generator, name: str, dtype: type, size: float
) -> None:
    """These heads look at directions alone, so that nothing may change."""
    data = cloud(rng)
    params = {"weight": data.W} if name in STAGE1 else {"metric": "cosine", "transform": "l2n"}
    params = {"weight_decay": 0.01} if name == "ClassifierRetraining" else params
    head = make(name, **params).fit(data.X.astype(dtype), data.y)
    if hasattr(head, "bias_"):
        head.bias_ = np.zeros_like(head.bias_)
    want = head.predict(data.X_test.astype(dtype))
    X = (data.X_test * min(size, float(np.finfo(dtype).max) / 1e3)).astype(dtype)
    if not np.isfinite(X).all():
        return
    try:
        got = head.predict(X)
    except ValueError as error:
        assert "finite" in str(error) or "norm" in str(error)  # noqa: PT017 - one of two
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scales_are_learnt_on_large_logits(
    rng: np.random.Generator, dtype: type, size: float
) -> None:
    data = cloud(rng)
    X = (data.X * size).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at 1e10 the search may stop early, and the fit says so
        head = make("LearnableWeightScaling", weight=data.W * 3).fit(X, data.y)

    assert np.isfinite(head.scale_).all()
    assert head.score((data.X_test * size).astype(dtype), data.y_test) > 0.5


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_non_finite_features_are_refused_in_scikit_learns_words(
    rng: np.random.Generator, name: str, bad: float, kind: str
) -> None:
    data = cloud(rng)
    X: Any = data.X.astype(np.float32)
    X[3, 2] = bad
    good: Any = data.X.astype(np.float32)
    if kind == "torch":
        X, good = torch.from_numpy(X), torch.from_numpy(good)
    head = make(name).fit(good, data.y)
    words = (
        "contains NaN" if np.isnan(bad) else r"infinity or a value too large for dtype\('float32'"
    )

    with pytest.raises(ValueError, match=f"Input X .*{words}|Input X {words}"):
        make(name).fit(X, data.y)
    with pytest.raises(ValueError, match=words):
        head.predict(X)


@each
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_another_width_is_refused(rng: np.random.Generator, name: str, kind: str) -> None:
    data = cloud(rng)
    head = make(name).fit(data.X, data.y)
    X: Any = data.X[:, :3] if kind == "numpy" else torch.from_numpy(data.X[:, :3])

    with pytest.raises(ValueError, match=f"X has 3 features, but {name} is expecting 5 features"):
        head.predict(X)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (torch.ones(4), [0, 1, 0, 1], r"Expected 2D array, got 1D array instead"),
        (torch.ones(0, 3), [], r"Found array with 0 sample\(s\) \(shape=\(0, 3\)\)"),
        (torch.ones(3, 0), [0, 1, 0], r"Found array with 0 feature\(s\)"),
        (torch.ones(3, 2, dtype=torch.complex64), [0, 1, 0], "Complex data not supported"),
        (torch.ones(3, 2), [0, 1], r"inconsistent numbers of samples: \[3, 2\]"),
        (torch.ones(3, 2), [0, 1, np.nan], "Input y contains NaN"),
        (torch.ones(3, 2), [0.5, 1, 2], "Unknown label type"),
        (torch.ones(3, 2), None, "requires y to be passed, but the target y is None"),
        (torch.ones(3, 2), [4, 4, 4], "needs at least 2 classes; got 1 class, 4"),
        (np.ones((3, 2)), torch.tensor([4, 4, 4]), "needs at least 2 classes; got 1 class, 4"),
    ],
)
def test_tensors_are_refused_in_scikit_learns_words(X: Any, y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        heads.NearestClassMean().fit(X, y)


@pytest.mark.parametrize("name", STAGE1)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": np.ones((6, 4))}, "weight has 4 columns, but X has 5 features"),
        (
            {"weight": np.ones(6)},
            r"weight must be \(C, D\) with at least 2 classes; got shape \(6,\)",
        ),
        ({"bias": np.ones(5)}, r"bias has shape \(5,\), but weight has 6 classes"),
        ({"weight": np.full((6, 5), np.nan)}, "weight and bias must be finite"),
        ({"weight": np.ones((4, 5)), "bias": None}, r"label [45] \(row \d+\) is outside 0\.\.3"),
        ({"weight": None}, "a bias without a weight"),
    ],
)
def test_a_stage_one_that_does_not_fit_is_refused(
    rng: np.random.Generator, name: str, change: dict[str, Any], words: str
) -> None:
    data = cloud(rng)
    params = {"weight": data.W, "bias": data.b} | change

    with pytest.raises(ValueError, match=words) as caught:
        make(name, **params).fit(data.X, data.y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("y", [["a", "b"], [0, -1], [0, 6], [0.5, 1.0]])
def test_with_stage_one_labels_are_its_rows(y: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"is outside 0\.\.5|Unknown label type"):
        heads.TauNorm(weight=np.ones((6, 2))).fit(np.ones((2, 2)), y)


def test_precision_is_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@each
def test_a_second_fit_forgets_the_first(rng: np.random.Generator, name: str) -> None:
    data, other = cloud(rng), cloud(rng, n_classes=4, width=7)
    head = make(name).fit(data.X, data.y).fit(other.X, other.y)
    fresh = make(name).fit(other.X, other.y)

    np.testing.assert_array_equal(
        head.decision_function(other.X_test), fresh.decision_function(other.X_test)
    )


@pytest.mark.gpu
@each
def test_a_gpu_tensor_gives_what_an_array_gives(rng: np.random.Generator, name: str) -> None:
    data = cloud(rng)
    X, X_test = (torch.from_numpy(part).cuda() for part in (data.X, data.X_test))
    got = make(name).fit(X, torch.from_numpy(data.y).cuda()).predict(X_test)

    assert got.is_cuda
    want = make(name).fit(data.X, data.y).predict(data.X_test)
    assert (got.cpu().numpy() == want).mean() > 0.98


@pytest.mark.parametrize("low", [-(2**63), -70, 0, 10**6, 2**62])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_labels_are_coded_as_numpy_sorts_them(low: int, step: int) -> None:
    labels = low + step * np.random.default_rng(0).integers(0, 9, 40)
    classes, places = code_labels(labels)
    want, inverse = np.unique(labels, return_inverse=True)

    assert classes.dtype == labels.dtype
    assert places.dtype == np.int64
    np.testing.assert_array_equal(classes, want)
    np.testing.assert_array_equal(places, inverse)
