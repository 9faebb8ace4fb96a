"""Standard input, output and error, which may be closed, full, or of a limited encoding."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from typing import Any

import click

from cli._show import plain_lines

__all__ = ["complain", "failing_output", "show_refusal", "warnings_in_lines", "whole_streams"]


def whole_streams() -> None:
    """Open closed streams onto the null device, and write what an encoding lacks as escapes.

    Some schedulers start programs with standard streams closed. The next file that is opened would
    get the number of one, and whatever is then printed would be written into that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def failing_output() -> OSError | None:
    """Return the error of standard output, if it failed, and let the null device replace it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
        return error
    return None


def complain(line: str) -> None:
    """Print one line on standard error; a standard error that cannot be written to is ignored."""
    with suppress(OSError):
        click.echo(plain_lines(line), err=True)


def show_refusal(error: click.ClickException) -> None:
    """Show a usage error of click's, escaped: it may quote a name that came from a file."""
    shown = StringIO()
    error.show(file=shown)
    complain(shown.getvalue().rstrip("\n"))


@contextmanager
def warnings_in_lines() -> Iterator[None]:
    """Show Python's warnings as one line each."""

    def show(message: Any, *_about: Any, **_more: Any) -> None:
        complain(f"warning: {' '.join(str(message).split())}")

    before = warnings.showwarning
    if before is _PYTHONS_OWN:  # a test that records warnings has put its own there
        warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


_PYTHONS_OWN = warnings.showwarning
