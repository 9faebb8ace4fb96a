"""Build the page of a folder of results, and its figures."""

from __future__ import annotations

from pathlib import Path

from featbank.errors import OutputExistsError
from featbank.files.atomic import refuse_odd_file, replace_text, storage_errors
from featbank.files.placing import held
from featbank.files.replacing import refuse_odd_folder
from featbank.report.data import collect
from featbank.report.folder import Results
from featbank.report.page import render
from featbank.results.comparison import Comparison
from featbank.results.owned import PAGE, is_page
from featbank.results.saved import believed
from featbank.runtime.progress import SILENT, Reporter

__all__ = ["build_report", "draw_figures", "page_of", "refuse_figures", "refuse_other_page"]


def build_report(
    folder: Path,
    *,
    figures: Path | None = None,
    tsne: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Write `report.html` into a folder of results; return its path. Nothing is fitted.

    The folder is locked meanwhile. The page and the figures are made before either is written.

    Parameters
    ----------
    folder : Path
        What `featbank.compare` wrote.
    figures : Path, optional
        Folder that gets the figures for a paper too.
    tsne : bool
        Read the sampled rows of every bank again, and embed those that are not embedded yet.
    reporter : Reporter
        Is told of the embedding, which takes long.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DamagedError
        The folder does not hold what a comparison writes.
    LockedError
        Another process is writing there.
    OutputExistsError
        What has the name of the page or of a figure was not made by featbank.
    StorageError
        The disk is full, read-only or failing.
    """
    Comparison.load(folder)  # says what is wrong with a folder that holds none
    with held(folder), storage_errors(folder), believed(folder):
        return _build(folder, figures, tsne, reporter)


def _build(folder: Path, figures: Path | None, tsne: bool, reporter: Reporter) -> Path:
    """Write the page, and the figures where a folder for them is given."""
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


def refuse_figures(folder: Path) -> None:
    """Refuse, before any work, figures that could not be drawn into a folder at its end.

    Raises
    ------
    InputError
        matplotlib is not installed.
    OutputExistsError
        The folder's name belongs to something that is no folder.
    """
    from featbank.report.figures import load_matplotlib

    load_matplotlib()
    refuse_odd_folder(folder, "--figures")


def draw_figures(results: Path, folder: Path) -> list[Path]:
    """Draw the figures of a comparison's folder `results` into a folder; return their paths."""
    from featbank.report.figures import write_figures

    with storage_errors(folder):
        return write_figures(collect(results), folder)
