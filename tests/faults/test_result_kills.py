"""The commands that write results, killed at random: the old or the new is there, whole."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import SEED
from tests.faults.result_kills import KINDS

QUICK = {("fit", "overwrite"): 4, ("compare", "added"): 4}


def campaign(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults.result_kills", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize(
    ("command", "how", "trials"),
    [
        *((*kind, trials) for kind, trials in QUICK.items()),
        *(pytest.param(*kind, 100, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_a_killed_command_leaves_the_old_or_the_new(
    tmp_path: Path, command: str, how: str, trials: int, figure: Callable[[str], None]
) -> None:
    found = campaign(command, how, tmp_path, trials, SEED)
    states = found["states"]
    good = ("the old", "the new", "nothing", "finished before")
    sound = sum(count for state, count in states.items() if state in good)
    listed = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    figure(
        f"{command}, {how}: {trials} kills over {found['seconds']} s and {found['operations']} "
        f"operations ({listed}), {sound} of {trials} whole, and after the next run alone"
    )
    assert sound == trials, states
    assert ("nothing" in states) == (how in ("fresh", "beside"))
