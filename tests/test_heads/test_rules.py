"""Rules that choose on a curve: what each takes, and what its draws depend on."""

import numpy as np
import pytest

from heads.curves.curve import exact_tau_curve
from heads.curves.rules import RULES, choose_on_curve


def test_the_rule_that_draws_follows_its_seed_and_the_others_draw_nothing(
    rng: np.random.Generator,
) -> None:
    y = np.repeat(np.arange(4), 50)
    X = rng.normal(size=(200, 5)) + 0.8 * np.eye(5)[y]
    curve = exact_tau_curve(np.eye(4, 5) * [[3], [2], [1], [0.5]] + 0.2, X, y, [200, 90, 30, 9])
    found = {rule: [choose_on_curve(curve, rule, seed=seed) for seed in (0, 0, 1, 2, 3, 4)]
             for rule in RULES}  # fmt: skip
    for rule, (first, again, *others) in found.items():
        assert first == again
        assert all(other.maximum == first.maximum for other in others)
        assert (any(other.best != first.best for other in others)) == (rule == "bootstrap")
    low, high = found["maximum"][0].maximum.interval
    assert found["maximum"][0].best == pytest.approx((low + high) / 2, abs=1e-4)
