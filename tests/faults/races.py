"""Two writers of one bank, at once: ``python -m tests.faults.races FOLDER RACES HOW`` prints JSON.

HOW is ``fresh``, or ``overwrite``: both replace an unfinished bank, which has a note in its folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from featbank import LockedError, OutputExistsError
from featbank.store import schema
from tests.faults import world

LOCKED, EXISTS = 7, 8


def contend(path: Path, gate: int, overwrite: bool) -> int:
    """Wait for the gate, then write the bank; return how that went."""
    os.read(gate, 1)
    try:
        world.write(path, overwrite=overwrite)
    except LockedError:
        return LOCKED
    except OutputExistsError:
        return EXISTS
    return 0


def race(path: Path, overwrite: bool, writers: int = 2) -> list[int]:
    gate, handle = os.pipe()
    children = []
    for _ in range(writers):
        child = os.fork()
        if not child:
            os.close(handle)
            code = 99
            try:
                code = contend(path, gate, overwrite)
            finally:
                os._exit(code)
        children.append(child)
    time.sleep(0.01)
    os.close(handle)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.close(gate)
    return codes


def main(folder: str, races: str, how: str) -> None:
    torch.set_num_threads(1)
    schema.CHUNK_BYTES = world.STEP * world.DIM * 4
    base = Path(folder)
    world.write(base / "whole")
    want = world.contents(base / "whole")
    one_winner = same = locked = 0
    for number in range(int(races)):
        bank = base / f"race{number}" / "bank"
        if how == "overwrite":
            world.write(bank, 1)
            (bank / "note").write_text("mine")
        codes = race(bank, how == "overwrite")
        one_winner += codes.count(0) == 1 and set(codes) <= {0, LOCKED, EXISTS}
        locked += codes.count(LOCKED)
        found = world.contents(bank)
        note = found.pop("note", b"") == b"mine" or how == "fresh"
        same += found == want and note and os.listdir(bank.parent) == ["bank"]
    print(json.dumps({"one_winner": one_winner, "same": same, "locked": locked}))


if __name__ == "__main__":
    main(*sys.argv[1:])
