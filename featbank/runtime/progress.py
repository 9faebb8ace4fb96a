"""How long work tells its caller where it stands; the library itself never prints."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from featbank.errors import FeatbankWarning

__all__ = ["SILENT", "Advance", "Reporter"]


class Advance(Protocol):
    """Counts work that is done; `note` are its newest numbers, as ``loss 2.31, lr 0.1``."""

    def __call__(self, count: int, note: str = "") -> None:
        """Add `count` to what is done."""


class Reporter(Protocol):
    """What `train`, `extract` and `import` need of whoever watches them."""

    def say(self, line: str) -> None:
        """Show one finished line."""

    def warn(self, line: str) -> None:
        """Show a line about the data that must not be missed, also where progress is not shown."""

    def track(self, label: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Count work: ``with reporter.track("train", 800, "images") as advance: advance(32)``."""


class _Silent:
    def say(self, line: str) -> None:
        pass

    def warn(self, line: str) -> None:
        warnings.warn(line, FeatbankWarning, stacklevel=3)

    @contextmanager
    def track(self, label: str, total: int, unit: str) -> Iterator[Advance]:
        def advance(count: int, note: str = "") -> None:
            pass

        yield advance


SILENT: Reporter = _Silent()
