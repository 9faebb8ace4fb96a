"""Extraction and import, killed at random moments and run again: bit for bit the same?

One process imports everything once and forks a child for each run, so that a trial takes as long
as the work itself. ``python -m tests.faults.kills extract FOLDER TRIALS WORKERS SEED`` prints JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featbank import Bank, schema
from featbank.backbones import build_model
from featbank.checkpoint import LAST, Checkpoint, write_checkpoint
from featbank.config import TrainConfig
from featbank.data import open_data
from featbank.data.types import ImageData
from featbank.extract import extract
from featbank.importing import import_features
from featbank.provenance import data_record
from featbank.schema import JOURNAL, MANIFEST
from tests.banks import DIM, write_npz
from tests.test_stage1.images import write_data

COUNTS = {"train": [30, 18, 8], "val": [5, 5, 5], "test": [7, 6, 7]}


def prepare_extract(folder: Path, workers: int) -> Callable[[Path], object]:
    """Images, a checkpoint of a small network on them, and its extraction into small chunks."""
    schema.CHUNK_BYTES = 4 * 64 * 4  # rows come in batches of 4, and at least one batch a chunk
    params = write_data(folder / "data", COUNTS)
    spec = {"name": "imagelist", "params": params}
    write_network(folder / "run", spec, open_data(**spec))
    return lambda out: extract(
        folder / "run", out, which="last", device="cpu", batch_size=4, workers=workers
    )


def write_network(run: Path, spec: dict[str, Any], data: ImageData) -> None:
    """Write a checkpoint of a network that was never trained: its features are as good here."""
    torch.manual_seed(0)
    config = TrainConfig(backbone="tiny-cnn", image_size=32)
    record = {
        "config": config.to_json(),
        "data_spec": spec,
        "data": data_record(data),
        "class_names": list(data.class_names),
        "epoch": 0,
        "input": {"size": 32, "mean": [0.5] * 3, "std": [0.25] * 3},
    }
    model = build_model("tiny-cnn", len(data.class_names), 32)
    run.mkdir(exist_ok=True)
    write_checkpoint(run / LAST, Checkpoint(record, model.state_dict()))


def prepare_import(folder: Path, workers: int) -> Callable[[Path], object]:
    """A file of features, and its import into small chunks."""
    schema.CHUNK_BYTES = 4 * DIM * 4
    source = write_npz(folder / "features.npz")
    return lambda out: import_features(source, out)


def fork(work: Callable[[], object]) -> int:
    """Run some work in a child; return its process number."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        # killed after the manifest and before the journal is taken away, a bank is complete
        if file.is_file() and not (file.name == JOURNAL and (folder / MANIFEST).exists())
    }


def finish(work: Callable[[], object]) -> None:
    """Run some work in a child to its end, which must be good."""
    status = os.waitpid(fork(work), 0)[1]
    if status:
        message = f"a run that was not killed ended with status {status}"
        raise SystemExit(message)


def trial(run: Callable[[Path], object], out: Path, delay: float, want: dict[str, bytes]) -> str:
    """Kill a run after a while, look at what it left, and go on at once."""
    child = fork(lambda: run(out))
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    state = "finished before" if status == 0 else "before the first byte"
    if status and out.exists() and any(out.iterdir()):
        state = "mid-run"
        if (out / MANIFEST).exists():
            Bank.open(out)
            state = "in its last moments"
    if status == signal.SIGKILL and state != "in its last moments":
        finish(lambda: run(out))
    if contents(out) != want:
        shutil.copytree(out, out.with_name(f"{out.name}-differs"))
        state += ", differs"
    shutil.rmtree(out)
    return state


def orphaned() -> int:
    """Count the processes of this session that are left some seconds after the last trial."""
    for _ in range(100):
        session = os.getsid(0)
        stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        count = sum(int(each[3]) == session and each[0] != "Z" for each in fields) - 1
        if not count:
            break
        time.sleep(0.1)
    return count


def main(kind: str, folder: str, trials: str, workers: str, seed: str) -> None:
    torch.set_num_threads(1)
    base, dice = Path(folder), np.random.default_rng(int(seed))
    prepare = {"extract": prepare_extract, "import": prepare_import}[kind]
    run = prepare(base, int(workers))
    finish(lambda: run(base / "warm"))
    started = time.monotonic()
    finish(lambda: run(base / "whole"))
    length = time.monotonic() - started
    want = contents(base / "whole")
    states: dict[str, int] = {}
    for number in range(int(trials)):
        state = trial(run, base / f"bank{number}", float(dice.uniform(0, 1.05 * length)), want)
        states[state] = states.get(state, 0) + 1
    orphans = orphaned()
    print(
        json.dumps(
            {
                "trials": int(trials),
                "states": states,
                "orphans": orphans,
                "seconds": round(length, 2),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
