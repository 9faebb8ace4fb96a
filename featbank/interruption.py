"""SIGINT and SIGTERM, noted when they come and passed on when work can be left."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interruption"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While entered, the first SIGINT or SIGTERM only sets `came`; a second one acts at once.

    Whoever polls `came` saves, and calls `pass_on`, which lets the signal do what it would have
    done: raise KeyboardInterrupt, run the program's own handler, or end the process. One that
    nobody polled any more is passed on when the block is left. Off the main thread, where Python
    allows no handlers, this does nothing.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._before: dict[int, Any] = {}

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

    def pass_on(self) -> None:
        """Let the signal that came act."""
        self._restore()
        number, self.came = self.came, None
        if number is not None:
            signal.raise_signal(number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.came is not None:
            self._restore()
            signal.raise_signal(number)
        self.came = number

    def _restore(self) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)
