import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # else scikit-learn skips its array API checks

from collections.abc import Iterator

import numpy as np
import pytest
import torch


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `seed` runs with one seed, or with twenty when asked."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize(
            "seed", range(20) if os.environ.get("FEATBANK_SEEDS") == "all" else [0]
        )


@pytest.fixture(autouse=True)
def torch_is_isolated() -> Iterator[None]:
    """No test changes another's draws, and nothing moves the process-wide generator."""
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator that follows `seed` where the test has one."""
    seed = request.node.callspec.params.get("seed", 0) if hasattr(request.node, "callspec") else 0
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
