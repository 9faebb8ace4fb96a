"""Build the page of a folder of results."""

from __future__ import annotations

from pathlib import Path

from cli._report.data import collect
from cli._report.folder import Results
from cli._report.page import render
from featbank.atomic import replace_text
from featbank.progress import SILENT, Reporter

__all__ = ["build_report"]


def build_report(
    folder: Path,
    *,
    figures: Path | None = None,
    tsne: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Write `report.html` into a folder of results; return its path. Nothing is fitted.

    Parameters
    ----------
    figures
        Folder that gets the figures for a paper too.
    tsne
        Read the sampled rows of every bank again, and embed those that are not embedded yet.
    """
    results = Results(folder)
    if tsne:
        from cli._report.tsne import add_tsne

        add_tsne(results, reporter)
    data = collect(results)
    page = folder / "report.html"
    replace_text(page, render(data))
    if figures is not None:
        from cli._report.figures import write_figures  # matplotlib is heavy, and may be missing

        write_figures(data, figures)
    return page
