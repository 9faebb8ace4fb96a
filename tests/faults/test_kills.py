"""Runs killed by SIGKILL at random moments, then continued: the same bank to the byte."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featbank._lock import FolderLock
from featbank.errors import LockedError
from tests.faults.conftest import SEED

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
    ("kind", "workers", "trials"),
    [
        ("extract", 0, 3),
        ("extract", 2, 2),
        pytest.param("import", 0, 10, marks=SLOW),
        pytest.param("extract", 0, 100, marks=SLOW),
        pytest.param("extract", 1, 100, marks=SLOW),
        pytest.param("extract", 2, 100, marks=SLOW),
        pytest.param("import", 0, 100, marks=SLOW),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, kind: str, workers: int, trials: int, figure: Callable[[str], None]
) -> None:
    found = campaign(kind, tmp_path, trials, workers, SEED)
    states = found["states"]
    listed = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    differ = sum(count for state, count in states.items() if "differs" in state)
    figure(
        f"{kind}, {workers} workers: {trials} kills ({listed}), "
        f"{trials - differ} of {trials} identical, {found['orphans']} processes left over"
    )
    assert differ == found["orphans"] == 0
    assert sum(states.values()) == trials
    assert states.get("mid-run", 0) >= trials // 3


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
