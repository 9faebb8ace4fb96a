"""An extraction by several processes, one of which is killed at a random moment; then continued.

Another number of processes goes on. One process imports everything once and forks the others.
``python -m tests.faults.lost_ranks FOLDER TRIALS SEED`` prints JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from featbank import Bank, IncompleteBankError, NotABankError
from featbank.errors import LostRankError
from featbank.extraction import runner as extraction
from featbank.extraction.extract import extract
from featbank.runtime import ranks
from featbank.store.schema import MANIFEST
from tests.faults.kills import contents, fork, orphaned, prepare_extract

LOST = 7


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def one(run: Path, out: Path, rank: int, size: int, port: int, seconds: float) -> None:
    """Be one process of the job; `seconds` are what a batch takes."""
    found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in found.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    features = extraction.Extraction.features

    def slowly(*arguments: object) -> object:
        time.sleep(seconds)
        return features(*arguments)  # type: ignore[arg-type]

    extraction.Extraction.features = slowly  # type: ignore[assignment, method-assign]
    try:
        extract(run, out, which="last", device="cpu", batch_size=4)
    except LostRankError as error:
        Path(f"{out}.said").write_text(str(error))
        os._exit(LOST)


def start(run: Path, out: Path, size: int, seconds: float = 0.0) -> list[int]:
    port = free_port()
    return [fork(lambda r=rank: one(run, out, r, size, port, seconds)) for rank in range(size)]


def ends(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def trial(
    run: Path, out: Path, dice: np.random.Generator, want: dict[str, bytes]
) -> tuple[str, float]:
    """Kill one of two or three, see how the others end, go on with another number of them."""
    size, again = (int(number) for number in dice.choice([2, 3], 2, replace=False))
    again = int(dice.choice([1, again]))
    children = start(run, out, size, seconds=0.05)
    time.sleep(float(dice.uniform(0.1, 1.2)))
    victim = int(dice.integers(size))
    os.kill(children[victim], signal.SIGKILL)
    began = time.monotonic()
    codes = ends(children)
    seconds = time.monotonic() - began
    if codes[victim] == -signal.SIGKILL:
        others = codes[:victim] + codes[victim + 1 :]
        state = "the first killed" if victim == 0 else "another killed"
        if (out / MANIFEST).exists():
            state += ", all was done"
        elif out.exists() and any(out.iterdir()):
            state += ", mid-run" if set(others) == {LOST} else f", others ended {others}"
            try:
                Bank.open(out)
                state += ", half a bank opened"
            except (IncompleteBankError, NotABankError):
                pass
    else:
        state = "all was done"
    codes = ends(start(run, out, again))
    if codes != [0] * again:
        state += f", going on failed {codes}"
    if contents(out) != want:
        shutil.copytree(out, out.with_name(f"{out.name}-differs"))
        state += ", differs"
    shutil.rmtree(out)
    return state, seconds


def main(folder: str, trials: str, seed: str) -> None:
    torch.set_num_threads(1)
    ranks.BEAT, ranks.SILENCE, ranks.GRACE, ranks.START = 0.2, 3.0, 2.0, 6.0
    base, dice = Path(folder), np.random.default_rng(int(seed))
    prepare_extract(base, 0)
    assert ends(
        [
            fork(
                lambda: extract(
                    base / "run", base / "whole", which="last", device="cpu", batch_size=4
                )
            )
        ]
    ) == [0]
    want = contents(base / "whole")
    assert ends(start(base / "run", base / "two", 2)) == [0, 0]
    same = contents(base / "two") == want
    states: Counter[str] = Counter()
    longest = 0.0
    for number in range(int(trials)):
        state, seconds = trial(base / "run", base / f"bank{number}", dice, want)
        states[state] += 1
        longest = max(longest, seconds)
    said = [file.read_text() for file in sorted(base.glob("*.said"))]
    print(
        json.dumps(
            {
                "same": same,
                "states": states,
                "longest": longest,
                "said": said,
                "orphans": orphaned(),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
