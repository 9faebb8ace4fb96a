"""Progress on standard error: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli._streams import complain
from featbank.runtime.names import printable

if TYPE_CHECKING:
    from featbank.runtime.progress import Advance, Reporter

__all__ = ["first_of_job", "reporter"]

# Off a terminal, a log line at most this often, in seconds.
LINE_EVERY = 10.0


def first_of_job() -> bool:
    """Tell whether this process prints: it is the only one, or the first under torchrun."""
    return os.environ.get("RANK", "0") == "0"


def reporter(*, quiet: bool) -> Reporter:
    """Return the reporter that suits standard error; only the first process of a job prints."""
    if not first_of_job():
        return MuteReporter()
    if quiet:
        return QuietReporter()
    return BarReporter() if sys.stderr.isatty() else LineReporter()


class MuteReporter:
    """Shows nothing at all, because another process of the job does."""

    def say(self, line: str) -> None:
        """Show nothing."""

    def warn(self, line: str) -> None:
        """Show nothing."""

    @contextmanager
    def track(self, label: str, total: int, unit: str) -> Iterator[Advance]:
        """Show nothing."""

        def advance(count: int, note: str = "") -> None:
            pass

        yield advance


class QuietReporter(MuteReporter):
    """Shows warnings, and no progress."""

    def warn(self, line: str) -> None:
        """Show a warning."""
        complain(f"warning: {line}")


class BarReporter(QuietReporter):
    """Shows a bar with rate and time left, for terminals."""

    def say(self, line: str) -> None:
        """Show a finished line."""
        complain(line)

    @contextmanager
    def track(self, label: str, total: int, unit: str) -> Iterator[Advance]:
        """Show one piece of work."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{unit}, {task.speed or 0:.0f}/s")

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(printable(label), total=total, note="")

            def advance(count: int, note: str = "") -> None:
                shown = printable(note) or progress.tasks[task].fields["note"]
                progress.update(task, advance=count, note=shown)

            yield advance


class LineReporter(QuietReporter):
    """Shows finished lines, and a line of progress now and then, for logs."""

    def say(self, line: str) -> None:
        """Show a finished line."""
        complain(line)

    @contextmanager
    def track(self, label: str, total: int, unit: str) -> Iterator[Advance]:
        """Count one piece of work."""
        started = shown = time.monotonic()
        done = 0

        def advance(count: int, note: str = "") -> None:
            nonlocal done, shown
            done += count
            now = time.monotonic()
            if now - shown >= LINE_EVERY and done < total:
                shown = now
                rate = done / (now - started)
                left = (total - done) / rate
                line = f"{label}: {done}/{total} {unit}, {rate:.0f}/s, {left:.0f} s left"
                self.say(f"{line}, {note}" if note else line)

        yield advance
