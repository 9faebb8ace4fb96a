"""Commands that are loaded on demand, and errors that become one line and an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import click

from cli._streams import (
    complain,
    failing_output,
    show_refusal,
    warnings_in_lines,
    whole_streams,
)
from heads.names import did_you_mean

__all__ = ["LazyGroup"]

INTERRUPTED, TERMINATED = 130, 143

# What a message says on how to go on after an interruption, of commands that can.
AGAIN = {
    "train": "; add --resume to the same command to go on",
    "extract": "; run the same command again to go on",
    "import": "; run the same command again to go on",
}


class Terminated(BaseException):
    """Raised on SIGTERM, so that it passes through the same clean-up as Ctrl-C."""


class LazyGroup(click.Group):
    """A group that knows its commands from a table and imports one only to run it."""

    def __init__(
        self, *args: Any, commands_table: dict[str, tuple[str, str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.table = commands_table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table, in which a first job needs them."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in self.table:
            return None
        command: click.Command = importlib.import_module(self.table[cmd_name][0]).command
        command.name = cmd_name
        if not any(param.name == "debug" for param in command.params):
            command.params.append(debug_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, suggesting the nearest names where there is none."""
        if args and args[0] not in self.table and not args[0].startswith("-"):
            near = did_you_mean(args[0], self.table)
            hint = f"; {near}" if near else ""
            ctx.fail(f"no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and exit; every error message is escaped before it is shown."""
        run: Callable[..., Any] = super().main
        if not kwargs.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **kwargs)
        whole_streams()
        try:
            code = run(*args, standalone_mode=False, **kwargs)
        except click.ClickException as error:
            show_refusal(error)
            code = error.exit_code
        except click.Abort:
            complain("Aborted!")
            code = 1
        failed = failing_output()
        if failed is not None and not isinstance(failed, BrokenPipeError):
            complain(f"Error: standard output: {failed.strerror}")
            code = code or 3
        sys.exit(code or 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; every error becomes one line on standard error and an exit code."""
        signal.signal(signal.SIGTERM, terminate)
        ctx.obj = {"debug": False}
        try:
            with warnings_in_lines():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            sys.stderr.close()  # the reader has closed the pipe, as `| head` does
            raise click.exceptions.Exit(0) from None
        except (KeyboardInterrupt, Terminated) as error:
            ended = "terminated" if isinstance(error, Terminated) else "interrupted"
            again = AGAIN.get(str(ctx.invoked_subcommand), "")
            code = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
            leave(code, f"{ended}: nothing unfinished counts as complete{again}")
        except Exception as error:  # noqa: BLE001 - the one place where errors become lines
            if ctx.obj["debug"]:
                traceback.print_exc()
            leave(exit_code(error), describe(error))


def debug_option() -> click.Option:
    """Return the option that every command has."""

    def remember(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if ctx.find_root().obj is not None:
            ctx.find_root().obj["debug"] = value

    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=remember,
        help="Show the traceback of an error, not only its line.",
    )  # fmt: skip


def exit_code(error: Exception) -> int:
    """Return the exit code that the error's class states; 1 means a bug of ours."""
    # UnicodeError and RecursionError come from names and nested values in a user's files.
    refused = isinstance(error, (OSError, UnicodeError, RecursionError)) or is_out_of_memory(error)
    return int(getattr(error, "exit_code", 3 if refused else 1))


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether numpy or torch, on whatever device, found too little memory."""
    by_name = type(error).__name__ == "OutOfMemoryError"
    return isinstance(error, MemoryError) or by_name or "can't allocate memory" in str(error)


def describe(error: Exception) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        return f"too little memory for what was asked; ask for less of it at once. {text}"
    if exit_code(error) == 1:
        return f"internal error, please report it with --debug: {type(error).__name__}: {text}"
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    return text


def leave(code: int, line: str) -> NoReturn:
    """Say one line on standard error and exit."""
    rank = os.environ.get("RANK", "0")
    who = "" if rank == "0" else f"process {rank}: "
    if not (
        who and code in (INTERRUPTED, TERMINATED)
    ):  # the first process of a job says it for all
        complain(f"Error: {who}{line}")
    raise click.exceptions.Exit(code)


def terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Leave on SIGTERM through the same clean-up as any exit."""
    raise Terminated
