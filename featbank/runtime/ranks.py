"""The processes of one job, as `torchrun` starts them: who they are, what they tell each other.

They talk through torch's key-value store, which ``torchrun`` (or the first process) serves, so that
nothing here waits inside a collective operation: whoever waits looks, every tenth of a second,
whether a process of the job has been lost.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

from featbank.errors import LostRankError

__all__ = ["Ranks"]

# Times in seconds. BEAT lies between two signs of life of a process; after SILENCE without one it
# counts as lost; the others then have GRACE to leave by themselves; and all processes of a job must
# have started within START.
BEAT, SILENCE, GRACE, START = 2.0, 30.0, 10.0, 300.0
_POLL = 0.1
_ENDED = b"ended"

T = TypeVar("T")
_jobs = count()


class Ranks:
    """The processes of one job; a context manager in which each watches that the others live.

    Every process must make the same calls in the same order. Alone, nothing is started and every
    call returns at once.

    Parameters
    ----------
    rank, size, local
        This process's number, how many there are, and its number on this machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, local: int | None = None) -> None:
        self.rank, self.size, self.local = rank, size, local
        self.store: Any = _store() if size > 1 else None
        self.job, self.calls, self.lost = next(_jobs), count(), ""
        self.left = threading.Event()

    @classmethod
    def join(cls) -> Ranks:
        """Return the job that the environment (``torchrun``'s variables) names, or one alone."""
        names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        if not all(name in os.environ for name in names):
            return cls()
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), local)

    @property
    def first(self) -> bool:
        """Whether this is the first process, which speaks for all and writes the job's files."""
        return self.rank == 0

    def share(self, value: Any) -> Any:
        """Return the first process's `value`, JSON types, in every process."""
        name = f"share/{next(self.calls)}"
        if self.size == 1:
            return value
        if self.first:
            self.tell(name, value)
        return self.hear(name)

    def gather(self, value: T) -> list[T]:
        """Return every process's `value`, JSON types, by rank; nobody returns before all came."""
        name = f"gather/{next(self.calls)}"
        if self.size == 1:
            return [value]
        self.tell(f"{name}/{self.rank}", value)
        return [self.hear(f"{name}/{rank}") for rank in range(self.size)]

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """Return this process's part of some items: each belongs to exactly one process."""
        return items[self.rank :: self.size]

    def tell(self, name: str, value: Any) -> None:
        """Put a value where every process can hear it."""
        try:
            self.store.set(self.key(name), json.dumps(value))
        except RuntimeError as error:
            raise LostRankError(_gone(error)) from error

    def hear(self, name: str) -> Any:
        """Wait for a value; raise `LostRankError` if a process is lost meanwhile."""
        key = self.key(name)
        try:
            while not self.store.check([key]):
                self.check()
                time.sleep(_POLL)
            return json.loads(self.store.get(key))
        except RuntimeError as error:
            raise LostRankError(self.lost or _gone(error)) from error

    def check(self) -> None:
        """Raise `LostRankError` if a process of the job has been lost."""
        if self.lost:
            raise LostRankError(self.lost)

    def key(self, name: str) -> str:
        """Return a name in the store that no other job of these processes uses."""
        return f"featbank/{self.job}/{name}"

    def store_of(self, name: str) -> Any:
        """Return the store, on a connection of its own, for names below `name`."""
        from torch.distributed.distributed_c10d import PrefixStore

        return PrefixStore(self.key(name), self.store.clone())

    def __enter__(self) -> Self:
        if self.size > 1:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """Leave; the first process, which may serve the store, last."""
        self.left.set()
        if self.size == 1:
            return
        try:
            self.store.set(self.key(f"beat/{self.rank}"), _ENDED if kind else b"left")
            if kind is None and self.first:
                self._see_off()
        except RuntimeError:
            pass  # the other processes have left already, and have been told why

    def _see_off(self) -> None:
        until = time.monotonic() + SILENCE
        keys = [self.key(f"beat/{rank}") for rank in range(1, self.size)]
        while time.monotonic() < until and any(self.store.get(key) != b"left" for key in keys):
            time.sleep(_POLL)

    def _watch(self) -> None:
        """Show a sign of life, look for everybody else's, and see that a lost job ends."""
        seen: dict[int, tuple[bytes, float]] = {}
        began = time.monotonic()
        for number in count():
            try:
                self.store.set(self.key(f"beat/{self.rank}"), str(number))
                self.lost = self._look(seen, began)
            except RuntimeError as error:
                self.lost = _gone(error)
            if self.left.wait(GRACE if self.lost else BEAT):
                return
            if self.lost:  # the process hangs inside a collective operation
                sys.stderr.write(f"Error: {self.lost}\n")
                sys.stderr.flush()
                os._exit(LostRankError.exit_code)

    def _look(self, seen: dict[int, tuple[bytes, float]], began: float) -> str:
        """Return what to say of the first process that is lost; an empty string where none is."""
        now = time.monotonic()
        for rank in range(self.size):
            key = self.key(f"beat/{rank}")
            beat = self.store.get(key) if self.store.check([key]) else b""
            if rank not in seen or seen[rank][0] != beat:
                seen[rank] = (beat, now)
            silent = now - (seen[rank][1] if beat else began)
            if beat == _ENDED:
                return _said(rank, self.size, "ended with an error")
            if beat != b"left" and silent > (SILENCE if beat else START):
                return _said(rank, self.size, f"has shown no sign of life for {silent:.0f} s")
        return ""


def _said(rank: int, size: int, what: str) -> str:
    again = "nothing unfinished counts as complete; run the same command again to go on"
    return f"process {rank} of {size} {what}: {again}"


def _gone(error: Exception) -> str:
    reason = " ".join(str(error).split())[:80]
    return (
        f"the process that the others meet at is gone ({reason}); nothing unfinished counts as "
        "complete; run the same command again to go on"
    )


@lru_cache(maxsize=1)
def _store() -> Any:
    """Return the job's key-value store; one for the life of the process."""
    from torch.distributed.rendezvous import rendezvous

    try:
        store, _, _ = next(iter(rendezvous("env://", timeout=timedelta(seconds=START))))
        store.set_timeout(timedelta(seconds=SILENCE))
    except RuntimeError as error:
        raise LostRankError(_gone(error)) from error
    return store
