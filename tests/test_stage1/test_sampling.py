import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featbank.data.sampling import (
    STRATEGIES,
    ClassIndex,
    class_aware_draws,
    drawn_rows,
    epoch_indices,
    strategy_probabilities,
)
from featbank.errors import InputError
from heads.balancing.class_frequency import class_probabilities

COUNTS = np.array([40, 12, 5, 1])
LABELS = np.repeat(np.arange(4), COUNTS)[np.random.default_rng(7).permutation(58)]


@pytest.mark.parametrize("q", [1, 0, 0.5, 0.3, -1])
def test_probabilities_are_powers_of_the_counts(q: float) -> None:
    want = [n**q / sum(m**q for m in COUNTS.tolist()) for n in COUNTS.tolist()]

    np.testing.assert_allclose(class_probabilities(COUNTS, q), want, rtol=1e-14)


@pytest.mark.parametrize("q", [1, 0, 0.5, -1])
def test_an_empty_class_is_never_drawn(q: float) -> None:
    assert class_probabilities(np.array([3, 0, 2]), q)[1] == 0


@pytest.mark.parametrize(
    ("strategy", "q"), [("instance", 1), ("class", 0), ("sqrt", 0.5), ("q=0.3", 0.3)]
)
def test_names_stand_for_exponents(strategy: str, q: float) -> None:
    got = strategy_probabilities(COUNTS, strategy, 0, 1)

    np.testing.assert_array_equal(got, class_probabilities(COUNTS, q))


def test_progressive_goes_from_instance_to_class() -> None:
    first, half = (strategy_probabilities(COUNTS, "progressive", t, 10) for t in (0, 5))

    np.testing.assert_allclose(first, COUNTS / 58)
    np.testing.assert_allclose(half, COUNTS / 58 / 2 + 1 / 8)


def test_reversed_is_n_max_over_n() -> None:
    weights = 40 / COUNTS

    got = strategy_probabilities(COUNTS, "reversed", 0, 1)

    np.testing.assert_allclose(got, weights / weights.sum())


def test_instance_sampling_is_a_permutation_of_all_rows() -> None:
    for strategy in ("instance", "q=1"):
        assert sorted(epoch_indices(LABELS, strategy, 0, 3)) == list(range(58))


@pytest.mark.parametrize("strategy", [*STRATEGIES, "q=0.3"])
def test_an_epoch_is_as_long_as_the_data_or_as_asked(strategy: str) -> None:
    assert len(epoch_indices(LABELS, strategy, 0, 0)) == 58
    assert len(epoch_indices(LABELS, strategy, 0, 0, length=131)) == 131


@pytest.mark.parametrize("strategy", [*STRATEGIES, "q=0.3"])
def test_order_is_a_function_of_seed_and_epoch_alone(strategy: str) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return epoch_indices(LABELS, strategy, seed, epoch, epochs=9).tolist()

    want = order(0, 4)
    order(0, 1), order(5, 4)

    assert order(0, 4) == want
    assert order(0, 5) != want
    assert order(1, 4) != want


def test_order_is_the_same_in_another_process() -> None:
    code = (
        "import numpy as np; from featbank.data.sampling import *;"
        "y = np.arange(40) % 7;"
        "print([epoch_indices(y, s, 3, 2, epochs=5).tolist() for s in STRATEGIES])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    here = [epoch_indices(np.arange(40) % 7, s, 3, 2, epochs=5).tolist() for s in STRATEGIES]

    assert done.strip() == str(here)


@pytest.mark.parametrize("strategy", ["class", "sqrt", "reversed", "q=0.3"])
def test_draws_have_the_stated_frequencies_within_and_between_classes(
    strategy: str, seed: int
) -> None:
    n_draws = 200_000
    p = strategy_probabilities(COUNTS, strategy, 0, 1)
    per_row = (p / COUNTS)[LABELS]

    drawn = np.bincount(epoch_indices(LABELS, strategy, seed, 0, length=n_draws), minlength=58)

    # Five standard deviations of a binomial.
    slack = 5 * np.sqrt(n_draws * per_row * (1 - per_row))
    assert (np.abs(drawn - n_draws * per_row) <= slack).all()


def test_draws_are_in_no_order() -> None:
    rows = drawn_rows(ClassIndex.of(LABELS), np.full(4, 0.25), np.random.default_rng(0), 20_000)

    # The share of neighbours of one class is that of independent draws: 1/4.
    assert abs((np.diff(LABELS[rows]) == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20_000)


def test_class_aware_shows_each_class_once_a_cycle_k_images_at_a_time() -> None:
    rows = class_aware_draws(ClassIndex.of(LABELS), 0, 0, 4 * 4 * 50, per_class=4)
    classes = LABELS[rows].reshape(50, 4, 4)

    assert (classes == classes[:, :, :1]).all()
    assert (np.sort(classes[:, :, 0], axis=1) == np.arange(4)).all()
    assert len({tuple(cycle) for cycle in classes[:, :, 0].tolist()}) > 15


def test_class_aware_runs_through_a_class_before_it_repeats() -> None:
    rows = class_aware_draws(ClassIndex.of(LABELS), 0, 0, 4 * 4 * 60, per_class=4)

    for c, n in enumerate(COUNTS.tolist()):
        own = rows[LABELS[rows] == c]
        cycles = own[: len(own) // n * n].reshape(-1, n)
        assert (np.sort(cycles, axis=1) == np.flatnonzero(c == LABELS)).all()


@given(st.integers(0, 400), st.integers(1, 300), st.integers(1, 5), st.integers(0, 99))
def test_any_stretch_of_the_class_aware_stream_follows_from_its_position(
    start: int, length: int, per_class: int, seed: int
) -> None:
    index = ClassIndex.of(LABELS)
    stream = class_aware_draws(index, seed, 0, 700, per_class)

    stretch = class_aware_draws(index, seed, start, length, per_class)

    assert stretch.tolist() == stream[start : start + length].tolist()


def test_class_aware_epochs_carry_on_where_the_last_one_ended() -> None:
    whole = epoch_indices(LABELS, "class-aware", 0, 0, length=300)
    parts = [epoch_indices(LABELS, "class-aware", 0, e, length=100) for e in range(3)]

    assert np.concatenate(parts).tolist() == whole.tolist()


def test_class_aware_leaves_out_classes_without_images() -> None:
    labels = np.array([0, 0, 3, 3, 3])

    assert set(labels[epoch_indices(labels, "class-aware", 0, 0, length=40)]) == {0, 3}


@pytest.mark.parametrize("strategy", ["clas", "q=", "q=nan", "q=a", ""])
def test_unknown_samplers_are_refused(strategy: str) -> None:
    with pytest.raises(InputError, match="sampler"):
        epoch_indices(LABELS, strategy, 0, 0)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="no training rows"):
        epoch_indices(np.array([], dtype=np.int64), "class", 0, 0)
