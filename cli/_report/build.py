"""Build the page of a folder of results."""

from __future__ import annotations

from pathlib import Path

from cli._report.data import collect
from cli._report.folder import Results
from cli._report.page import render
from featbank.atomic import replace_text

__all__ = ["build_report"]


def build_report(folder: Path, *, figures: Path | None = None) -> Path:
    """Write `report.html` into a folder of results; return its path. Nothing is fitted.

    Parameters
    ----------
    figures
        Folder that gets the figures for a paper too.
    """
    data = collect(Results(folder))
    page = folder / "report.html"
    replace_text(page, render(data))
    if figures is not None:
        from cli._report.figures import write_figures  # matplotlib is heavy, and may be missing

        write_figures(data, figures)
    return page
