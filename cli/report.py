"""featbank report."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._show import write_json

__all__ = ["command"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@options.figures
@options.json_to
def command(folder: Path, figures: Path | None, json_to: Path | None) -> None:
    """Build the page of saved results anew; nothing is fitted.

    FOLDER is what featbank compare wrote to --out. The page, report.html in it, is one file that
    loads nothing and can be sent to anyone.
    """
    from cli._report import build_report

    page = build_report(folder, figures=figures)
    facts = {"schema": 1, "page": str(page), "bytes": page.stat().st_size}
    if not write_json(json_to, facts):
        click.echo(f"{page}: {page.stat().st_size / 1e6:.2f} MB")
