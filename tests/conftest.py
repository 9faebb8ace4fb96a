import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # else scikit-learn skips its array API checks

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

# What each signal does in a program that a terminal starts.
USUAL_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGALRM: signal.SIG_DFL,
    signal.SIGCHLD: signal.SIG_DFL,
}


def pytest_configure() -> None:
    restore_signals()
    # Earlier failures would be kept in the current folder, which need not be writable.
    settings.register_profile("no-files", settings.default, database=None)
    settings.load_profile("no-files")


def restore_signals() -> None:
    """Let the signals act that tests send, in this process and in those that it starts.

    A shell starts a job in the background with SIGINT ignored, and an ignored or blocked signal
    stays so in child processes. SIGHUP is left as it is, since `nohup` ignores it to some purpose.
    """
    for number, usual in USUAL_HANDLERS.items():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, USUAL_HANDLERS)


@pytest.fixture(scope="session", autouse=True)
def devices_stay() -> Iterator[None]:
    """No test replaces a device of the machine, as root may: a test makes one of its own."""
    devices = [path for path in (Path("/dev/null"), Path("/dev/zero")) if path.exists()]
    before = [path.lstat() for path in devices]
    yield
    for path, old in zip(devices, before, strict=True):
        now = path.lstat()
        assert (now.st_ino, now.st_mode, now.st_rdev) == (old.st_ino, old.st_mode, old.st_rdev)


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
