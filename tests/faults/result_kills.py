"""The commands that write results, killed at random: the old or the new is there, whole.

One process imports everything once and forks a child for each run, as `tests.faults.kills` does.
Half of the kills come at a random time, half before a random operation on the disk.
``python -m tests.faults.result_kills fit overwrite FOLDER TRIALS SEED`` prints JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import heads
from cli.main import main as featbank
from featbank import fit
from featbank.files import exchanging, folders
from featbank.report.build import page_of
from featbank.results.owned import own_mistakes
from tests.banks import write_bank
from tests.faults.kills import finish, fork

Tree = dict[str, Any]
OPERATIONS = ("link", "unlink", "rmdir", "rename", "replace", "mkdir", "fsync", "open")
NOTES = {"note.txt": "mine", "sub/other.head": "mine too"}
OLDER = "<!-- older -->"
TIMED = ("fit_seconds", "sha256")


@dataclass(frozen=True)
class Kind:
    """A command with what is there before it; `old` are its words for making that."""

    old: Sequence[str] | None
    new: Sequence[str]
    notes: bool = False
    again: Sequence[str] = ()


HEADS = ("--head", "ncm", "--head", "tau:tau=0.5")
OTHER = ("--head", "joint", "--head", "ncm:transform=l2n", "--head", "tau:tau=1")
FIT, COMPARE = ("fit", "a.zarr", "--out", "out"), ("compare", "--out", "out", "--bootstrap", "100")
BOTH = ("a.zarr", "b.zarr", "--head", "ncm", "--head", "joint")
MISTAKES = ("mistakes", "a.zarr", "../ncm.head", "--out", "out")
KINDS = {
    ("fit", "fresh"): Kind(None, (*FIT, *HEADS)),
    ("fit", "beside"): Kind(None, (*FIT, *HEADS, "--overwrite"), notes=True),
    ("fit", "overwrite"): Kind((*FIT, *HEADS), (*FIT, *OTHER, "--overwrite"), notes=True),
    ("compare", "fresh"): Kind(None, (*COMPARE, *BOTH)),
    ("compare", "added"): Kind(
        (*COMPARE, "a.zarr", "--head", "ncm"), (*COMPARE, *BOTH), notes=True
    ),
    ("compare", "overwrite"): Kind(
        (*COMPARE, *BOTH), (*COMPARE, *BOTH, "--head", "tau:tau=1", "--overwrite"), notes=True
    ),
    ("mistakes", "overwrite"): Kind(
        (*MISTAKES, "--report", "val"), (*MISTAKES, "--overwrite"), notes=True
    ),
    ("report", "again"): Kind((*COMPARE, *BOTH), ("report", "out"), notes=True),
}  # fmt: skip


def run(place: Path, words: Sequence[str], before: int | None = None) -> int:
    """Run a command in a folder; return how many operations on the disk it made.

    With `before` the process is killed at that operation.
    """
    os.chdir(place)
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **more: Any) -> Any:
            nonlocal count
            if count == before:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return function(*args, **more)

        return step

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    exchanging._exchange_names = counted(exchanging._exchange_names)
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere
        featbank([*words, "--quiet"], standalone_mode=False)
    return count


def counted_run(place: Path, words: Sequence[str]) -> tuple[float, int]:
    """Run a command to its end; return its seconds and the number of its operations."""
    gate, handle = os.pipe()
    started = time.monotonic()
    finish(lambda: os.write(handle, str(run(place, words)).encode()))
    seconds = time.monotonic() - started
    count = int(os.read(gate, 20))
    os.close(gate)
    os.close(handle)
    return seconds, count


def set_up(place: Path, kind: Kind, banks: Path) -> None:
    """Make what is there before the command."""
    place.mkdir()
    for name in ("a.zarr", "b.zarr"):
        (place / name).symlink_to(banks / name)
    if kind.old is not None:
        finish(lambda: run(place, kind.old or ()))
    if kind.notes:
        for name, text in NOTES.items():
            (place / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "out" / name).write_text(text)
    if kind.new[0] == "report":  # another page than the one that is made
        page = place / "out" / "report.html"
        page.write_text(page.read_text() + OLDER)


def tree(out: Path) -> Tree:
    """Return all that is in a folder, without times and what marks unfinished work.

    Of the page, which shows times, only whether it is the one that was there before.
    """
    found: Tree = {}
    for path in folders.files_in(out):
        name, raw = str(path.relative_to(out)), path.read_bytes()
        if name.startswith(".featbank"):
            continue
        if name == "report.html":
            found[name] = raw.endswith(OLDER.encode())
        elif name.endswith(".json"):
            found[name] = timeless(json.loads(raw))
        else:
            found[name] = raw
    return found


def timeless(value: Any) -> Any:
    """Take times, and the digests over them, out of a JSON value."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in TIMED}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def is_whole(out: Path, now: Tree) -> bool:
    """Tell whether every head loads and is recorded, and the page is that of its comparison."""
    for name in now:
        if name.endswith(".head") and now[name] != NOTES["sub/other.head"].encode():
            heads.load(out / name)
    if "results.json" in now:
        recorded = {entry["file"] for entry in now["results.json"]["results"]}
        return recorded == {name for name in now if name.endswith(".head") and "/" not in name}
    if "mistakes.json" in now:
        return set(own_mistakes(out) or ()) == {Path(name) for name in now.keys() - NOTES.keys()}
    if "compare.json" in now:
        page = (out / "report.html").read_text(encoding="utf-8")
        return page.removesuffix(OLDER) == page_of(out)
    return True


