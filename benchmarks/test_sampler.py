"""Class-balanced index generation at the shape of ImageNet-LT: ten epochs of stage 2."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from heads.balancing.sampling import class_aware_rows

N_CLASSES, N_MAX, N_MIN, PER_CLASS = 1000, 1280, 5, 4


@pytest.fixture(scope="module")
def y_idx() -> np.ndarray:
    # A power profile between the data set's extremes; the exponent gives about its 115,846 rows.
    profile = N_MIN + (N_MAX - N_MIN) * np.linspace(1, 0, N_CLASSES) ** 10.5
    labels = np.repeat(np.arange(N_CLASSES), profile.round().astype(int))
    return np.random.default_rng(0).permutation(labels)


def test_class_aware_rows(benchmark: BenchmarkFixture, y_idx: np.ndarray) -> None:
    n_draws = 10 * (len(y_idx) // 512) * 512

    rows = benchmark(lambda: class_aware_rows(y_idx, n_draws, PER_CLASS, np.random.default_rng(0)))

    drawn = np.bincount(y_idx[rows], minlength=N_CLASSES)
    spread = int(drawn.max() - drawn.min())
    benchmark.extra_info.update(indices=n_draws, spread=spread)
    if benchmark.stats is not None:
        benchmark.extra_info["indices_per_s"] = n_draws / benchmark.stats.stats.median
    assert spread <= PER_CLASS
