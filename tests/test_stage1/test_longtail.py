import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featbank.data.longtail import longtail_counts, random_ranks
from featbank.errors import InputError


def test_counts_are_those_of_the_public_cifar_lt_sets() -> None:
    # 10,847 and 12,406 images: the sizes every paper quotes for imbalance 100.
    assert longtail_counts(500, 100, 100).sum() == 10_847
    assert longtail_counts(5000, 100, 10).sum() == 12_406
    assert longtail_counts(5000, 100, 10)[[0, -1]].tolist() == [5000, 50]


def test_step_profile_has_two_levels() -> None:
    assert longtail_counts(100, 10, 5, "step").tolist() == [100, 100, 100, 10, 10]


@given(st.integers(1, 5000), st.floats(1, 1e6), st.integers(1, 300))
def test_counts_fall_from_n_max_and_never_reach_zero(
    n_max: int, imbalance: float, n_classes: int
) -> None:
    counts = longtail_counts(n_max, imbalance, n_classes)

    assert counts.shape == (n_classes,)
    assert counts[0] == n_max
    assert counts.min() >= 1
    assert (np.diff(counts) <= 0).all()


@pytest.mark.parametrize(
    ("n_max", "imbalance", "n_classes"), [(0, 10, 3), (9, 0.5, 3), (9, np.nan, 3), (9, 10, 0)]
)
def test_impossible_tails_are_refused(n_max: int, imbalance: float, n_classes: int) -> None:
    with pytest.raises(InputError, match="a long tail needs"):
        longtail_counts(n_max, imbalance, n_classes)


def test_unknown_profile_names_the_near_one() -> None:
    with pytest.raises(InputError, match="did you mean exponential"):
        longtail_counts(9, 10, 3, "exponentail")


def test_ranks_are_a_permutation_within_each_class(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 5, 200)

    ranks = random_ranks(labels, seed)

    for c in range(5):
        assert sorted(ranks[labels == c]) == list(range((labels == c).sum()))


def test_ranks_follow_the_seed() -> None:
    labels = np.repeat(np.arange(4), 30)[np.random.default_rng(1).permutation(120)]

    ranks = random_ranks(labels, 3)

    assert random_ranks(labels, 3).tolist() == ranks.tolist()
    assert random_ranks(labels, 4).tolist() != ranks.tolist()
