"""Long-tailed clouds of points, small enough for the slow references."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Cloud(NamedTuple):
    X: NDArray[np.float64]
    y: NDArray[np.int64]
    X_test: NDArray[np.float64]
    y_test: NDArray[np.int64]
    W: NDArray[np.float64]
    b: NDArray[np.float64]
    counts: NDArray[np.int64]


def cloud(rng: np.random.Generator, n_classes: int = 6, width: int = 5, n_max: int = 60) -> Cloud:
    """Class c has about n_max / 2^c rows, the last class one; every class 20 test rows."""
    counts = np.maximum(n_max >> np.arange(n_classes), 1)
    centres = 2 * rng.normal(size=(n_classes, width)) + 1
    y = rng.permutation(np.repeat(np.arange(n_classes), counts))
    y_test = np.repeat(np.arange(n_classes), 20)
    X = centres[y] + rng.normal(size=(len(y), width))
    X_test = centres[y_test] + rng.normal(size=(len(y_test), width))
    W, b = centres * rng.uniform(0.2, 3, size=(n_classes, 1)), rng.normal(size=n_classes)
    return Cloud(X, y, X_test, y_test, W, b, counts)
