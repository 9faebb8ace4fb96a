"""Several processes extract together, one is killed, another number of them goes on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import SEED

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]


@pytest.mark.parametrize("trials", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_lost_process_ends_the_job_and_others_go_on_to_the_same_bytes(
    tmp_path: Path, trials: int, figure: Callable[[str], None]
) -> None:
    command = [sys.executable, "-m", "tests.faults.lost_ranks", str(tmp_path), str(trials)]
    done = subprocess.run(
        [*command, str(SEED)], capture_output=True, text=True, timeout=900, check=False,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    states = found["states"]
    listed = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    figure(
        f"{trials} extractions by 2 or 3 processes, one killed ({listed}); the others ended "
        f"within {found['longest']:.1f} s of it"
    )
    assert found["same"]
    assert found["orphans"] == 0
    wrong = ("differs", "opened", "failed", "ended")
    assert not [state for state in states if any(word in state for word in wrong)]
    assert all("run the same command again to go on" in line for line in found["said"])
    assert found["longest"] < 30


@pytest.mark.slow
def test_torchrun_extracts_the_bank_of_one_process(tmp_path: Path) -> None:
    from featbank.data import open_data
    from featbank.extraction.extract import extract
    from tests.faults.kills import COUNTS, write_network
    from tests.faults.world import contents
    from tests.test_stage1.images import write_data

    spec = {"name": "imagelist", "params": write_data(tmp_path / "data", COUNTS)}
    (tmp_path / "data/train set/c0_1.jpg").write_text("no image")
    write_network(tmp_path / "run", spec, open_data(**spec))
    extract(tmp_path / "run", tmp_path / "one", device="cpu", on_bad_image="skip")
    command = ["-m", "cli", "extract", str(tmp_path / "run"), "--device", "cpu"]
    command += ["--on-bad-image", "skip", "--out", str(tmp_path / "two")]

    done = subprocess.run([*TORCHRUN, *command], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("features a row") == 1
    assert done.stderr.count("left out: cannot read image") == 1
    assert contents(tmp_path / "one") == contents(tmp_path / "two")

    command[command.index(str(tmp_path / "two"))] = str(tmp_path / "one")
    (tmp_path / "one" / "note").write_text("mine")
    extract(
        tmp_path / "run", tmp_path / "three", device="cpu", on_bad_image="skip", seed=1, views=1
    )
    over = ["--overwrite", "--seed", "1", "--views", "1"]
    done = subprocess.run([*TORCHRUN, *command, *over], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    assert "one stays until the new bank is whole, which is built in" in done.stderr
    assert contents(tmp_path / "one") == contents(tmp_path / "three") | {"note": b"mine"}
    assert not list(tmp_path.glob(".*"))
