"""Powers of counts and effective numbers against exact rational arithmetic."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from featbank.stage1.losses import effective_number_weights
from heads.balancing.class_frequency import class_probabilities, effective_number

COUNTS = [1280, 5, 0, 1, 10**9]


@pytest.mark.parametrize("q", [-120, -1, 0, 1, 2, 120])
def test_powers_of_counts_are_right_at_every_exponent(q: int) -> None:
    powers = [Fraction(n) ** q if n else Fraction(0) for n in COUNTS]
    want = [float(power / sum(powers)) for power in powers]

    got = class_probabilities(np.array(COUNTS), q)

    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-300)
    assert got[2] == 0


def test_a_large_power_leaves_the_most_frequent_class() -> None:
    assert class_probabilities(np.array([1280, 5]), 120) == pytest.approx([1, 0])


def exact(n: int, beta: float) -> float:
    """Return the effective number in 60 digits."""
    with localcontext() as context:
        context.prec = 60
        base = Decimal(beta)
        return float((1 - base**n) / (1 - base))


@pytest.mark.parametrize("beta", [1e-300, 0.5, 0.9999, 1 - 1e-12, 1 - 2**-53])
def test_effective_numbers_are_right_for_every_base(beta: float) -> None:
    want = [exact(n, beta) if n else 0.0 for n in COUNTS]

    np.testing.assert_allclose(effective_number(COUNTS, beta), want, rtol=1e-12)


def test_effective_numbers_have_their_limits() -> None:
    assert effective_number(COUNTS, 0).tolist() == [1, 1, 0, 1, 1]
    assert effective_number(COUNTS, 1).tolist() == COUNTS


@pytest.mark.parametrize("beta", [0, 0.9, 0.9999, 1])
def test_stage_1_weighs_by_the_same_effective_numbers(beta: float) -> None:
    counts = np.array([1280, 5, 1])
    weights = effective_number_weights(counts, beta)

    assert weights.sum() == pytest.approx(3)
    np.testing.assert_allclose(
        weights * effective_number(counts, beta) / weights[0], effective_number(counts, beta)[0]
    )
