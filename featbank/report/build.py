"""Build the page of a folder of results, and its figures."""

from __future__ import annotations

from pathlib import Path

from featbank.errors import OutputExistsError
from featbank.files.atomic import refuse_odd_file, replace_text, storage_errors
from featbank.files.placing import held
from featbank.files.replacing import refuse_odd_folder
from featbank.report.data import collect
from featbank.report.folder import Results
from featbank.report.gallery import Gallery, make_gallery
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
    thumbnails: bool = False,
    images: str | Path | None = None,
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
    thumbnails : bool
        Show the most confident mistakes of every head, with pictures where the images are found,
        of 2 MB at most together. Every bank must be there as it was compared.
    images : str or Path, optional
        Where the images are, with `thumbnails`: the folder in which the banks' ids are paths, or a
        data set as ``--data`` names it.
    reporter : Reporter
        Is told of the embedding and the thumbnails, which take long.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DamagedError
        The folder does not hold what a comparison writes.
    InputError
        `images` names neither a folder nor a data set.
    StaleError
        A bank that has to be read is no longer the one that was compared.
    LockedError
        Another process is writing there.
    OutputExistsError
        What has the name of the page or of a figure was not made by featbank.
    StorageError
        The disk is full, read-only or failing.
    """
    Comparison.load(folder)  # says what is wrong with a folder that holds none
    with held(folder), storage_errors(folder), believed(folder):
        refuse_other_page(folder / PAGE)
        if tsne:
            from featbank.report.tsne import add_tsne

            add_tsne(Results(folder), reporter)
        gallery = None
        if thumbnails:
            where = None if images is None else str(images)
            gallery = make_gallery(Results(folder), where, reporter)
        return _write(folder, figures, gallery)


def _write(folder: Path, figures: Path | None, gallery: Gallery | None) -> Path:
    """Write the page, and the figures where a folder for them is given."""
    page, data = folder / PAGE, collect(folder, gallery)
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