def state_of(place: Path, old: Tree, new: Tree) -> str:
    """Say what a killed command left: the old, the new, or something else."""
    out = place / "out"
    if not out.exists():
        return "nothing" if not old else "LOST"
    now, notes = tree(out), {k: v for k, v in old.items() if k in NOTES}
    now = {name: raw for name, raw in now.items() if not name.endswith(".partial")}
    if not now.items() >= notes.items():
        return "LOST A NOTE"
    if now not in (old, new) and not is_unfinished(now, notes, old):
        return "NEITHER"
    if not is_whole(out, now):
        return "BROKEN"
    return "the new" if now == new else "the old" if old != notes else "nothing"


def is_unfinished(now: Tree, notes: Tree, old: Tree) -> bool:
    """Tell whether new files were getting their names in a folder that had none of featbank's."""
    return old == notes and "results.json" not in now and "compare.json" not in now


def trial(place: Path, kind: Kind, kill: dict[str, float], new: Tree) -> str:
    """Kill a command, look at what it left, and run it again."""
    old = tree(place / "out") if (place / "out").exists() else {}
    before = int(kill["operation"]) if "operation" in kill else None
    child = fork(lambda: run(place, kind.new, before))
    if "seconds" in kill:
        time.sleep(kill["seconds"])
        os.kill(child, signal.SIGKILL)
    killed = os.waitpid(child, 0)[1] == signal.SIGKILL
    state = state_of(place, old, new) if killed else "finished before"
    if "--overwrite" in kind.new or kind.new[0] != "fit" or state == "nothing":
        finish(lambda: run(place, kind.new))
    if tree(place / "out") != new or not is_whole(place / "out", new):
        state += ", THEN WRONG"
    if sorted(os.listdir(place)) != ["a.zarr", "b.zarr", "out"]:
        state += ", THEN SOMETHING LEFT"
    return state


def main(command: str, how: str, folder: str, trials: str, seed: str) -> None:
    torch.set_num_threads(1)
    base, dice, kind = Path(folder), np.random.default_rng(int(seed)), KINDS[command, how]
    for name in "ab":
        write_bank(base / f"{name}.zarr", provenance={"checkpoint": name})
    finish(lambda: fit(base / "a.zarr", "ncm").save(base / "ncm.head"))
    set_up(base / "template", kind, base)
    shutil.copytree(base / "template", base / "warm", symlinks=True)
    finish(lambda: run(base / "warm", kind.new))
    shutil.copytree(base / "template", base / "whole", symlinks=True)
    seconds, count = counted_run(base / "whole", kind.new)
    new = tree(base / "whole" / "out")
    states: dict[str, int] = {}
    for number in range(int(trials)):
        place = base / f"trial{number}"
        shutil.copytree(base / "template", place, symlinks=True)
        share = float(dice.uniform(0, 1))
        kill = {"operation": share * count} if number % 2 else {"seconds": share * seconds}
        state = trial(place, kind, kill, new)
        states[state] = states.get(state, 0) + 1
        if state.isupper() or "THEN" in state or state in ("LOST", "NEITHER", "BROKEN"):
            continue  # left for whoever looks into it
        shutil.rmtree(place)
    print(json.dumps({"states": states, "seconds": round(seconds, 3), "operations": count}))


if __name__ == "__main__":
    main(*sys.argv[1:])
