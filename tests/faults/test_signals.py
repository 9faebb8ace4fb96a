"""Ctrl-C and SIGTERM during an extraction by the command line."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from featbank import Bank, IncompleteBankError
from featbank.extraction.extract import extract
from featbank.store import schema
from featbank.store.schema import JOURNAL
from tests.faults.world import contents

CHUNK_BYTES = 4 * 64 * 4

# The command itself, with small chunks, and slow enough to be interrupted.
COMMAND = f"""
import time
from featbank.extraction import runner as extraction
from featbank.store import schema
schema.CHUNK_BYTES, features = {CHUNK_BYTES}, extraction.Extraction.features
def slowly(job, batch):
    time.sleep(0.2)
    return features(job, batch)
extraction.Extraction.features = slowly
from cli.main import main
main()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and a checkpoint of a small network on them."""
    from featbank.data import open_data
    from tests.faults.kills import COUNTS, write_network
    from tests.test_stage1.images import write_data

    folder = tmp_path_factory.mktemp("signals")
    spec = {"name": "imagelist", "params": write_data(folder / "data", COUNTS)}
    write_network(folder / "run", spec, open_data(**spec))
    return folder / "run"


def start(run: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMAND, "extract", str(run), "--out", str(out)]
    command += ["--which", "last", "--batch-size", "4", "--device", "cpu", "--workers"]
    command += [str(workers), "--quiet"]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, start_new_session=True)


def wait_for_chunks(out: Path, process: subprocess.Popen[str], count: int) -> None:
    for _ in range(600):
        journal = out / JOURNAL
        if journal.exists() and journal.read_bytes().count(b"\n") > count:
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no chunk was written: {process.communicate()[1][-500:]}")


@pytest.mark.parametrize(
    ("sent", "code", "said", "workers"),
    [
        (signal.SIGINT, 130, "interrupted", 0),
        (signal.SIGTERM, 143, "terminated", 2),
        pytest.param(signal.SIGINT, 130, "interrupted", 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, "terminated", 0, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_an_extraction_in_seconds_and_it_goes_on(
    run: Path,
    tmp_path: Path,
    sent: int,
    code: int,
    said: str,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
    figure: Callable[[str], None],
) -> None:
    out = tmp_path / "bank"
    process = start(run, out, workers)
    wait_for_chunks(out, process, 4)
    began = time.monotonic()
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    seconds = time.monotonic() - began

    assert process.returncode == code, errors
    assert f"{said}: nothing unfinished counts as complete; run the same command again" in errors
    assert "Traceback" not in errors
    assert seconds < 10
    with pytest.raises(IncompleteBankError, match="is an unfinished bank"):
        Bank.open(out)
    kept = (out / JOURNAL).read_bytes().count(b"\n")
    monkeypatch.setattr(schema, "CHUNK_BYTES", CHUNK_BYTES)
    for path in (out, tmp_path / "whole"):
        extract(run, path, which="last", device="cpu", batch_size=4)
    assert contents(out) == contents(tmp_path / "whole")
    figure(
        f"{signal.Signals(sent).name}, {workers} workers: exit {code} after {seconds:.1f} s, "
        f"{kept} journal lines kept, gone on with"
    )
