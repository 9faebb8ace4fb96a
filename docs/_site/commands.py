"""The command reference, generated from the commands themselves whenever the site is built."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import click
from mkdocs.structure.files import File

from cli.main import main

FOLDER = "reference/commands"


def on_config(config: Any) -> Any:
    """Put one entry for each command where the navigation names the folder."""
    pages = [f"{FOLDER}/{name}.md" for name in ("index", *main.table)]  # type: ignore[attr-defined]
    config.nav = filled(config.nav, pages)
    return config


def filled(entry: Any, pages: list[str]) -> Any:
    """Return a part of the navigation with the folder's name replaced by its pages."""
    if isinstance(entry, list):
        return [filled(each, pages) for each in entry]
    if isinstance(entry, dict):
        return {title: filled(each, pages) for title, each in entry.items()}
    return pages if entry == f"{FOLDER}/" else entry


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    for name, text in command_pages().items():
        files.append(File.generated(config, f"{FOLDER}/{name}.md", content=text))
    return files


def command_pages() -> dict[str, str]:
    """Return the page of every command, and an index of them."""
    root = click.Context(main, info_name="featbank")
    table: dict[str, tuple[str, str]] = main.table  # type: ignore[attr-defined]
    rows = [f"| [`featbank {name}`]({name}.md) | {line} |" for name, (_, line) in table.items()]
    listed = "\n".join(["| command | does |", "|---|---|", *rows])
    parts = ["# Commands", paragraphs(main.help or ""), listed, "Every command has `--help`."]
    pages = {"index": "\n\n".join(parts) + "\n"}
    for name in table:
        command = main.get_command(root, name)
        if command is not None:
            pages[name] = command_page(name, command, root)
    return pages


def command_page(name: str, command: click.Command, root: click.Context) -> str:
    """Return one command's page: its use, what it does, its arguments and options."""
    ctx = click.Context(command, parent=root, info_name=name)
    use = " ".join([f"featbank {name}", *command.collect_usage_pieces(ctx)])
    parts = [f"# featbank {name}", f"```text\n{use}\n```", paragraphs(command.help or "")]
    rows = [option_row(param, ctx) for param in command.params if isinstance(param, click.Option)]
    parts += ["## Options", "\n".join(["| option | meaning |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def paragraphs(text: str) -> str:
    """Return help as Markdown: what click sets as it stands becomes a block of code."""
    shown = []
    for part in cleandoc(text).split("\n\n"):
        verbatim = part.startswith("\b\n")
        body = part.removeprefix("\b\n")
        shown.append(f"```text\n{body}\n```" if verbatim else escaped(body))
    return "\n\n".join(shown)


def option_row(option: click.Option, ctx: click.Context) -> str:
    """Return an option as a row of a table, in the words of `--help`."""
    record = option.get_help_record(ctx)
    names, meaning = record if record else (", ".join(option.opts), option.help or "")
    return f"| <code>{escaped(names)}</code> | {escaped(meaning)} |"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return text.translate({ord(mark): f"&#{ord(mark)};" for mark in "&\\`*_[]|<>#$"})
