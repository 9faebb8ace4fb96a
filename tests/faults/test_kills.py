"""Runs killed by SIGKILL at random moments: the old output or the new one, whole, to the byte."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featbank.errors import LockedError
from featbank.files.lock import FolderLock
from tests.faults.conftest import SEED
from tests.faults.kills import KINDS

SLOW = pytest.mark.slow


def campaign(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults.kills", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1500, check=False, start_new_session=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize(
    ("kind", "workers", "trials", "how"),
    [
        ("extract", 2, 2, "fresh"),
        ("extract", 0, 3, "overwrite"),
        ("train", 0, 3, "overwrite"),
        pytest.param("import", 0, 10, "fresh", marks=SLOW),
        pytest.param("extract", 1, 100, "fresh", marks=SLOW),
        pytest.param("extract", 2, 100, "fresh", marks=SLOW),
        *(
            pytest.param(kind, 0, 100, how, marks=SLOW)
            for kind in KINDS
            for how in ("fresh", "overwrite")
        ),
    ],
)
def test_after_a_kill_the_old_one_or_the_new_one_is_there_and_the_next_run_ends(
    tmp_path: Path, kind: str, workers: int, trials: int, how: str, figure: Callable[[str], None]
) -> None:
    found = campaign(kind, tmp_path, trials, workers, SEED, how)
    states = found["states"]
    listed = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    differ = sum(count for state, count in states.items() if "differ" in state)
    figure(
        f"{kind}, {how}, {workers} workers: {trials} kills ({listed}), {trials - differ} of "
        f"{trials} whole and identical after the next run, {found['orphans']} processes left over"
    )
    assert differ == found["orphans"] == 0, listed
    assert sum(states.values()) == trials
    halfway = sum(count for state, count in states.items() if state.startswith("mid-run"))
    assert halfway >= trials // 12 or trials < 100, listed


@pytest.mark.parametrize(
    ("kind", "trials", "cut"),
    [
        ("import", 5, "steps"),
        ("export", 4, "fails"),
        *(pytest.param(kind, 100, cut, marks=SLOW) for kind in KINDS for cut in ("steps", "fails")),
    ],
)
def test_before_whatever_operation_it_ends_the_old_one_or_the_new_one_is_there(
    tmp_path: Path, kind: str, trials: int, cut: str, figure: Callable[[str], None]
) -> None:
    """Killed before the operation, or that operation and all later ones fail."""
    found = campaign(kind, tmp_path, trials, 0, SEED, "overwrite", cut)
    states = found["states"]
    listed = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    differ = sum(count for state, count in states.items() if "differ" in state)
    figure(
        f"{kind}, overwrite, {cut}: {found['trials']} runs cut short ({listed}), "
        f"{found['trials'] - differ} whole and identical after the next run"
    )
    assert differ == found["orphans"] == 0, listed
    assert {state.rpartition(", ")[2] for state in states} == {
        "the old one there", "the new one there",
    }  # fmt: skip


def test_a_process_forked_by_a_writer_does_not_keep_its_lock(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    ready, leave = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(leave[1])
        os.write(ready[1], b"x")
        os.read(leave[0], 1)  # outlives the lock's owner, as a decoder may
        os._exit(0)
    os.read(ready[0], 1)
    with pytest.raises(LockedError, match="is being written by another process"):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()
    for end in (*ready, *leave):
        os.close(end)
    assert os.waitpid(child, 0)[1] == 0
