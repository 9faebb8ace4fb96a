"""How long work tells its caller where it stands; the library itself never prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["SILENT", "Reporter"]


class Reporter(Protocol):
    """What `train`, `extract` and `import` need of whoever watches them."""

    def say(self, line: str) -> None:
        """Show one finished line."""

    def track(
        self, label: str, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Count work: ``with reporter.track("train", 800, "images") as advance: advance(32)``."""


class _Silent:
    def say(self, line: str) -> None:
        pass

    @contextmanager
    def track(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        yield lambda _count: None


SILENT: Reporter = _Silent()
