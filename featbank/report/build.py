"""Build the page of a folder of results."""

from __future__ import annotations

from pathlib import Path

from featbank.errors import OutputExistsError
from featbank.files.atomic import refuse_odd_file, replace_text
from featbank.report.data import collect
from featbank.report.folder import Results
from featbank.report.page import render
from featbank.results.owned import PAGE, is_page
from featbank.runtime.progress import SILENT, Reporter

__all__ = ["build_report", "page_of", "refuse_other_page"]


def build_report(
    folder: Path,
    *,
    figures: Path | None = None,
    tsne: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Write `report.html` into a folder of results; return its path. Nothing is fitted.

    The page and the figures are made before either is written.

    Parameters
    ----------
    figures
        Folder that gets the figures for a paper too.
    tsne
        Read the sampled rows of every bank again, and embed those that are not embedded yet.

    Raises
    ------
    OutputExistsError
        What has the name of the page or of a figure was not made by featbank.
    """
    page = folder / PAGE
    refuse_other_page(page)
    if tsne:
        from featbank.report.tsne import add_tsne

        add_tsne(Results(folder), reporter)
    data = collect(folder)
    text = render(data)
    if figures is not None:
        from featbank.report.figures import write_figures  # matplotlib is heavy, and may be missing

        write_figures(data, figures)
    replace_text(page, text)
    return page


def page_of(folder: Path) -> str:
    """Return the page of a folder of results."""
    return render(collect(folder))


def refuse_other_page(page: Path) -> None:
    """Refuse to replace a page that featbank did not write."""
    refuse_odd_file(page)
    if page.exists() and not is_page(page):
        message = f"{page} was not written by featbank and is not replaced; rename it"
        raise OutputExistsError(message)
