"""The tests run however they are started: in the background, or without standard streams."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.conftest import USUAL_HANDLERS, restore_signals

# Prints the tested signals that are ignored or blocked in a new process.
ASK = f"""
import signal
numbers = {[int(number) for number in USUAL_HANDLERS]}
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
print([n for n in numbers if n in blocked or signal.getsignal(n) == signal.SIG_IGN])
"""


def deaf_in_a_child() -> str:
    command = [sys.executable, "-S", "-c", ASK]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def started_deaf() -> Iterator[None]:
    """Make this process as one that a shell started with these signals ignored and blocked."""
    before = {number: signal.getsignal(number) for number in USUAL_HANDLERS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, USUAL_HANDLERS)
    for number in USUAL_HANDLERS:
        signal.signal(number, signal.SIG_IGN)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_signals_act_in_this_process_and_in_its_children() -> None:
    for number in USUAL_HANDLERS:
        assert signal.getsignal(number) != signal.SIG_IGN
    assert deaf_in_a_child() == "[]"


@pytest.mark.usefixtures("started_deaf")
def test_signals_that_were_ignored_or_blocked_act_again() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nothing could be learnt of the child
    assert str(int(signal.SIGINT)) in deaf_in_a_child()

    restore_signals()

    assert {number: signal.getsignal(number) for number in USUAL_HANDLERS} == USUAL_HANDLERS
    assert deaf_in_a_child() == "[]"


def test_a_handler_of_the_programs_own_stays() -> None:
    def handler(*_: object) -> None:
        pass

    before = signal.signal(signal.SIGALRM, handler)
    try:
        restore_signals()
        assert signal.getsignal(signal.SIGALRM) is handler
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("target", ["test", "test-all"])
@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_make_starts_the_tests_with_an_output_and_an_error(
    tmp_path: Path, target: str, closed: str
) -> None:
    """The environment of the tests is a stand-in here, whose Python tells that it has both."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    for stamp in ("pyvenv.cfg", ".run-installed", ".dev-installed"):
        (tmp_path / "venv" / stamp).touch()
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text('#!/bin/sh\n(true 3>&1) && (true 3>&2) && echo "$@" > "$TOLD"\n')
    python.chmod(0o755)
    script = f'exec make -C "$@" {closed}'
    folder, variable = Path(__file__).parents[1], f"VENV={tmp_path / 'venv'}"
    command = ["bash", "-c", script, "-", str(folder), target, variable]
    environment = {"PATH": os.environ["PATH"], "TOLD": str(tmp_path / "told")}

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "told").read_text().startswith("-m pytest -q")


def test_nothing_is_kept_in_the_current_folder() -> None:
    assert settings.default.database is None
