"""Commands killed at random moments and run again: is the old thing there, or the new one, whole?

One process imports everything once and forks a child for each run, so that a trial takes as long
as the work itself. ``python -m tests.faults.kills KIND FOLDER TRIALS WORKERS SEED HOW CUT`` prints
JSON. HOW is ``fresh`` (nothing is there before) or ``overwrite`` (something older is, which the
command replaces, with notes of the user's in it and beside it). CUT is ``time`` (killed after a
random time), ``steps`` (killed before one of its operations on the disk, of which the trials take
as many as there are trials, from the first to the last) or ``fails`` (that operation and all later
ones fail, as on a full disk). `KINDS` has the commands.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featbank import Bank, FeatbankError
from featbank.backbones.backbones import build_model
from featbank.bank.export import export_npz
from featbank.data import open_data
from featbank.data.provenance import data_record
from featbank.data.types import ImageData
from featbank.extraction.extract import extract
from featbank.files import exchanging
from featbank.files.marks import MARK, NEXT
from featbank.importing import import_features
from featbank.runs.checkpoint import LAST, Checkpoint, write_checkpoint
from featbank.runs.run_files import EVENTS
from featbank.stage1.config import TrainConfig
from featbank.stage1.train import train
from featbank.store import schema
from featbank.store.schema import JOURNAL, MANIFEST
from tests.banks import DIM, write_bank, write_npz
from tests.test_stage1.images import accuracies, write_data

COUNTS = {"train": [30, 18, 8], "val": [5, 5, 5], "test": [7, 6, 7]}


@dataclass(frozen=True)
class Work:
    """A command whose runs are killed.

    `run` writes what is wanted to a path, and is told whether to overwrite; `old` writes something
    older there. The output, a folder or a file, has the name `name`.
    """

    run: Callable[[Path, bool], object]
    old: Callable[[Path], object]
    name: str = "out"


def prepare_extract(folder: Path, workers: int) -> Work:
    """Images, a checkpoint of a small network on them, and its extraction into small chunks."""
    schema.CHUNK_BYTES = 4 * 64 * 4  # rows come in batches of 4, and at least one batch a chunk
    params = write_data(folder / "data", COUNTS)
    spec = {"name": "imagelist", "params": params}
    write_network(folder / "run", spec, open_data(**spec))
    how: dict[str, Any] = {"which": "last", "device": "cpu", "batch_size": 4}
    return Work(
        lambda out, over: extract(folder / "run", out, workers=workers, overwrite=over, **how),
        lambda out: extract(folder / "run", out, dtype="float32", **how),
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


def prepare_import(folder: Path, workers: int) -> Work:
    """A file of features, and its import into small chunks."""
    schema.CHUNK_BYTES = 12 * DIM * 4
    source = write_npz(folder / "features.npz")
    older = write_npz(folder / "older.npz", weight=np.ones((5, DIM), np.float32), bias=np.ones(5))
    return Work(
        lambda out, over: import_features(source, out, overwrite=over),
        lambda out: import_features(older, out),
    )


def prepare_train(folder: Path, workers: int) -> Work:
    """Images, and a training of two epochs that saves after every second step."""
    if EVENTS_ARE_WRITTEN:
        importlib.import_module("torch.utils.tensorboard")
    params = write_data(folder / "data", COUNTS)
    spec = {"name": "imagelist", "params": params}
    images = open_data(**spec)

    def run(out: Path, over: bool, seed: int = 0) -> None:
        config = TrainConfig(
            backbone="tiny-cnn", image_size=16, epochs=2, batch_size=8, lr=0.05, warmup_epochs=0,
            workers=workers, checkpoint_every="2", seed=seed,
        )  # fmt: skip
        how: dict[str, Any] = {"device": "cpu", "metrics": accuracies, "overwrite": over}
        train(images, spec, config, out, resume=not over, **how)

    return Work(run, lambda out: run(out, False, 1))


def prepare_export(folder: Path, workers: int) -> Work:
    """A bank, and its export into a file."""
    bank, older = write_bank(folder / "bank"), write_bank(folder / "older", dtype="float16")
    return Work(
        lambda out, over: export_npz(bank, out, overwrite=over),
        lambda out: export_npz(older, out),
        "out.npz",
    )


EVENTS_ARE_WRITTEN = find_spec("tensorboard") is not None

KINDS: dict[str, Callable[[Path, int], Work]] = {
    "extract": prepare_extract,
    "import": prepare_import,
    "train": prepare_train,
    "export": prepare_export,
}


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


def contents(out: Path) -> dict[str, bytes]:
    """Return what is at a path, but for what a kill may leave for the next run to take away."""
    if out.is_file():
        return {"": out.read_bytes()}
    return {
        str(file.relative_to(out)): file.read_bytes()
        for file in out.rglob("*")
        # killed after the manifest and before the journal is taken away, a bank is complete
        if file.is_file()
        and not (file.name == JOURNAL and (out / MANIFEST).exists())
        and not file.name.startswith((EVENTS, MARK, NEXT))  # TensorBoard's names tell the time
    }


def finish(work: Callable[[], object]) -> None:
    """Run some work in a child to its end, which must be good."""
    status = os.waitpid(fork(work), 0)[1]
    if status:
        message = f"a run that was not killed ended with status {status}"
        raise SystemExit(message)


Cut = Callable[[Callable[[], object]], bool]
"""Begins some work and cuts it short; tells whether it had not ended before."""


def after(delay: float) -> Cut:
    """Kill the work after some seconds."""

    def cut(work: Callable[[], object]) -> bool:
        child = fork(work)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        return was_cut(child)

    return cut


def at_step(step: int, *, fails: bool) -> Cut:
    """Kill the work before an operation on the disk, or let that and all later ones fail."""

    def stop() -> None:
        if fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), signal.SIGKILL)

    def cut(work: Callable[[], object]) -> bool:
        return was_cut(fork(lambda: stepwise(work, step, stop)))

    return cut


def was_cut(child: int) -> bool:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, REFUSED, -signal.SIGKILL):
        message = f"a run ended with status {status} before it was killed"
        raise SystemExit(message)
    return status != 0


OPERATIONS = ("write", "fsync", "replace", "rename", "link", "unlink", "rmdir", "mkdir")
REFUSED = 3


def stepwise(work: Callable[[], object], step: int, stop: Callable[[], object]) -> int:
    """Do some work, calling `stop` before operation `step` and all later ones; count them."""
    count = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count > step:
                stop()
            return real(*args, **more)

        return operation

    for name in OPERATIONS:
        setattr(os, name, wrap(getattr(os, name)))
    exchanging._exchange_names = wrap(exchanging._exchange_names)
    try:
        work()
    except (FeatbankError, OSError):
        os._exit(REFUSED)
    return count


def steps_of(work: Callable[[], object], told: Path) -> int:
    """Count the operations of some work."""
    finish(lambda: told.write_text(str(stepwise(work, 1 << 60, lambda: None))))
    return int(told.read_text())


def fresh_trial(work: Work, out: Path, cut: Cut, want: dict[str, bytes]) -> str:
    """Cut a run short where nothing was, look at what it left, and go on at once."""
    was = cut(lambda: work.run(out, False))
    state = "before the first byte" if was else "finished before"
    if was and any(out.parent.iterdir()):
        state = "mid-run"
        if out.exists() and contents(out) == want:
            state = "in its last moments"
            if (out / MANIFEST).exists():
                Bank.open(out)
    if was and state != "in its last moments":
        finish(lambda: work.run(out, False))
    return state if contents(out) == want else f"{state}, differs"


NOTES = ("note.txt", "notes/mine.txt")


def overwrite_trial(work: Work, out: Path, cut: Cut, want: dict[str, bytes]) -> str:
    """Cut short a run that replaces something older; see that this or the new one is there."""
    work.old(out)
    (out.parent / "beside.txt").write_text("mine")
    notes = {}
    if out.is_dir():
        notes = dict.fromkeys(NOTES, b"mine")
        (out / "notes").mkdir()
        for name in notes:
            (out / name).write_bytes(b"mine")
    before, after = contents(out), want | notes
    was = cut(lambda: work.run(out, True))
    state = "mid-run" if len(os.listdir(out.parent)) > 2 else "before the first byte"
    state = state if was else "finished before"
    now = contents(out)
    state += ", the new one there" if now == after else ", the old one there"
    if now not in (before, after):
        state += ", differs"
    finish(lambda: work.run(out, True))
    if contents(out) != after or (out / MARK).exists():
        state += ", differs when run again"
    if sorted(os.listdir(out.parent)) != sorted([out.name, "beside.txt"]):
        state += ", leftovers differ"
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


def cuts(kind: str, work: Work, base: Path, length: float, trials: int, seed: int) -> list[Cut]:
    """Return where the runs of a campaign are cut short."""
    if kind == "time":
        dice = np.random.default_rng(seed)
        return [after(float(dice.uniform(0, 1.05 * length))) for _ in range(trials)]
    place = base / "counted" / work.name
    place.parent.mkdir()
    work.old(place)
    count = steps_of(lambda: work.run(place, True), base / "steps")
    steps = sorted({int(step) for step in np.linspace(0, count - 1, trials)})
    return [at_step(step, fails=kind == "fails") for step in steps]


def main(
    kind: str, folder: str, trials: str, workers: str, seed: str, how: str, cut: str = "time"
) -> None:
    torch.set_num_threads(1)
    base = Path(folder)
    work = KINDS[kind](base, int(workers))
    lengths = []
    for name in ("warm", "whole", "timed", "timed-again"):
        (base / name).mkdir()
        started = time.monotonic()
        finish(lambda out=base / name / work.name: work.run(out, False))
        lengths.append(time.monotonic() - started)
    length = min(lengths)  # the machine may be busy with other things, now or when they are killed
    want = contents(base / "whole" / work.name)
    trial = {"fresh": fresh_trial, "overwrite": overwrite_trial}[how]
    states: Counter[str] = Counter()
    for number, each in enumerate(cuts(cut, work, base, length, int(trials), int(seed))):
        parent = base / f"trial{number}"
        parent.mkdir()
        state = trial(work, parent / work.name, each, want)
        states[state] += 1
        if "differ" not in state:
            shutil.rmtree(parent)
    found = {"trials": states.total(), "states": states, "orphans": orphaned()}
    print(json.dumps({**found, "seconds": round(length, 2)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
