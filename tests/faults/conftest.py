import os
from collections.abc import Callable

import numpy as np
import pytest

# What the campaign found, printed at the end of a run: RELIABILITY.md quotes it.
FIGURES: list[str] = []
SEED = int(os.environ.get("FEATBANK_FAULT_SEED", "0"))


@pytest.fixture
def figure() -> Callable[[str], None]:
    return FIGURES.append


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the campaign's seed, another for each test."""
    return np.random.default_rng([SEED, *request.node.name.encode()])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section(f"fault campaign, seed {SEED}")
        for line in FIGURES:
            terminalreporter.line(line)
