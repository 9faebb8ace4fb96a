"""SIGINT and SIGTERM, noted when they come and passed on when work can be left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

__all__ = ["SIGNALS", "Interruption", "WaitInterrupted"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# After a signal the processes of a job leave together, when all have ended their step. A process
# that waits for its images longer than this many seconds leaves alone.
PATIENCE = 10


class WaitInterrupted(BaseException):
    """A signal came while something was waited for: there is no step to finish first."""


class Interruption:
    """While entered, the first SIGINT or SIGTERM only sets `came`; a second one acts at once.

    Whoever polls `came`, or waits for something within `waiting`, saves and calls `pass_on`, which
    lets the signal do what it would have done: raise KeyboardInterrupt, run the program's own
    handler, or end the process. One that nobody polled any more is passed on when the block is
    left. Off the main thread, where Python allows no handlers, this does nothing.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._before: dict[int, Any] = {}
        self._waiting = self._patient = False

    def __enter__(self) -> Interruption:
        """Put the handlers in place of those that are there; an ignored signal stays ignored."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """Put the former handlers back."""
        self._restore()
        if kind is None and self.came is not None:
            signal.raise_signal(self.came)

    @contextmanager
    def waiting(self, *, patient: bool = False) -> Iterator[None]:
        """Within the block something is waited for, which may never come.

        A signal then raises `WaitInterrupted` at once; or, where the caller is `patient` since
        others count on it, after `PATIENCE` seconds, and as the signal itself.
        """
        self._waiting, self._patient = True, patient
        try:
            if self.came is not None:
                self._stop_waiting()
            yield
        finally:
            self._waiting = False
            if patient and self.came is not None:
                signal.alarm(0)

    def _stop_waiting(self) -> None:
        if not self._patient:
            self._waiting = False
            raise WaitInterrupted
        if self._before:
            self._before.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self._note))
            signal.alarm(PATIENCE)

    def pass_on(self) -> None:
        """Let the signal that came act."""
        self._restore()
        number, self.came = self.came, None
        if number is not None:
            signal.raise_signal(number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.came is not None:
            self._restore()
            signal.raise_signal(self.came if number == signal.SIGALRM else number)
        self.came = number
        if self._waiting:
            self._stop_waiting()

    def _restore(self) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)
