"""Every head keeps scikit-learn's contract; no check is excused."""

from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

import heads

ESTIMATORS = [getattr(heads, name) for name in heads.__all__ if name[0].isupper()]


@parametrize_with_checks(
    [*(estimator() for estimator in ESTIMATORS), heads.NearestClassMean(transform="l2n")]
)
def test_sklearn_contract(estimator: BaseEstimator, check: Callable[[Any], None]) -> None:
    check(estimator)
